"""Rendering decodes the source again and measures its sound."""

from pathlib import Path

import numpy as np
import pytest

from auscan.media.audio import Waveform
from auscan.pipeline.render import LEVEL_STEP_S, SILENCE_DB, overlay_name, sound_level


def test_a_full_scale_sine_lies_three_decibels_below_full_scale() -> None:
    at_s = np.arange(16_000) / 16_000
    wave = np.sin(2 * np.pi * 440 * at_s).astype(np.float32)
    times, levels = sound_level([Waveform(wave[:8_000], 2.0), Waveform(wave[8_000:], 2.5)])
    assert len(times) == 20
    assert times == pytest.approx(2.0 + LEVEL_STEP_S * (np.arange(20) + 0.5))
    assert levels == pytest.approx(np.full(20, -3.01), abs=0.02)


def test_silence_and_a_short_last_step_have_a_level_too() -> None:
    times, levels = sound_level([Waveform(np.zeros(1_000, np.float32), 0.0)])
    assert levels.tolist() == [SILENCE_DB, SILENCE_DB]
    assert times == pytest.approx([0.025, 0.05 + 0.00625])


def test_a_picture_is_shown_as_a_picture(tmp_path: Path) -> None:
    assert overlay_name(tmp_path / "face.JPG") == "overlay.png"
    assert overlay_name(tmp_path / "talk.mov") == "overlay.mp4"
    assert overlay_name(tmp_path) == "overlay.mp4"
