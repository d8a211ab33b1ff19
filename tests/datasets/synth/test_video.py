"""Test corrupted labels, missing pictures, annotation files, and the times of written videos and sound."""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.video import (
    UNLABELLED_SHARE,
    VideoFile,
    corrupt_labels,
    sample_missing_images,
    write_annotation,
)
from auscan.media.audio import read_waveform
from auscan.media.video import probe, read_frames


def rows(count: int = 400) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, len(AFFWILD2_AUS))).astype(np.int8)


@pytest.mark.parametrize("surplus", [-1, 0, 1, 2])
def test_the_length_is_off_by_the_surplus_and_labelled_rows_are_true(surplus: int) -> None:
    true = rows()
    corrupted = corrupt_labels(np.random.default_rng(1), true, surplus, partial_labels=False)
    assert len(corrupted) == len(true) + surplus
    shared = min(len(corrupted), len(true))
    known = corrupted[:shared] != -1
    assert np.array_equal(corrupted[:shared][known], true[:shared][known])


def test_unlabelled_rows_come_in_runs_and_have_no_label_at_all() -> None:
    corrupted = corrupt_labels(np.random.default_rng(1), rows(4000), 0, partial_labels=False)
    missing = (corrupted == -1).all(axis=1)
    assert np.array_equal(missing, (corrupted == -1).any(axis=1))
    assert 0.5 * UNLABELLED_SHARE < missing.mean() <= UNLABELLED_SHARE
    assert (np.diff(missing.astype(int)) == 1).sum() < missing.sum() / 4


def test_rows_may_be_partly_labelled() -> None:
    corrupted = corrupt_labels(np.random.default_rng(1), rows(), 0, partial_labels=True)
    unknown = (corrupted == -1).sum(axis=1)
    assert ((unknown > 0) & (unknown < len(AFFWILD2_AUS))).any()


def test_images_are_missing_never_rarely_or_mostly() -> None:
    random, yaw = np.random.default_rng(0), np.zeros(1000)
    none, few, many = (
        sample_missing_images(random, 1000, yaw, frequency) for frequency in ("none", "few", "many")
    )
    assert not none.any()
    assert 0 < few.mean() < 0.05
    assert 0.4 < many.mean() < 0.95


def test_profiles_have_no_picture_and_each_track_has_at_least_one() -> None:
    missing = sample_missing_images(np.random.default_rng(0), 50, np.full(50, 68.0), "few")
    assert missing.sum() == 49 or missing.sum() == 48
    assert not missing.all()


def test_an_annotation_file_has_the_format_of_aff_wild2(tmp_path: Path) -> None:
    path = tmp_path / "Train_Set" / "900.txt"
    write_annotation(path, np.array([[0, 1] * 6, [-1] * 12], np.int8))
    assert path.read_bytes() == (
        b"AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26\n0,1,0,1,0,1,0,1,0,1,0,1\n"
        b"-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1\n"
    )


SIZE = (64, 48)
CLICKS_S = (1.0, 1.7)


def clicks(seconds: float = 2.5) -> np.ndarray:
    wave = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    for at in CLICKS_S:
        wave[round(at * SAMPLE_RATE_HZ) :][:160] = 0.8 * np.sin(np.arange(160))
    return wave


def write(path: Path, times_s: np.ndarray, wave: np.ndarray | None, audio_start_s: float = 0.0) -> None:
    with VideoFile(path, SIZE, 30.0, wave, 20, audio_start_s) as file:
        for index, time_s in enumerate(times_s):
            file.add(np.full((SIZE[1], SIZE[0], 3), 40 + 3 * index, np.uint8), float(time_s))


UNEVEN = np.delete(np.arange(60) / 30, [5, 6, 20, 33])


@pytest.mark.parametrize(
    ("name", "times_s", "audio_start_s"),
    [
        ("even.mp4", np.arange(60) / 30, 0.0),
        ("even.avi", np.arange(60) / 30, 0.0),
        ("uneven.mp4", UNEVEN, 0.0),
        ("late.mp4", 0.6 + np.arange(40) / 30, 0.0),
        ("sound_late.mp4", np.arange(60) / 30, 0.8),
    ],
)
def test_frame_times_and_sound_are_read_back_unchanged(
    tmp_path: Path, name: str, times_s: np.ndarray, audio_start_s: float
) -> None:
    path = tmp_path / name
    write(path, times_s, clicks(), audio_start_s)
    frames = list(read_frames(path))
    assert [frame.time_s for frame in frames] == pytest.approx(times_s.tolist(), abs=1e-3)
    grey = [frame.image.mean() for frame in frames]
    assert grey == pytest.approx([40 + 3 * index for index in range(len(times_s))], abs=3)
    waveform = read_waveform(path)
    assert waveform is not None
    chunks = list(waveform)
    samples = np.concatenate([chunk.samples for chunk in chunks])
    at_s = chunks[0].start_s + np.flatnonzero(np.abs(samples) > 0.3) / SAMPLE_RATE_HZ
    for click_s in CLICKS_S:
        near = at_s[np.abs(at_s - click_s) < 0.3]
        assert near.min() == pytest.approx(click_s, abs=0.005)
        assert near.max() == pytest.approx(click_s + 0.01, abs=0.005)


def test_a_video_without_a_wave_has_no_sound_stream(tmp_path: Path) -> None:
    write(tmp_path / "silent.mp4", np.arange(10) / 30, None)
    assert not probe(tmp_path / "silent.mp4").has_audio
    assert read_waveform(tmp_path / "silent.mp4") is None
