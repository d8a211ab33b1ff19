"""Attributions are stored as bytes and read back as numbers in 0..1."""

import json
from pathlib import Path

import fastparquet
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results import attributions as module
from auscan.results.attributions import (
    ATTRIBUTIONS_FILE,
    Attributions,
    AttributionsWriter,
    attributions_metadata,
    concatenate,
    read_attributions,
    to_bytes,
    to_nonzero_bytes,
)
from auscan.results.result import Result

METADATA = attributions_metadata("talk.mp4", "tiny", 32, AFFWILD2_AUS, "0.1.0")
PATCHES = 16


def attributions(face_id: int, frames: list[int]) -> Attributions:
    """Return random attributions of one face."""
    random = np.random.default_rng(face_id)
    count = len(frames)

    def random_bytes(*shape: int) -> np.ndarray:
        return random.integers(0, 256, (count, *shape), dtype=np.uint8)

    points = random.normal(100, 30, (count, 5, 2)).astype(np.float32)
    numbers = np.array(frames, np.int64), np.full(count, face_id, np.int64)
    return Attributions(
        32,
        AFFWILD2_AUS,
        *numbers,
        points,
        random_bytes(PATCHES),
        random_bytes(12, PATCHES),
        random_bytes(12),
        random_bytes(),
    )


def assert_same(a: Attributions, b: Attributions) -> None:
    assert a.side == b.side
    for ours, theirs in zip(a.arrays(), b.arrays(), strict=True):
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs)


def test_a_number_is_read_back_within_half_a_step() -> None:
    shares = np.random.default_rng(0).random(10_000, np.float32)
    assert_allclose(to_bytes(shares) / 255, shares, atol=0.5 / 255 + 1e-6)
    assert to_bytes(np.array([0.0, 1.0])).tolist() == [0, 255]


def test_a_nonzero_patch_weight_stays_nonzero() -> None:
    shares = np.array([0.0, 1e-9, 0.001, 0.5, 1.0], np.float32)
    stored = to_nonzero_bytes(shares)
    assert stored.dtype == np.uint8
    assert ((stored > 0) == (shares > 0)).all()
    assert_allclose(stored / 255, shares, atol=1 / 255)


def test_attributions_have_the_documented_shapes() -> None:
    one = attributions(0, [3, 4, 9])
    assert one.patches.shape == (3, PATCHES)
    assert one.attention.shape == (3, 12, PATCHES)
    assert one.gates.shape == (3, 12)
    assert one.audio_gate.shape == (3,)
    for values in (one.patches, one.attention, one.gates, one.audio_gate):
        assert values.dtype == np.float32
        assert ((values >= 0) & (values <= 1)).all()


def test_only_the_requested_frames_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From several row groups, some without these frames."""
    monkeypatch.setattr(module, "ROW_GROUP_SIZE", 8)
    path = tmp_path / ATTRIBUTIONS_FILE
    faces = [attributions(face_id, list(range(40))) for face_id in (0, 1)]
    with AttributionsWriter(path, METADATA) as writer:
        for face in faces:
            writer.write(face)
    frames = {3, 21, 22}
    wanted = [face.rows(np.isin(face.frames, list(frames))) for face in faces]
    assert_same(read_attributions(path, frames), concatenate(wanted, 32, AFFWILD2_AUS))
    assert len(read_attributions(path, {99})) == 0


def test_faces_are_written_track_by_track_and_read_sorted_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short tracks share a row group, and a long one is split into row groups."""
    monkeypatch.setattr(module, "ROW_GROUP_SIZE", 4)
    pieces = [
        attributions(1, [0]),
        attributions(2, [0, 1]),
        attributions(0, list(range(13))),
        attributions(3, [5]),
    ]
    path = tmp_path / "new" / ATTRIBUTIONS_FILE
    with AttributionsWriter(path, METADATA) as writer:
        for piece in pieces:
            writer.write(piece)
        assert not path.exists()
    whole = read_attributions(path)
    assert_same(whole, concatenate(pieces, 32, AFFWILD2_AUS))
    assert whole.frames.tolist() == sorted(whole.frames)
    assert whole.face_ids[:4].tolist() == [0, 1, 2, 0]
    assert_same(whole.rows(whole.face_ids == 0), pieces[2])
    with path.open("rb") as file:
        sizes = [group.num_rows for group in fastparquet.ParquetFile(file).row_groups]
    assert sizes == [7, 4, 4, 2]


def test_a_few_frames_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / ATTRIBUTIONS_FILE
    pieces = [attributions(0, list(range(20))), attributions(1, [7, 8])]
    with AttributionsWriter(path, METADATA) as writer:
        for piece in pieces:
            writer.write(piece)
    selected = read_attributions(path, range(8, 10))
    assert list(zip(selected.frames, selected.face_ids, strict=True)) == [(8, 0), (8, 1), (9, 0)]
    assert_array_equal(selected.gate_bytes[1], pieces[1].gate_bytes[1])
    assert len(read_attributions(path, range(50, 60))) == 0


def test_a_video_without_a_face_has_a_file_without_rows(tmp_path: Path) -> None:
    with AttributionsWriter(tmp_path / ATTRIBUTIONS_FILE, METADATA):
        pass
    nothing = read_attributions(tmp_path / ATTRIBUTIONS_FILE)
    assert (len(nothing), nothing.side) == (0, 32)
    assert nothing.attention.shape == (0, 12, 0)


def test_the_metadata_describes_the_columns(tmp_path: Path) -> None:
    with AttributionsWriter(tmp_path / ATTRIBUTIONS_FILE, METADATA) as writer:
        writer.write(attributions(0, [0]))
    with (tmp_path / ATTRIBUTIONS_FILE).open("rb") as file:
        stored = fastparquet.ParquetFile(file)
        metadata, table = json.loads(stored.key_value_metadata["auscan evidence"]), stored.to_pandas()
    assert list(metadata["units"]) == list(table)
    assert (metadata["source"], metadata["model"], metadata["crop_side"]) == ("talk.mp4", "tiny", 32)
    cell = table["attention"][0]
    stored_attention = np.frombuffer(cell, np.uint8).reshape(12, PATCHES)
    assert_array_equal(stored_attention, attributions(0, [0]).attention_bytes[0])


def test_a_failed_run_leaves_no_file(tmp_path: Path) -> None:
    def run() -> None:
        with AttributionsWriter(tmp_path / ATTRIBUTIONS_FILE, METADATA) as writer:
            writer.write(attributions(0, [0]))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert list(tmp_path.iterdir()) == []


def test_a_result_saves_its_attributions(tmp_path: Path, result: Result) -> None:
    assert not (result.save(tmp_path / "without") / ATTRIBUTIONS_FILE).exists()
    kept = attributions(0, [0, 1, 2, 4])
    with_it = Result(result.table, result.tracks, result.info, kept)
    assert_same(read_attributions(with_it.save(tmp_path / "with") / ATTRIBUTIONS_FILE), kept)


@pytest.mark.parametrize("kind", ["nothing", "text", "table"])
def test_a_file_without_attributions_is_refused(tmp_path: Path, result: Result, kind: str) -> None:
    path = tmp_path / ATTRIBUTIONS_FILE
    if kind == "text":
        path.write_text("not a file of auscan")
    elif kind == "table":
        result.save(tmp_path)
        path = tmp_path / "aus.parquet"
    with pytest.raises(InputError, match=r"is not an evidence file of auscan.*--evidence"):
        read_attributions(path)
