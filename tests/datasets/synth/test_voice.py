"""Test synthesised speech, background speech and music."""

import numpy as np

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.dynamics import CLOCK_HZ, FacialBehaviour, runs, simulate
from auscan.datasets.synth.voice import (
    Speaker,
    background_music,
    background_speech,
    mix_audio,
    synthesise_speech,
)

SAMPLES_PER_TICK = SAMPLE_RATE_HZ // CLOCK_HZ
SPEAKER = Speaker(pitch_hz=120, formant_scale=1.0)


def speaking_person(seconds: float = 20) -> FacialBehaviour:
    for seed in range(20):
        found = simulate(np.random.default_rng(seed), seconds, np.random.default_rng(0))
        if 0.3 < found.speaking.mean() < 0.8:
            return found
    raise AssertionError("no seed results in a person who speaks and pauses")


def loudness(wave: np.ndarray, ticks: int) -> np.ndarray:
    return np.abs(wave[: ticks * SAMPLES_PER_TICK]).reshape(ticks, SAMPLES_PER_TICK).mean(axis=1)


def test_speech_is_audible_only_while_the_person_speaks() -> None:
    person = speaking_person()
    wave = synthesise_speech(np.random.default_rng(0), SPEAKER, person)
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
        person = FacialBehaviour(
            rest=np.zeros(12),
            movement=np.zeros((ticks, 12)),
            opening=opening * still,
            speaking=still > 0,
            voiced=still,
            unvoiced=0 * still,
            pose=np.zeros((ticks, 3)),
        )
        spectrum = np.abs(np.fft.rfft(synthesise_speech(np.random.default_rng(0), SPEAKER, person)))
        hertz = np.fft.rfftfreq(ticks * SAMPLES_PER_TICK, 1 / SAMPLE_RATE_HZ)
        low = (hertz > 150) & (hertz < 1100)
        found.append((hertz[low] * spectrum[low] ** 2).sum() / (spectrum[low] ** 2).sum())
    assert found[1] > found[0] + 150


def test_unvoiced_sounds_are_higher_than_voiced_ones() -> None:
    person = speaking_person()
    wave = synthesise_speech(np.random.default_rng(0), SPEAKER, person)
    crossings = np.abs(np.diff(np.signbit(wave))).astype(float)
    rate = loudness(np.append(crossings, 0.0), len(person.opening))
    assert rate[person.unvoiced > 0].mean() > 1.5 * rate[person.voiced > 0.5].mean()


def test_where_the_voice_is_not_the_persons_own_it_says_other_words_at_the_same_time() -> None:
    person = speaking_person()
    own_voice = np.ones(len(person.opening), bool)
    start, end = max(runs(person.speaking), key=lambda run: run[1] - run[0])
    own_voice[start:end] = False
    heard, without = (
        loudness(synthesise_speech(np.random.default_rng(0), SPEAKER, person, own), len(own_voice))
        for own in (None, own_voice)
    )
    assert np.corrcoef(heard[start:end], person.voiced[start:end])[0, 1] > 0.6
    assert np.corrcoef(without[start:end], person.voiced[start:end])[0, 1] < 0.4
    assert without[start:end].mean() > 0.3 * heard[start:end].mean()
    elsewhere = person.speaking & own_voice
    assert np.corrcoef(without[elsewhere], person.voiced[elsewhere])[0, 1] > 0.6


def test_disturbances_are_audible_without_a_person_speaking() -> None:
    for kind in ("voice", "music"):
        quiet = mix_audio(np.random.default_rng(1), 1000, [], None)
        loud = mix_audio(np.random.default_rng(1), 1000, [], kind)
        assert loud.std() > 2 * quiet.std()
        assert loud.dtype == np.float32


def test_background_music_and_speech_have_the_requested_length() -> None:
    assert len(background_music(np.random.default_rng(0), 300)) == 300 * SAMPLES_PER_TICK
    assert len(background_speech(np.random.default_rng(0), 300)) == 300 * SAMPLES_PER_TICK
