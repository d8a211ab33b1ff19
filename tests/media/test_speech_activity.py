"""Voice activity detection separates speech from other sounds, independent of the chunk sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auscan.media import speech_activity
from auscan.media.audio import Waveform
from auscan.media.speech_activity import SILENCE_DB, STEP, STEP_S, VoiceActivityDetector, _fill_short_gaps

RATE_HZ = 16_000
Sound = NDArray[np.float32]


def detect_speech(
    sound: Sound, sizes: list[int] | None = None, start_s: float = 0.0
) -> tuple[Sound, NDArray[np.bool_]]:
    """Push the audio in pieces of these sizes, and the rest as one piece."""
    activity, at = VoiceActivityDetector(), 0
    for size in [*(sizes or []), len(sound)]:
        piece = sound[at : at + size]
        if len(piece):
            activity.push(Waveform(piece, at / RATE_HZ))
        at += len(piece)
    return activity.finish()


def tone(seconds: float, hertz: float = 180.0, level: float = 0.1) -> Sound:
    at_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * sum(np.sin(2 * np.pi * hertz * k * at_s) / k for k in range(1, 9))).astype(np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Sound:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ)).astype(np.float32)


def synthetic_speech(seconds: float, seed: int = 0) -> Sound:
    """Return syllables of 0.12 s with gaps of 0.08 s: a gliding pitch filtered by two random formants."""
    rng = np.random.default_rng(seed)
    count, at_s = round(0.12 * RATE_HZ), np.arange(round(0.12 * RATE_HZ)) / RATE_HZ
    pieces = []
    for _ in range(round(seconds / 0.2)):
        pitch = rng.uniform(100, 140) + rng.uniform(-80, 80) * at_s
        phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
        formants = rng.uniform(300, 900), rng.uniform(1000, 3000)
        wave = np.zeros(count)
        for k in range(1, 30):
            gain = sum(np.exp(-(((k * 120 - formant) / 150) ** 2)) for formant in formants)
            wave += (gain + 0.01) * np.sin(k * phase)
        pieces += [0.1 * wave * np.sin(np.pi * at_s / 0.12), np.zeros(round(0.08 * RATE_HZ))]
    return np.concatenate(pieces).astype(np.float32)


def test_speech_in_a_quiet_room_is_found_at_its_time() -> None:
    sound = np.concatenate([np.zeros(2 * RATE_HZ), synthetic_speech(3), np.zeros(2 * RATE_HZ)]).astype(
        np.float32
    )
    _, speech = detect_speech(sound + noise(7, 0.001))
    at_s = (np.arange(len(speech)) + 0.5) * STEP_S
    is_speech = (at_s > 2) & (at_s < 5)
    assert speech[is_speech].mean() > 0.85
    assert speech[(at_s < 1.7) | (at_s > 5.3)].mean() == 0


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(3 * RATE_HZ, np.float32),
        noise(3),
        tone(3),
        np.concatenate([noise(2, 0.001), noise(1), tone(2)]),
    ],
    ids=["silence", "noise", "hum", "quiet noise, loud noise, then hum"],
)
def test_silence_noise_and_hum_are_not_speech(sound: Sound) -> None:
    assert not detect_speech(sound)[1].any()


@settings(max_examples=20)
@given(st.lists(st.integers(1, 20_000), max_size=6), st.integers(0, 40_000))
def test_the_result_does_not_depend_on_the_chunk_sizes(sizes: list[int], length: int) -> None:
    sound = np.concatenate([synthetic_speech(1.5), noise(1, 0.01)])[:length]
    for in_chunks, at_once in zip(detect_speech(sound, sizes), detect_speech(sound), strict=True):
        np.testing.assert_allclose(in_chunks, at_once, atol=1e-4)
    assert len(detect_speech(sound)[0]) == (length + STEP // 2) // STEP


def test_levels_are_in_decibels_of_full_scale() -> None:
    at_s = np.arange(RATE_HZ) / RATE_HZ
    level, _ = detect_speech(np.sin(2 * np.pi * 500 * at_s).astype(np.float32))
    assert level == pytest.approx(np.full(50, -3.01), abs=0.02)
    assert detect_speech(np.zeros(STEP, np.float32))[0].tolist() == [SILENCE_DB]


def test_chunks_are_passed_on_and_the_start_is_that_of_the_first() -> None:
    detector = VoiceActivityDetector()
    chunks = [
        Waveform(np.zeros(500, np.float32), 1.5),
        Waveform(np.zeros(300, np.float32), 1.5 + 500 / RATE_HZ),
    ]
    assert list(detector.observe(chunks)) == chunks
    assert detector.start_s == 1.5
    assert [len(each) for each in detector.finish()] == [3, 3]


def test_silence_is_not_analyzed_and_gets_the_values_of_the_analysis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten hours of zeros must cost less than ten hours of speech."""
    sound = np.concatenate(
        [synthetic_speech(2), np.zeros(60 * RATE_HZ, np.float32), synthetic_speech(2, seed=1)]
    )
    analyzed, analyze = [], speech_activity._analyze

    def count(windows: Sound) -> tuple[NDArray[np.float64], Sound]:
        analyzed.append(len(windows))
        return analyze(windows)

    monkeypatch.setattr(speech_activity, "_analyze", count)
    detect_speech(sound)
    assert 2 / STEP_S < sum(analyzed) <= 4 / STEP_S + 4
    sums, shapes = analyze(np.zeros((3, 640), np.float32))
    assert (sums == [SILENCE_DB, SILENCE_DB, 0]).all()
    assert (shapes == 0).all()


def test_empty_audio_has_no_steps() -> None:
    assert [len(each) for each in VoiceActivityDetector().finish()] == [0, 0]


@pytest.mark.parametrize(
    ("on", "expected"),
    [("1001", "1111"), ("10001", "10001"), ("0100", "0100"), ("", ""), ("101001", "111111")],
)
def test_short_gaps_are_filled_but_not_the_ends(on: str, expected: str) -> None:
    filled = _fill_short_gaps(np.array([c == "1" for c in on], bool), 3)
    assert "".join("01"[int(x)] for x in filled) == expected
