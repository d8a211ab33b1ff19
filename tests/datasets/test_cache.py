"""Patches are stored as int8 with a scale per token; features of auscan 0.1.0 have float16 patches."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.datasets.cache import (
    HEADER_FILE,
    CacheHeader,
    TrackFeatures,
    TrackWriter,
    open_track,
    quantise,
    read_header,
    restore,
)

ROWS, GRID, WIDTH = 5, 3, 24
HEADER = CacheHeader(
    track="a", model="m", encoders="e", rows=ROWS, rows_digest="r", width=WIDTH, grid=GRID, audio_width=4
)


def random_patches(seed: int = 0) -> NDArray[np.float16]:
    """Patches [T, N, Dv] whose tokens differ in size by a factor of a thousand."""
    rng = np.random.default_rng(seed)
    sizes = np.logspace(-1, 2, ROWS * GRID**2).reshape(ROWS, GRID**2, 1)
    return (sizes * rng.standard_normal((ROWS, GRID**2, WIDTH))).astype(np.float16)


def write_track(cache: Path, patches: NDArray[np.float16]) -> TrackFeatures:
    """Write features of one track; row 2 has no picture."""
    writer = TrackWriter(cache, HEADER, np.arange(ROWS) / 30)
    for row in (0, 1, 3, 4):
        writer.write_row(row, patches[row, 0], patches[row])
    writer.finish(np.ones((7, 4), np.float16), 0.0, [])
    return open_track(cache, "a")


def as_written_by_0_1_0(cache: Path) -> None:
    """Give the track float16 patches and a header without their number format."""
    folder = cache / "a"
    np.save(folder / "patches.npy", open_track(cache, "a").read("patches").astype(np.float16))
    (folder / "scales.npy").unlink()
    header = json.loads((folder / HEADER_FILE).read_text())
    del header["patch_numbers"]
    (folder / HEADER_FILE).write_text(json.dumps(header))


def test_every_number_is_restored_to_half_a_step_of_its_own_token(tmp_path: Path) -> None:
    """With one scale for all tokens, the small ones would become zeros."""
    patches = random_patches()
    track = write_track(tmp_path, patches)
    restored = track.read("patches")
    assert (track.patches.dtype, restored.dtype) == (np.int8, np.float32)
    steps = np.abs(patches.astype(np.float32)).max(-1, keepdims=True) / 127
    exact = patches.astype(np.float32)
    exact[2], steps[2] = 0, 1
    assert (np.abs(restored - exact) <= 0.501 * steps).all()
    assert not restored[2].any(), "a row without a picture is zero"
    np.testing.assert_array_equal(track.read("patches", slice(3, 5)), restored[3:5])
    np.testing.assert_array_equal(track.read("patches", np.array([4, 0])), restored[[4, 0]])


def test_the_largest_number_of_a_token_is_kept_and_zeros_stay_zeros() -> None:
    limit = np.finfo(np.float16).max
    tokens = np.array([[limit, -limit, 1], [0, 0, 0], [1e-7, -1e-7, 0]], np.float16)
    numbers, scales = quantise(tokens)
    assert numbers.tolist() == [[127, -127, 0], [0, 0, 0], [127, -127, 0]]
    np.testing.assert_allclose(restore(numbers, scales)[:, :2], tokens[:, :2].astype(np.float32), rtol=1e-6)


def test_the_relative_error_of_random_tokens_is_below_one_percent() -> None:
    tokens = np.random.default_rng(0).standard_normal((500, 768)).astype(np.float16)
    error = np.linalg.norm(restore(*quantise(tokens)) - tokens, axis=1) / np.linalg.norm(tokens, axis=1)
    assert 0.005 < error.mean() < 0.009, "max / (127 sqrt(12)) with a largest number of 3.2"
    assert error.max() < 0.012


def test_float16_patches_of_version_0_1_0_are_read_and_not_extracted_again(tmp_path: Path) -> None:
    patches = random_patches()
    before = write_track(tmp_path, patches).read("patches")
    as_written_by_0_1_0(tmp_path)
    track = open_track(tmp_path, "a")
    assert (track.header.patch_numbers, track.patches.dtype) == ("float16", np.float16)
    restored = track.read("patches", slice(1, 4))
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, before[1:4], rtol=1e-3)
    header = read_header(tmp_path / "a")
    assert header is not None
    assert header.matches(HEADER)
    assert not header.matches(HEADER.model_copy(update={"grid": 4}))


@pytest.mark.parametrize("old", [False, True], ids=["int8", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_caught_on_reading_and_named(
    tmp_path: Path, value: float, old: bool
) -> None:
    write_track(tmp_path, random_patches())
    if old:
        as_written_by_0_1_0(tmp_path)
    file = tmp_path / "a" / ("patches.npy" if old else "scales.npy")
    values = np.load(file)
    values[3].flat[-1] = value
    np.save(file, values)
    track = open_track(tmp_path, "a")
    assert np.isfinite(track.read("patches", slice(0, 3))).all()
    with pytest.raises(InputError, match=rf"{file.name} holds NaN or infinite features of track a\. Delete"):
        track.read("patches", slice(3, 5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_patches_that_are_not_finite_are_not_rounded(tmp_path: Path, value: float) -> None:
    """Rounded to int8 they would be ordinary numbers."""
    patches = random_patches()
    patches[1, 4, 7] = value
    with pytest.raises(InputError, match="NaN or infinite features for track a in row 1"):
        write_track(tmp_path, patches)
