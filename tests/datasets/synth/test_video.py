"""Spoilt labels and the text files around them.

Videos that are written are read back with the same times and the sound at the same instants.
"""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.aus import AU_NAMES
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.video import (
    HEADER,
    UNLABELLED,
    VideoFile,
    missing_images,
    spoil,
    write_annotation,
    write_test_files,
)
from auscan.datasets.track_lists import kind_of, read_counts, read_list, read_template
from auscan.media.audio import read_waveform
from auscan.media.video import probe, read_frames


def rows(count: int = 400) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, len(AU_NAMES))).astype(np.int8)


@pytest.mark.parametrize("surplus", [-1, 0, 1, 2])
def test_the_end_is_off_by_as_much_as_asked_and_what_is_labelled_is_true(surplus: int) -> None:
    true = rows()
    kept = spoil(np.random.default_rng(1), true, surplus, partly=False)
    assert len(kept) == len(true) + surplus
    shared = min(len(kept), len(true))
    known = kept[:shared] != -1
    assert np.array_equal(kept[:shared][known], true[:shared][known])


def test_unlabelled_rows_come_in_stretches_and_whole() -> None:
    kept = spoil(np.random.default_rng(1), rows(4000), 0, partly=False)
    gone = (kept == -1).all(axis=1)
    assert np.array_equal(gone, (kept == -1).any(axis=1))
    assert 0.5 * UNLABELLED < gone.mean() <= UNLABELLED
    assert (np.diff(gone.astype(int)) == 1).sum() < gone.sum() / 4


def test_rows_may_be_known_in_part() -> None:
    kept = spoil(np.random.default_rng(1), rows(), 0, partly=True)
    unknown = (kept == -1).sum(axis=1)
    assert ((unknown > 0) & (unknown < len(AU_NAMES))).any()


def test_pictures_are_missing_never_seldom_or_mostly() -> None:
    random, yaw = np.random.default_rng(0), np.zeros(1000)
    none, few, many = (missing_images(random, 1000, yaw, how) for how in ("none", "few", "many"))
    assert not none.any()
    assert 0 < few.mean() < 0.05
    assert 0.4 < many.mean() < 0.95


def test_profiles_have_no_picture_and_no_track_is_without_any() -> None:
    gone = missing_images(np.random.default_rng(0), 50, np.full(50, 68.0), "few")
    assert gone.sum() == 49 or gone.sum() == 48
    assert not gone.all()


def test_an_annotation_file_is_what_aff_wild2_has(tmp_path: Path) -> None:
    path = tmp_path / "Train_Set" / "900.txt"
    write_annotation(path, np.array([[0, 1] * 6, [-1] * 12], np.int8))
    assert path.read_bytes() == (
        b"AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26\n0,1,0,1,0,1,0,1,0,1,0,1\n"
        b"-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1\n"
    )


def test_the_test_sets_files_are_read_as_what_they_are(tmp_path: Path) -> None:
    counts = {"900_left": 3, "video900": 2}
    write_test_files(tmp_path, counts, np.random.default_rng(0))
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(tmp_path.rglob("*.txt")):
        by_kind.setdefault(kind_of(path), []).append(path)
    assert {kind: len(paths) for kind, paths in by_kind.items()} == {"list": 1, "counts": 1, "template": 2}
    assert read_list(by_kind["list"][0]) == list(counts)
    assert read_counts(by_kind["counts"][0]) == counts
    for path in by_kind["template"]:
        assert read_template(path).numbers == {"900_left": [1, 2, 3], "video900": [1, 2]}
        assert path.read_text().startswith(f"image_location,{HEADER}\n900_left/00001.jpg,")


SIZE = (64, 48)
CLICKS_S = (1.0, 1.7)


def clicks(seconds: float = 2.5) -> np.ndarray:
    wave = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    for at in CLICKS_S:
        wave[round(at * SAMPLE_RATE_HZ) :][:160] = 0.8 * np.sin(np.arange(160))
    return wave


def write(path: Path, times_s: np.ndarray, wave: np.ndarray | None, sound_from_s: float = 0.0) -> None:
    with VideoFile(path, SIZE, 30.0, wave, 20, sound_from_s) as file:
        for index, time_s in enumerate(times_s):
            file.add(np.full((SIZE[1], SIZE[0], 3), 40 + 3 * index, np.uint8), float(time_s))


UNEVEN = np.delete(np.arange(60) / 30, [5, 6, 20, 33])


@pytest.mark.parametrize(
    ("name", "times_s", "sound_from_s"),
    [
        ("even.mp4", np.arange(60) / 30, 0.0),
        ("even.avi", np.arange(60) / 30, 0.0),
        ("uneven.mp4", UNEVEN, 0.0),
        ("late.mp4", 0.6 + np.arange(40) / 30, 0.0),
        ("sound_late.mp4", np.arange(60) / 30, 0.8),
    ],
)
def test_times_and_sound_survive(tmp_path: Path, name: str, times_s: np.ndarray, sound_from_s: float) -> None:
    path = tmp_path / name
    write(path, times_s, clicks(), sound_from_s)
    frames = list(read_frames(path))
    assert [frame.time_s for frame in frames] == pytest.approx(times_s.tolist(), abs=1e-3)
    grey = [frame.image.mean() for frame in frames]
    assert grey == pytest.approx([40 + 3 * index for index in range(len(times_s))], abs=3)
    chunks = read_waveform(path)
    assert chunks is not None
    heard = list(chunks)
    samples = np.concatenate([chunk.samples for chunk in heard])
    at_s = heard[0].start_s + np.flatnonzero(np.abs(samples) > 0.3) / SAMPLE_RATE_HZ
    for click_s in CLICKS_S:
        near = at_s[np.abs(at_s - click_s) < 0.3]
        assert near.min() == pytest.approx(click_s, abs=0.005)
        assert near.max() == pytest.approx(click_s + 0.01, abs=0.005)


def test_a_video_without_a_wave_has_no_sound_stream(tmp_path: Path) -> None:
    write(tmp_path / "silent.mp4", np.arange(10) / 30, None)
    assert not probe(tmp_path / "silent.mp4").has_audio
    assert read_waveform(tmp_path / "silent.mp4") is None
