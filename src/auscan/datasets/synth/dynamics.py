"""How a person moves over minutes: when AUs come and go, when the person speaks, where the head turns.

Everything happens on a clock of CLOCK_HZ ticks a second, so that it does not depend on a video's frame rate.
An AU's episodes begin where a smooth random curve crosses a level; the curves of AUs that go together are
correlated, and the levels make each AU as frequent as in Aff-Wild2. Movement then follows with an onset, a
steady apex, and an offset.

The label rule: an AU is active (1) where its movement away from the person's resting face is LABEL_LEVEL or
more. The picture shows rest plus movement, and rest may be anything up to REST_LIMIT. So one frame cannot
tell a person who frowns from one who always looks so; their other minutes can.

In: a random generator, a length in seconds.  Out: a `FacialBehaviour`.
Not here: sound (voice.py), pictures (scene.py).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.special import ndtri

from auscan.core.aus import AU_COUNT, AU_NAMES

Array = NDArray[np.float64]

Random = np.random.Generator

CLOCK_HZ: Final[int] = 100

LABEL_LEVEL: Final[float] = 0.5

REST_MAX: Final[float] = 0.55

REST_MIN: Final[float] = -0.3

TRACE: Final[float] = 0.4
"""Movements up to here come and go all the time and count for nothing, as FACS's traces do."""

BASE_RATES: Final[Array] = np.array(
    [0.1182, 0.0498, 0.154, 0.2661, 0.397, 0.3444, 0.2449, 0.0281, 0.0314, 0.0256, 0.6266, 0.0743]
)
"""[A]: share of frames in which each AU is active in Aff-Wild2's training set."""

PERSON_SHARE: Final[float] = 0.2
"""Share of the curves' variance that stays with a person: some smile often, some hardly ever."""

_EPISODE_S: Final[Array] = np.array([0.7, 0.6, 1.2, 1.5, 1.5, 1.2, 1.4, 0.8, 0.6, 0.6, 0.8, 0.5])
"""Smoothness of each AU's curve; episodes last about two to four times as long."""

_FACTOR_LOADINGS: Final[dict[str, tuple[float, ...]]] = {
    # What moves together, one column each: smile, surprise, anger, sadness, disgust.
    "AU01": (0, 0.75, 0, 0.45, 0),
    "AU02": (0, 0.85, 0, 0, 0),
    "AU04": (-0.15, -0.1, 0.65, 0.4, 0.2),
    "AU06": (0.85, 0, 0, 0, 0.2),
    "AU07": (0.45, -0.2, 0.4, 0, 0.3),
    "AU10": (0.3, 0, 0.1, 0, 0.7),
    "AU12": (0.9, 0, -0.1, -0.15, 0),
    "AU15": (-0.3, 0, 0.2, 0.6, 0),
    "AU23": (-0.1, 0, 0.6, 0, 0),
    "AU24": (-0.1, 0, 0.5, 0.2, 0),
    "AU25": (0.35, 0.3, -0.15, 0, 0.15),
    "AU26": (0, 0.5, 0, 0, 0),
}

_SPEECH_SHARE: Final[float] = 0.55

_LIPS_PARTED_IN_SPEECH: Final[float] = 0.51
"""Share of speech in which the lips are LABEL_LEVEL apart, measured."""

_AU25, _AU26 = AU_NAMES.index("AU25"), AU_NAMES.index("AU26")

_LIP_PRESS_AUS = [AU_NAMES.index(name) for name in ("AU23", "AU24")]


@dataclass(frozen=True, eq=False)
class FacialBehaviour:
    """What one person does, on a clock of K ticks at CLOCK_HZ from 0 s."""

    rest: Array
    """[A]: the resting face, in AU intensities; label-free, always there."""
    movement: Array
    """[K, A], 0 to 1: away from the resting face."""
    opening: Array
    """[K], 0 to 1: of the mouth by speech alone; 0 in silence."""
    speaking: NDArray[np.bool_]
    """[K]: in the middle of a talk, pauses between words included."""
    voiced: Array
    """[K], 0 to 1: strength of the voice."""
    unvoiced: Array
    """[K], 0 to 1: strength of unvoiced sounds."""
    pose: Array
    """[K, 3]: yaw, pitch, roll in degrees."""

    def interpolate(self, times_s: Array, curve: Array) -> Array:
        """A curve [K, ...] of this behaviour at times [T] s; beyond its ends it stays as it was there."""
        position = np.clip(times_s * CLOCK_HZ, 0, len(curve) - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, len(curve) - 1)
        share = (position - low).reshape(-1, *[1] * (curve.ndim - 1))
        return np.asarray(curve[low] * (1 - share) + curve[high] * share)


