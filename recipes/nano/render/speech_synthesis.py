"""Synthesize speech: mouth movement of random words and the matching audio.

A word is a sequence of syllables (consonant, vowel, often a consonant). Each phone has a mouth shape (lip
opening, jaw, rounding) and an acoustic description (formants, voicing, hiss, burst). Lips close for m, b and
p; open vowels have a high first formant. As in real speech, loudness is only weakly related to the opening of
the mouth; mouths also move in silence and often stay open in pauses.

Inputs: a random generator, a length in ticks of synth.dynamics.
Returns: `SyntheticSpeech`, and its waveform [M] at 16 kHz.
See also: rendered_clips.py (the face), synth.voice (other voices and music).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.dynamics import CLOCK_HZ, smooth_noise
from auscan.datasets.synth.voice import Speaker, Wave, glottal_pulses, resonate, upsample

Array = NDArray[np.float64]
Random = np.random.Generator
# lip opening, jaw, rounding (above 0; below 0 spread); first three formants, Hz
VOWELS = {
    **{"a": (1.0, 1.0, 0.0, 760, 1250, 2550), "A": (0.95, 0.85, -0.4, 670, 1700, 2450)},
    **{"e": (0.8, 0.65, -0.5, 520, 1850, 2550), "i": (0.65, 0.35, -0.8, 300, 2250, 3000)},
    **{"o": (0.75, 0.75, 0.7, 490, 900, 2450), "u": (0.5, 0.4, 1.0, 320, 800, 2300)},
    **{"@": (0.7, 0.55, 0.0, 500, 1450, 2500)},
}
# lip opening, jaw, rounding; formants, Hz; voicing, hiss, centre of the hiss in Hz; seconds
CONSONANTS = {
    "m": (0, 0.15, 0, 260, 1050, 2200, 0.9, 0, 0, 0.09),
    "b": (0, 0.15, 0, 220, 900, 2200, 0.5, 0, 0, 0.08),
    "p": (0, 0.15, 0, 400, 1100, 2300, 0, 0, 0, 0.1),
    "f": (0.1, 0.2, 0, 400, 1100, 2300, 0, 0.3, 6500, 0.1),
    "v": (0.12, 0.2, 0, 300, 1100, 2300, 0.4, 0.15, 6000, 0.07),
    "s": (0.6, 0.2, -0.5, 350, 1700, 2600, 0, 0.8, 6200, 0.11),
    "S": (0.6, 0.25, 0.7, 350, 1800, 2500, 0, 0.9, 3300, 0.11),
    "t": (0.6, 0.3, -0.2, 400, 1700, 2600, 0, 0, 0, 0.07),
    "d": (0.6, 0.3, -0.2, 300, 1700, 2600, 0.3, 0, 0, 0.06),
    "k": (0.65, 0.4, 0, 350, 1900, 2300, 0, 0, 0, 0.08),
    "g": (0.65, 0.4, 0, 280, 1900, 2300, 0.3, 0, 0, 0.06),
    "n": (0.6, 0.35, -0.1, 280, 1500, 2500, 0.75, 0, 0, 0.07),
    "l": (0.65, 0.4, 0, 360, 1200, 2700, 0.8, 0, 0, 0.06),
    "r": (0.55, 0.4, 0.4, 350, 1250, 1750, 0.8, 0, 0, 0.06),
    "w": (0.3, 0.35, 1.0, 320, 750, 2300, 0.8, 0, 0, 0.07),
    "h": (0.8, 0.6, 0, 550, 1500, 2500, 0, 0.25, 1800, 0.06),
}
_CODAS = ("n", "t", "s", "m", "l", "r", "k", "p", "d")
_BURSTS = ("p", "t", "k", "b", "d", "g")


@dataclass(frozen=True, eq=False)
class SyntheticSpeech:
    """Mouth movement and acoustic parameters, at K ticks of CLOCK_HZ."""

    lip_opening: Array
    """[K] opening of the lips, 0 closed to about 1."""
    jaw: Array
    """[K] opening of the jaw, 0 closed to about 1."""
    rounding: Array
    """[K] rounding of the lips, -1 spread to 1 rounded."""
    speaking: NDArray[np.bool_]
    """[K] whether speech is in progress, pauses between words included."""
    formants: Array
    """[K, 3] Hz."""
    voice: Array
    """[K] strength of voicing."""
    hiss: Array
    """[K] strength of frication."""
    hiss_hz: Array
    """[K] centre frequency of the frication."""


def no_speech(ticks: int) -> SyntheticSpeech:
    """Return silence with a closed mouth."""
    none = np.zeros(ticks)
    return SyntheticSpeech(
        none, none, none, none > 0, np.full((ticks, 3), [500.0, 1500, 2500]), none, none, none + 4000
    )


def draw_speech(random: Random, ticks: int, share: float = 0.6) -> SyntheticSpeech:
    """Draw speech.  share: approximate share of the time with speech."""
    rows = np.zeros((ticks, 9))  # opening, jaw, rounding, three formants, voice, hiss, hiss Hz
    rows[:, 3:6], rows[:, 8] = (500, 1500, 2500), 4000
    speaking = np.zeros(ticks, bool)
    resting_opening = random.uniform(0.3, 0.9) if random.random() < 0.75 else 0.0
    articulation = random.uniform(0.8, 1.2)
    tick = 0 if random.random() < share else int(random.exponential(2.5) * CLOCK_HZ)
    while tick < ticks:
        end = min(ticks, tick + int(random.uniform(2.0, 7.0) * CLOCK_HZ))
        speaking[tick:end] = True
        while tick < end:
            for _ in range(random.integers(1, 5)):
                tick = _write_syllable(random, rows, tick, end, articulation)
            pause = int(
                random.choice([0.03, 0.12, 0.4], p=[0.5, 0.35, 0.15]) * random.uniform(0.6, 1.6) * CLOCK_HZ
            )
            rows[tick : min(end, tick + pause), 0] = resting_opening if random.random() < 0.7 else 0.0
            tick += pause
        tick = end + int(random.exponential(5.0 * (1 - share) / max(share, 0.1)) * CLOCK_HZ)
    mouth = gaussian_filter1d(rows[:, :3], 2.8, axis=0)
    # Real mouths also move without sound, by about a third as much, and not exactly in time with the sound.
    loose = np.stack([smooth_noise(random, ticks, 0.4) for _ in range(2)], axis=1) * random.uniform(
        0.05, 0.25
    )
    mouth[:, :2] += loose * gaussian_filter1d(speaking.astype(float), 20)[:, None]
    mouth = np.roll(mouth, int(random.integers(-2, 5)), axis=0)
    return SyntheticSpeech(
        lip_opening=mouth[:, 0].clip(0, 1.2),
        jaw=mouth[:, 1].clip(0, 1.2),
        rounding=mouth[:, 2],
        speaking=speaking,
        formants=gaussian_filter1d(rows[:, 3:6], 2.5, axis=0),
        voice=gaussian_filter1d(rows[:, 6], 1.0),
        hiss=gaussian_filter1d(rows[:, 7], 0.8),
        hiss_hz=rows[:, 8],
    )


def _write_syllable(random: Random, rows: Array, tick: int, end: int, articulation: float) -> int:
    """Write an optional consonant, a vowel and an optional consonant. Return the tick after them."""
    stress = random.uniform(0.7, 1.15)
    if random.random() < 0.85:
        tick = _write_consonant(random, rows, tick, end, str(random.choice(list(CONSONANTS))))
    lip_opening, jaw, rounding, *formants = VOWELS[str(random.choice(list(VOWELS)))]
    stop = min(end, tick + int(random.uniform(0.07, 0.2) * (0.6 + 0.5 * stress) * CLOCK_HZ))
    if stop > tick:
        wide = (0.4 + 0.6 * stress) * articulation
        # Mouth opening shows in the first formant, hardly in loudness, which varies with stress.
        rows[tick:stop, 0], rows[tick:stop, 1], rows[tick:stop, 2] = lip_opening * wide, jaw * wide, rounding
        rows[tick:stop, 3:6] = [formants[0] * (0.75 + 0.25 * wide), formants[1], formants[2]]
        rows[tick:stop, 6] = (0.6 + 0.4 * lip_opening) * stress * random.uniform(0.6, 1.3)
    if random.random() < 0.4:
        return _write_consonant(random, rows, stop, end, str(random.choice(_CODAS)))
    return stop


def _write_consonant(random: Random, rows: Array, tick: int, end: int, name: str) -> int:
    """Write one consonant. Return the tick after it."""
    *mouth_and_formants, voice, hiss, hiss_hz, seconds = CONSONANTS[name]
    stop = min(end, tick + max(3, int(seconds * random.uniform(0.7, 1.4) * CLOCK_HZ)))
    if stop <= tick:
        return tick
    rows[tick:stop, :6] = mouth_and_formants
    rows[tick:stop, 6:8] = voice, hiss
    if hiss_hz:
        rows[tick:stop, 8] = hiss_hz
    if name in _BURSTS:
        burst = slice(max(tick, stop - 2), stop)
        rows[burst, 7], rows[burst, 8] = random.uniform(0.3, 0.8), {"p": 1200, "b": 1200}.get(name, 3800)
    return stop


def synthesize_speech(random: Random, speech: SyntheticSpeech) -> Wave:
    """Synthesize speech with a random voice, room and microphone: [M] at 16 kHz, peak about 1."""
    ticks, speaker = len(speech.lip_opening), Speaker.sample(random)
    if not speech.voice.any():
        return np.zeros(ticks * (SAMPLE_RATE_HZ // CLOCK_HZ), np.float32)
    melody = 2 ** (0.18 * smooth_noise(random, ticks, 0.7) + 0.05 * smooth_noise(random, ticks, 0.12))
    fall = 1 - 0.1 * gaussian_filter1d(speech.speaking.astype(float), 60)
    tone = glottal_pulses(upsample(speaker.pitch_hz * melody * fall), upsample(speech.voice))
    breathy = random.uniform(0.0, 0.03) * random.normal(size=len(tone)) * upsample(speech.voice)
    tone = tone + breathy
    for k, width in enumerate((80.0, 110.0, 160.0)):
        tone = resonate(tone, upsample(speech.formants[:, k] * speaker.formant_scale), width)
    for centre, width in ((3500.0, 250.0), (4600.0, 400.0)):
        tone = tone + 0.6 * resonate(
            tone, np.full(len(tone), min(7400.0, centre * speaker.formant_scale)), width
        )
    noise = random.normal(size=len(tone))
    hiss = resonate(
        np.diff(noise, prepend=0),
        upsample(speech.hiss_hz * speaker.formant_scale**0.3).clip(500, 7500),
        900.0,
    )
    hiss *= upsample(speech.hiss) / max(1e-6, np.abs(hiss).max())
    wave = tone / max(1e-6, np.percentile(np.abs(tone), 99.9)) + random.uniform(0.15, 0.4) * hiss
    return _add_room_and_microphone(random, wave)


def _add_room_and_microphone(random: Random, wave: Array) -> Wave:
    """Add reverberation, spectral tilt and clipping."""
    seconds = random.uniform(0.02, 0.45)
    length = int(seconds * SAMPLE_RATE_HZ)
    tail = random.normal(size=length) * np.exp(-6.9 * np.arange(length) / length) * random.uniform(0.0, 0.15)
    tail[0] = 1.0
    found = fftconvolve(wave, tail)[: len(wave)]
    tilt = random.uniform(-0.6, 0.6)
    found = found + tilt * np.diff(found, prepend=0) if tilt > 0 else found + tilt * 0.5 * np.roll(found, 1)
    return np.asarray(np.clip(found / max(1e-6, np.percentile(np.abs(found), 99.95)), -1.2, 1.2), np.float32)
