"""Synthesise speech from the mouth opening, and background speech and music.

Speech consists of glottal pulses filtered by formants, noise for unvoiced sounds, and silence. A wider mouth
raises the first formant. This relation makes AU25 and AU26 audible when a hand covers the mouth. Background
speech and music are independent of the face.

Inputs: a behaviour, a random generator.  Returns: waveforms [M] float32 at 16 kHz, from 0 s of the clock.
See also: dynamics.py (behaviour), video.py (writing sound).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.dynamics import (
    CLOCK_HZ,
    Array,
    FacialBehaviour,
    Random,
    simulate_speech,
    simulate_utterances,
    smooth_noise,
)

Wave = NDArray[np.float32]

SAMPLES_PER_TICK: Final[int] = SAMPLE_RATE_HZ // CLOCK_HZ
"""Audio samples per tick of the clock."""


@dataclass(frozen=True)
class Speaker:
    """Constant properties of a voice."""

    pitch_hz: float
    """Mean pitch, Hz."""
    formant_scale: float
    """Factor on all formants; above 1 for a shorter vocal tract."""

    @staticmethod
    def sample(random: Random) -> "Speaker":
        """Sample a low or a high voice."""
        high = random.random() < 0.5
        return Speaker(random.uniform(170, 240) if high else random.uniform(90, 140), 1.15 if high else 1.0)


def mix_audio(random: Random, ticks: int, speech: list[Wave], disturbance: str | None) -> Wave:
    """Mix speech, background sound and noise into one waveform [M] within -1 to 1.

    ticks: length K of the clock.  speech: one waveform per person.
    disturbance: background sound, "voice", "music" or None.
    """
    wave = np.sum([*speech, np.zeros(ticks * SAMPLES_PER_TICK, np.float32)], axis=0) * random.uniform(
        0.2, 0.4
    )
    if disturbance == "voice":
        wave += random.uniform(0.08, 0.2) * background_speech(random, ticks)
    elif disturbance == "music":
        wave += random.uniform(0.04, 0.12) * background_music(random, ticks)
    wave += random.normal(0, 10 ** random.uniform(-3.5, -2.3), len(wave))
    return np.asarray(np.clip(wave, -1, 1), np.float32)


def synthesise_speech(
    random: Random, speaker: Speaker, behaviour: FacialBehaviour, own_voice: NDArray[np.bool_] | None = None
) -> Wave:
    """Synthesise a person's speech [M], silent while the person does not speak.

    own_voice: mask [K]; where it is False, another voice says other words while the person moves the mouth.
    """
    own = np.ones(len(behaviour.opening), bool) if own_voice is None else own_voice
    wave = _synthesise(random, speaker, behaviour.opening, behaviour.voiced * own, behaviour.unvoiced * own)
    if own.all():
        return wave
    opening, voiced, unvoiced = simulate_utterances(random, behaviour.speaking & ~own)
    return wave + _synthesise(random, Speaker.sample(random), opening, voiced, unvoiced)


def background_speech(random: Random, ticks: int) -> Wave:
    """Synthesise the speech [M] of a person outside the picture."""
    _, opening, voiced, unvoiced = simulate_speech(random, ticks)
    return _synthesise(random, Speaker.sample(random), opening, voiced, unvoiced)


def background_music(random: Random, ticks: int) -> Wave:
    """Synthesise chords with a beat, [M], normalised to a peak of 1."""
    time_s = np.arange(ticks * SAMPLES_PER_TICK) / SAMPLE_RATE_HZ
    beat_s = random.uniform(0.35, 0.7)
    root_hz = random.uniform(110, 220)
    steps = random.choice([0, 3, 5, 7, 8, 10], size=int(time_s[-1] / (4 * beat_s)) + 2)
    chord = steps[(time_s / (4 * beat_s)).astype(np.int64)]
    wave = np.zeros(len(time_s))
    for third in (0, random.choice([3, 4]), 7, 12):
        phase = 2 * np.pi * np.cumsum(root_hz * 2 ** ((chord + third) / 12)) / SAMPLE_RATE_HZ
        wave += np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)
    wave *= 0.35 + 0.65 * np.exp(-(time_s % beat_s) / 0.15)
    return np.asarray(wave / max(1e-6, np.abs(wave).max()), np.float32)


def _synthesise(random: Random, speaker: Speaker, opening: Array, voiced: Array, unvoiced: Array) -> Wave:
    ticks = len(opening)
    pitch = speaker.pitch_hz * 2 ** (0.12 * smooth_noise(random, ticks, 0.8))
    vowel = 1500 + 450 * np.clip(smooth_noise(random, ticks, 0.25), -1.6, 1.6)
    first = (260 + 620 * opening) * speaker.formant_scale
    tone = glottal_pulses(upsample(pitch), upsample(voiced))
    for centre, width in (
        (first, 70.0),
        (vowel * speaker.formant_scale, 110.0),
        (2600 * speaker.formant_scale + 0 * first, 160.0),
    ):
        tone = resonate(tone, upsample(centre), width)
    frication = np.diff(random.normal(size=ticks * SAMPLES_PER_TICK + 1)) * upsample(unvoiced)
    return np.asarray(0.5 * tone / max(1e-6, np.abs(tone).max()) + 0.04 * frication, np.float32)


def upsample(curve: Array) -> Array:
    """Interpolate a curve [K] on the clock to audio samples [M]."""
    return np.interp(
        np.arange(len(curve) * SAMPLES_PER_TICK) / SAMPLES_PER_TICK, np.arange(len(curve)), curve
    )


@njit(cache=True)
def glottal_pulses(pitch_hz: Array, strength: Array) -> Array:
    """Return one low-pass filtered pulse per pitch period, [M].

    pitch_hz, strength: pitch in Hz and pulse amplitude, each [M].
    """
    wave = np.zeros(len(pitch_hz))
    phase, last = 0.0, 0.0
    for k in range(len(wave)):
        phase += pitch_hz[k] / 16000.0
        pulse = 0.0
        if phase >= 1.0:
            phase -= 1.0
            pulse = strength[k]
        last = 0.9 * last + pulse
        wave[k] = last - 0.1 * strength[k]
    return wave


@njit(cache=True)
def resonate(wave: Array, centre_hz: Array, width_hz: float) -> Array:
    """Filter a waveform [M] with a two-pole resonator of unit gain at 0 Hz.

    centre_hz: centre frequency [M].  width_hz: bandwidth.
    """
    output = np.zeros(len(wave))
    radius = np.exp(-np.pi * width_hz / 16000.0)
    previous, before_previous = 0.0, 0.0
    for k in range(len(wave)):
        a = 2 * radius * np.cos(2 * np.pi * centre_hz[k] / 16000.0)
        current = (1 - a + radius * radius) * wave[k] + a * previous - radius * radius * before_previous
        output[k] = current
        before_previous, previous = previous, current
    return output