def labels_of(movement: Array) -> NDArray[np.int8]:
    """The label rule: movement [..., A] -> 1 active, 0 not."""
    return (movement >= LABEL_LEVEL).astype(np.int8)


def ticks_for(seconds: float) -> int:
    """Ticks K of the clock for so many seconds."""
    return max(2, round(seconds * CLOCK_HZ) + 1)


def simulate(random: Random, seconds: float, rest_random: Random, speaks: bool = True) -> FacialBehaviour:
    """One person for so many seconds; `rest_random` draws their resting face alone: it may stay theirs."""
    ticks = ticks_for(seconds)
    speaking, opening, voiced, unvoiced = simulate_speech(random, ticks) if speaks else _silence(ticks)
    movement = _simulate_movement(random, ticks, speaks)
    _add_speech_movement(movement, opening, speaking)
    pose = simulate_head_pose(random, ticks)
    return FacialBehaviour(
        sample_resting_face(rest_random), movement, opening, speaking, voiced, unvoiced, pose
    )


def sample_resting_face(random: Random) -> Array:
    """[A]: much of about a quarter of the AUs, less than nothing of a fifth, hardly anything of others."""
    draw = random.random(AU_COUNT)
    rest = np.clip(random.normal(0, 0.08, AU_COUNT), -0.2, 0.2)
    strong, negative = random.uniform(0.3, REST_MAX, AU_COUNT), random.uniform(REST_MIN, -0.15, AU_COUNT)
    rest = np.where(draw < 0.27, strong, np.where(draw > 0.8, negative, rest))
    rest[_AU26] = abs(rest[_AU26]) * 0.4  # nobody rests with a dropped jaw
    return np.asarray(rest)


def _simulate_movement(random: Random, ticks: int, speaks: bool) -> Array:
    """[K, A]: what a person does without a word."""
    shared = np.stack([smooth_noise(random, ticks, 1.4) for _ in range(5)], axis=1)  # [K, 5]
    movement = np.empty((ticks, AU_COUNT))
    for j, name in enumerate(AU_NAMES):
        weights = np.array(_FACTOR_LOADINGS[name])
        own = np.sqrt(max(0.1, 1 - (weights**2).sum()))
        curve = shared @ weights + own * smooth_noise(random, ticks, _EPISODE_S[j])
        curve /= np.sqrt((weights**2).sum() + own**2)
        curve = np.sqrt(1 - PERSON_SHARE) * curve + np.sqrt(PERSON_SHARE) * random.normal()
        active = curve > -ndtri(_rate_outside_speech(j, speaks))
        trace = np.clip(0.5 * smooth_noise(random, ticks, 1.0), 0, 1) * TRACE
        movement[:, j] = np.maximum(_onset_apex_offset(random, active), trace)
    return movement


def _rate_outside_speech(au: int, speaks: bool) -> float:
    """How often the AU must come by itself, so that with speech it is as frequent as it should be."""
    rate = float(BASE_RATES[au])
    if au == _AU25 and speaks:
        from_speech = _SPEECH_SHARE * _LIPS_PARTED_IN_SPEECH
        return (rate - from_speech) / (1 - from_speech)
    if au in _LIP_PRESS_AUS and speaks:
        return rate / (1 - 0.9 * _SPEECH_SHARE)  # hardly ever while speaking, so the more in silence
    return rate


def _onset_apex_offset(random: Random, active: NDArray[np.bool_]) -> Array:
    """[K] intensities for episodes [K]: each with its own apex, onset and offset."""
    edges = np.flatnonzero(np.diff(np.r_[0, active.view(np.int8), 0]))
    intensities = np.zeros(len(active))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        apex = random.uniform(0.6, 1.0)
        onset, offset = random.uniform(0.15, 0.5), random.uniform(0.25, 0.8)  # s
        margin = int(CLOCK_HZ)
        first, last = max(0, start - margin), min(len(active), end + margin)
        at = np.arange(first, last)
        # At start and end the movement is just LABEL_LEVEL, so episodes are as long as labels say.
        bend = np.log(1 / (apex / LABEL_LEVEL - 1)) if apex > LABEL_LEVEL else 0.0
        rise = 1 / (1 + np.exp(-((at - start) / CLOCK_HZ * 8 / onset / 2 + bend)))
        fall = 1 / (1 + np.exp((at - end) / CLOCK_HZ * 8 / offset / 2 - bend))
        intensities[first:last] = np.maximum(intensities[first:last], apex * np.minimum(rise, fall))
    return np.asarray(intensities)


