"""The sound of a mouth."""

import numpy as np

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.dynamics import CLOCK_HZ, Performance, perform
from auscan.datasets.synth.voice import Speaker, mix, music, other_voice, speak

PER_TICK = SAMPLE_RATE_HZ // CLOCK_HZ
SPEAKER = Speaker(pitch_hz=120, tract=1.0)


def talker(seconds: float = 20) -> Performance:
    for seed in range(20):
        found = perform(np.random.default_rng(seed), seconds, np.random.default_rng(0))
        if 0.3 < found.speaking.mean() < 0.8:
            return found
    raise AssertionError("nobody talks")


def loudness(wave: np.ndarray, ticks: int) -> np.ndarray:
    return np.abs(wave[: ticks * PER_TICK]).reshape(ticks, PER_TICK).mean(axis=1)


def test_the_voice_sounds_where_the_mouth_speaks_and_nowhere_else() -> None:
    person = talker()
    wave = speak(np.random.default_rng(0), SPEAKER, person)
    loud = loudness(wave, len(person.opening))
    silent = np.convolve(person.speaking, np.ones(31), "same") == 0
    assert loud[person.voiced > 0.5].mean() > 20 * loud[silent].mean()
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() <= 1


def test_a_wide_mouth_raises_the_first_formant() -> None:
    ticks = 200
    found = []
    for opening in (0.1, 0.9):
        still = np.ones(ticks)
        person = Performance(
            rest=np.zeros(12),
            movement=np.zeros((ticks, 12)),
            opening=opening * still,
            speaking=still > 0,
            voiced=still,
            breath=0 * still,
            pose=np.zeros((ticks, 3)),
        )
        spectrum = np.abs(np.fft.rfft(speak(np.random.default_rng(0), SPEAKER, person)))
        hertz = np.fft.rfftfreq(ticks * PER_TICK, 1 / SAMPLE_RATE_HZ)
        low = (hertz > 150) & (hertz < 1100)
        found.append((hertz[low] * spectrum[low] ** 2).sum() / (spectrum[low] ** 2).sum())
    assert found[1] > found[0] + 150


def test_hiss_is_higher_than_voice() -> None:
    person = talker()
    wave = speak(np.random.default_rng(0), SPEAKER, person)
    crossings = np.abs(np.diff(np.signbit(wave))).astype(float)
    rate = loudness(np.append(crossings, 0.0), len(person.opening))
    assert rate[person.breath > 0].mean() > 1.5 * rate[person.voiced > 0.5].mean()


def test_disturbances_are_heard_though_nobody_in_the_picture_speaks() -> None:
    for kind in ("voice", "music"):
        quiet = mix(np.random.default_rng(1), 1000, [], None)
        loud = mix(np.random.default_rng(1), 1000, [], kind)
        assert loud.std() > 2 * quiet.std()
        assert loud.dtype == np.float32


def test_music_and_other_voices_have_the_length_asked_for() -> None:
    assert len(music(np.random.default_rng(0), 300)) == 300 * PER_TICK
    assert len(other_voice(np.random.default_rng(0), 300)) == 300 * PER_TICK
