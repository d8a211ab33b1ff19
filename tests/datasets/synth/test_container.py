"""Videos that are written are read back with the same times and the sound at the same instants."""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.container import VideoFile
from auscan.media.audio import read_waveform
from auscan.media.video import probe, read_frames

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