def _add_speech_movement(movement: Array, opening: Array, speaking: NDArray[np.bool_]) -> None:
    """Add speech to movement [K, A], and keep what excludes each other apart. Changes movement."""
    movement[:, _AU25] = np.maximum(movement[:, _AU25], opening)
    # Syllables move the jaw too, seldom as far as LABEL_LEVEL.
    movement[:, _AU26] = np.maximum(movement[:, _AU26], 0.5 * opening**1.5)
    movement[:, _AU25] = np.maximum(movement[:, _AU25], np.minimum(1, 1.2 * movement[:, _AU26]))
    pressed = uniform_filter1d(movement[:, _LIP_PRESS_AUS].max(axis=1), 5)
    pressing = np.clip(5 * (pressed - TRACE), 0, 1)
    silent = ~speaking
    movement[silent, _AU25] *= (1 - pressing)[silent]
    movement[silent, _AU26] *= (1 - pressing)[silent]
    movement[:, _LIP_PRESS_AUS] *= (1 - np.clip(1.6 * opening, 0, 1))[:, None]


def simulate_speech(random: Random, ticks: int) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    """Talks of some seconds, words, syllables: speaking, opening, voiced and unvoiced, each [K]."""
    speaking = np.zeros(ticks, bool)
    opening, voiced, unvoiced = np.zeros(ticks), np.zeros(ticks), np.zeros(ticks)
    tick = 0 if random.random() < _SPEECH_SHARE else int(random.exponential(4.0) * CLOCK_HZ)
    while tick < ticks:
        end = min(ticks, tick + int(random.uniform(2.5, 8.0) * CLOCK_HZ))
        speaking[tick:end] = True
        while tick < end:
            for _ in range(random.integers(3, 12)):
                tick = _syllable(random, tick, end, opening, voiced, unvoiced)
            tick += int(random.uniform(0.08, 0.35) * CLOCK_HZ)
        tick = end + int(random.exponential(4.3) * CLOCK_HZ)
    return speaking, np.clip(gaussian_filter1d(opening, 2.0), 0, 1), voiced, unvoiced


def _silence(ticks: int) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    none = np.zeros(ticks)
    return np.zeros(ticks, bool), none, none, none


def _syllable(random: Random, tick: int, end: int, opening: Array, voiced: Array, unvoiced: Array) -> int:
    """Write one syllable from `tick` on, none of it past `end`; returns where the next one begins."""
    if random.random() < 0.4:
        frication_end = min(end, tick + int(random.uniform(0.05, 0.12) * CLOCK_HZ))
        unvoiced[tick:frication_end], opening[tick:frication_end] = random.uniform(0.5, 1.0), 0.3
        tick = frication_end
    stop = min(end, tick + int(random.uniform(0.14, 0.3) * CLOCK_HZ))
    if stop > tick:
        envelope = np.sin(np.pi * (np.arange(stop - tick) + 0.5) / (stop - tick)) ** 0.35
        opening_peak = random.uniform(0.45, 1.0)
        opening[tick:stop] = opening_peak * envelope
        # A wide mouth is a loud one.
        voiced[tick:stop] = np.clip(2 * opening_peak - 0.85 + random.uniform(-0.1, 0.1), 0.05, 1) * envelope
    return stop


def simulate_head_pose(random: Random, ticks: int) -> Array:
    """[K, 3] degrees: slow wandering, quick small nods, and now and then a large turn to one side."""
    slow = np.stack([smooth_noise(random, ticks, 4.0) for _ in range(3)], axis=1) * [9.0, 6.0, 4.5]
    fast = np.stack([smooth_noise(random, ticks, 0.6) for _ in range(3)], axis=1) * [2.0, 2.0, 1.0]
    turned = smooth_noise(random, ticks, 2.5) > 1.25
    size = np.where(smooth_noise(random, ticks, 5.0) > 0, 1, -1) * random.uniform(35, 60)
    large = gaussian_filter1d(turned * size, 0.3 * CLOCK_HZ)
    pose = slow + fast + random.normal(0, [5, 3, 2])
    pose[:, 0] += large
    return np.asarray(np.clip(pose, [-70, -30, -30], [70, 30, 30]))


def smooth_noise(random: Random, ticks: int, seconds: float) -> Array:
    """[K]: a random curve of mean 0 and variance 1 that forgets itself within about `seconds`."""
    width = seconds * CLOCK_HZ / 2
    pad = int(4 * width) + 1
    curve = gaussian_filter1d(random.normal(size=ticks + 2 * pad), width, mode="wrap")[pad : pad + ticks]
    return np.asarray(curve * np.sqrt(2 * width * np.sqrt(np.pi)))
