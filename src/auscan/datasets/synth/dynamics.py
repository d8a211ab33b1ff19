"""Simulate a person's facial behaviour over time: AU intensities, speech and head pose.

All curves are sampled on a clock of CLOCK_HZ ticks per second, independent of a video's frame rate. An AU's
episodes are the times at which a smooth random curve is above a threshold. The curves of AUs that occur
together are correlated, and the thresholds reproduce each AU's base rate in Aff-Wild2, except that speech
adds to AU26's. Within an episode the
intensity has an onset, a steady apex and an offset.

Label rule: an AU is active (1) if its movement away from the person's resting face is at least LABEL_LEVEL.
The picture shows the resting face plus the movement, and the resting face may reach REST_MAX. A single frame
therefore cannot distinguish a movement from a resting face; other minutes of the same person can.

Inputs: a random generator, a length in seconds.  Returns: a `FacialBehaviour`.
See also: voice.py (sound), scene.py (pictures).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.special import ndtri

from auscan.core.aus import AFFWILD2_AUS

Array = NDArray[np.float64]

Random = np.random.Generator

EXTRA_AUS: Final[tuple[str, ...]] = ("AU05", "AU09", "AU14", "AU17", "AU20", "AU28", "AU45")
"""AUs of the faces beyond those of Aff-Wild2."""

RIG_AUS: Final[tuple[str, ...]] = (*AFFWILD2_AUS, *EXTRA_AUS)
"""AUs of the faces: first the twelve of Aff-Wild2. A behaviour has these twelve, or all."""

CLOCK_HZ: Final[int] = 100
"""Ticks per second."""

LABEL_LEVEL: Final[float] = 0.5
"""Movement from which an AU is labelled active."""

REST_MAX: Final[float] = 0.55
"""Largest AU intensity of a resting face."""

REST_MIN: Final[float] = -0.3
"""Smallest AU intensity of a resting face."""

TRACE: Final[float] = 0.4
"""Largest intensity of the frequent small movements that are not labelled, like FACS's traces."""

BASE_RATES: Final[Array] = np.array(
    [0.1182, 0.0498, 0.154, 0.2661, 0.397, 0.3444, 0.2449, 0.0281, 0.0314, 0.0256, 0.6266, 0.0743]
)
"""Share of frames [A] in which each AU is active in Aff-Wild2's training set."""

PERSON_SHARE: Final[float] = 0.2
"""Share of the curves' variance that is constant for a person; persons differ in how often they smile."""

_EPISODE_S: Final[Array] = np.array([0.7, 0.6, 1.2, 1.5, 1.5, 1.2, 1.4, 0.8, 0.6, 0.6, 0.8, 0.5])
"""Correlation time of each AU's curve, seconds; episodes last about two to four times as long."""

_FACTOR_LOADINGS: Final[dict[str, tuple[float, ...]]] = {
    # Columns: smile, surprise, anger, sadness, disgust.
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
"""Loading of each AU on five shared random curves, so that AUs of one expression occur together."""

EXTRA_RATES: Final[dict[str, float]] = {
    **{"AU05": 0.06, "AU09": 0.05, "AU14": 0.08, "AU17": 0.1, "AU20": 0.05, "AU28": 0.04}
}
"""Share of frames in which each of EXTRA_AUS but AU45 is active; Aff-Wild2 has no rates of them."""

_SUPPRESSED: Final[dict[str, float]] = {"AU28": 6.0}
"""Rate before suppression by other AUs over EXTRA_RATES; lips are parted for most of the time."""

BLINKS_PER_MINUTE: Final[tuple[float, float]] = (10.0, 25.0)
"""Blinks (AU45) of a person per minute, lowest and highest."""

BLINK_S: Final[tuple[float, float]] = (0.15, 0.4)
"""Duration of a blink, seconds, shortest and longest."""

_SPEECH_SHARE: Final[float] = 0.55
"""Share of time in which a person speaks."""

_LIPS_PARTED_IN_SPEECH: Final[float] = 0.51
"""Measured share of speech in which the opening of the lips is at least LABEL_LEVEL."""

_AU25, _AU26 = AFFWILD2_AUS.index("AU25"), AFFWILD2_AUS.index("AU26")

_LIP_PRESS_AUS = [AFFWILD2_AUS.index(name) for name in ("AU23", "AU24")]


@dataclass(frozen=True, eq=False)
class FacialBehaviour:
    """Simulated behaviour of one person, on a clock of K ticks at CLOCK_HZ from 0 s."""

    rest: Array
    """AU intensities [A] of the resting face; constant and not labelled. AUs: see `au_names`."""
    movement: Array
    """AU intensities [K, A] away from the resting face, 0 to 1."""
    opening: Array
    """Mouth opening [K] by speech alone, 0 to 1; 0 in silence."""
    speaking: NDArray[np.bool_]
    """Mask [K] of speech, including pauses between words."""
    voiced: Array
    """Amplitude [K] of voiced sounds, 0 to 1."""
    unvoiced: Array
    """Amplitude [K] of unvoiced sounds, 0 to 1."""
    pose: Array
    """Head pose [K, 3]: yaw, pitch, roll in degrees."""

    @property
    def au_names(self) -> tuple[str, ...]:
        """AUs of rest and movement: the twelve of Aff-Wild2, or all of RIG_AUS."""
        return RIG_AUS[: len(self.rest)]

    def interpolate(self, times_s: Array, curve: Array) -> Array:
        """Interpolate a curve [K, ...] linearly at times [T] in seconds, clamped to the ends of the clock."""
        position = np.clip(times_s * CLOCK_HZ, 0, len(curve) - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, len(curve) - 1)
        share = (position - low).reshape(-1, *[1] * (curve.ndim - 1))
        return np.asarray(curve[low] * (1 - share) + curve[high] * share)


def labels_of(movement: Array) -> NDArray[np.int8]:
    """Return labels [..., A] for movement [..., A]: 1 from LABEL_LEVEL, else 0."""
    return (movement >= LABEL_LEVEL).astype(np.int8)


def ticks_for(seconds: float) -> int:
    """Return the number of ticks K for a length in seconds."""
    return max(2, round(seconds * CLOCK_HZ) + 1)


def simulate(
    random: Random,
    seconds: float,
    rest_random: Random,
    speaks: bool = True,
    extra_random: Random | None = None,
) -> FacialBehaviour:
    """Simulate one person for `seconds`.

    rest_random: generator for the resting face alone; the same seed results in the same resting face.
    speaks: whether the person speaks.
    extra_random: generator of the movements of EXTRA_AUS; None: the behaviour has only the twelve AUs of
    Aff-Wild2. Their movements do not depend on it.
    """
    ticks = ticks_for(seconds)
    speaking, opening, voiced, unvoiced = simulate_speech(random, ticks) if speaks else _silence(ticks)
    movement = _simulate_movement(random, ticks, speaks)
    _add_speech_movement(movement, opening, speaking)
    pose = simulate_head_pose(random, ticks)
    rest = sample_resting_face(rest_random)
    if extra_random is not None:
        movement = np.concatenate([movement, _simulate_extra(extra_random, movement)], axis=1)
        rest = np.concatenate([rest, np.zeros(len(EXTRA_AUS))])
    return FacialBehaviour(rest, movement, opening, speaking, voiced, unvoiced, pose)


def sample_resting_face(random: Random) -> Array:
    """Sample a resting face [A]: strong in about a quarter of the AUs, negative in a fifth, else weak."""
    draw = random.random(len(AFFWILD2_AUS))
    rest = np.clip(random.normal(0, 0.08, len(AFFWILD2_AUS)), -0.2, 0.2)
    strong, negative = (
        random.uniform(0.3, REST_MAX, len(AFFWILD2_AUS)),
        random.uniform(REST_MIN, -0.15, len(AFFWILD2_AUS)),
    )
    rest = np.where(draw < 0.27, strong, np.where(draw > 0.8, negative, rest))
    rest[_AU26] = abs(rest[_AU26]) * 0.4  # a resting face has no dropped jaw
    return np.asarray(rest)


def _simulate_movement(random: Random, ticks: int, speaks: bool) -> Array:
    """Return AU intensities [K, A] without the movement of speech."""
    shared = np.stack([smooth_noise(random, ticks, 1.4) for _ in range(5)], axis=1)  # [K, 5]
    movement = np.empty((ticks, len(AFFWILD2_AUS)))
    for j, name in enumerate(AFFWILD2_AUS):
        weights = np.array(_FACTOR_LOADINGS[name])
        own = np.sqrt(max(0.1, 1 - (weights**2).sum()))
        curve = shared @ weights + own * smooth_noise(random, ticks, _EPISODE_S[j])
        curve /= np.sqrt((weights**2).sum() + own**2)
        curve = np.sqrt(1 - PERSON_SHARE) * curve + np.sqrt(PERSON_SHARE) * random.normal()
        active = curve > -ndtri(_rate_outside_speech(j, speaks))
        trace = np.clip(0.5 * smooth_noise(random, ticks, 1.0), 0, 1) * TRACE
        movement[:, j] = np.maximum(_onset_apex_offset(random, active), trace)
    return movement


def _simulate_extra(random: Random, movement: Array) -> Array:
    """Return intensities [K, 7] of EXTRA_AUS beside the movement [K, 12] of the twelve AUs.

    AUs that exclude each other suppress each other: lips are not sucked or pressed while they are parted, and
    an eye is not wide while it closes.
    """
    ticks = len(movement)
    extra = np.empty((ticks, len(EXTRA_AUS)))
    for j, name in enumerate(EXTRA_AUS[:-1]):
        rate = EXTRA_RATES[name] * _SUPPRESSED.get(name, 1.0)
        active = smooth_noise(random, ticks, 1.0) > -ndtri(rate)
        trace = np.clip(0.5 * smooth_noise(random, ticks, 1.0), 0, 1) * TRACE
        extra[:, j] = np.maximum(_onset_apex_offset(random, active), trace)
    blink = extra[:, EXTRA_AUS.index("AU45")] = _simulate_blinks(random, ticks)
    parted, pressed = movement[:, [_AU25, _AU26]].max(axis=1), movement[:, _LIP_PRESS_AUS].max(axis=1)
    extra[:, EXTRA_AUS.index("AU05")] *= 1 - np.maximum(blink, movement[:, AFFWILD2_AUS.index("AU07")])
    extra[:, EXTRA_AUS.index("AU17")] *= 1 - movement[:, _AU26]
    extra[:, EXTRA_AUS.index("AU28")] *= 1 - np.clip(1.6 * np.maximum(parted, pressed), 0, 1)
    return extra


def _simulate_blinks(random: Random, ticks: int) -> Array:
    """Return the intensity [K] of AU45: complete blinks at random times."""
    blinks, tick = np.zeros(ticks), 0
    mean_s = 60 / random.uniform(*BLINKS_PER_MINUTE)
    while (tick := tick + int((0.3 + random.exponential(mean_s - 0.3)) * CLOCK_HZ)) < ticks:
        length = int(random.uniform(*BLINK_S) * CLOCK_HZ)
        # The lid closes faster than it opens; the squared sine is at least LABEL_LEVEL for half of the time.
        share = np.arange(length) / length
        closing = np.sin(np.pi * share**0.75) ** 2 * random.uniform(0.9, 1.0)
        end = min(ticks, tick + length)
        blinks[tick:end] = np.maximum(blinks[tick:end], closing[: end - tick])
    return blinks


def _rate_outside_speech(au: int, speaks: bool) -> float:
    """Return the rate of episodes that, together with speech, results in the AU's base rate."""
    rate = float(BASE_RATES[au])
    if au == _AU25 and speaks:
        from_speech = _SPEECH_SHARE * _LIPS_PARTED_IN_SPEECH
        return (rate - from_speech) / (1 - from_speech)
    if au in _LIP_PRESS_AUS and speaks:
        return rate / (1 - 0.9 * _SPEECH_SHARE)  # rare in speech, so more frequent in silence
    return rate


def _onset_apex_offset(random: Random, active: NDArray[np.bool_]) -> Array:
    """Return intensities [K] for a mask of episodes [K]; each episode has a random apex, onset and offset."""
    intensities = np.zeros(len(active))
    for start, end in runs(active):
        apex = random.uniform(0.6, 1.0)
        onset, offset = random.uniform(0.15, 0.5), random.uniform(0.25, 0.8)  # s
        margin = int(CLOCK_HZ)
        first, last = max(0, start - margin), min(len(active), end + margin)
        at = np.arange(first, last)
        # The movement equals LABEL_LEVEL at start and end, so labels have the length of the episode.
        bend = np.log(1 / (apex / LABEL_LEVEL - 1)) if apex > LABEL_LEVEL else 0.0
        rise = 1 / (1 + np.exp(-((at - start) / CLOCK_HZ * 8 / onset / 2 + bend)))
        fall = 1 / (1 + np.exp((at - end) / CLOCK_HZ * 8 / offset / 2 - bend))
        intensities[first:last] = np.maximum(intensities[first:last], apex * np.minimum(rise, fall))
    return np.asarray(intensities)


def _add_speech_movement(movement: Array, opening: Array, speaking: NDArray[np.bool_]) -> None:
    """Add speech to movement [K, A] in place, and suppress AUs that exclude each other."""
    movement[:, _AU25] = np.maximum(movement[:, _AU25], opening)
    # Wide syllables move the jaw beyond LABEL_LEVEL, in about 30 % of speech, so AU26 is audible.
    movement[:, _AU26] = np.maximum(movement[:, _AU26], opening**1.5)
    movement[:, _AU25] = np.maximum(movement[:, _AU25], np.minimum(1, 1.2 * movement[:, _AU26]))
    pressed = uniform_filter1d(movement[:, _LIP_PRESS_AUS].max(axis=1), 5)
    pressing = np.clip(5 * (pressed - TRACE), 0, 1)
    silent = ~speaking
    movement[silent, _AU25] *= (1 - pressing)[silent]
    movement[silent, _AU26] *= (1 - pressing)[silent]
    movement[:, _LIP_PRESS_AUS] *= (1 - np.clip(1.6 * opening, 0, 1))[:, None]


def simulate_speech(random: Random, ticks: int) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    """Simulate utterances of words and syllables; return speaking, opening, voiced and unvoiced, each [K]."""
    speaking = np.zeros(ticks, bool)
    opening, voiced, unvoiced = np.zeros(ticks), np.zeros(ticks), np.zeros(ticks)
    tick = 0 if random.random() < _SPEECH_SHARE else int(random.exponential(4.0) * CLOCK_HZ)
    while tick < ticks:
        end = min(ticks, tick + int(random.uniform(2.5, 8.0) * CLOCK_HZ))
        speaking[tick:end] = True
        _utterance(random, tick, end, opening, voiced, unvoiced)
        tick = end + int(random.exponential(4.3) * CLOCK_HZ)
    return speaking, _smooth_opening(opening), voiced, unvoiced


def simulate_utterances(random: Random, speaking: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Simulate words in each run of a mask [K] of speech; return opening, voiced and unvoiced, each [K]."""
    opening, voiced, unvoiced = (np.zeros(len(speaking)) for _ in range(3))
    for start, end in runs(speaking):
        _utterance(random, start, end, opening, voiced, unvoiced)
    return _smooth_opening(opening), voiced, unvoiced


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and end of each run of True in a mask [K]."""
    edges = np.flatnonzero(np.diff(np.r_[0, mask.view(np.int8), 0])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _smooth_opening(opening: Array) -> Array:
    return np.asarray(np.clip(gaussian_filter1d(opening, 2.0), 0, 1))


def _utterance(random: Random, tick: int, end: int, opening: Array, voiced: Array, unvoiced: Array) -> None:
    """Write words and the pauses between them from `tick` to `end` in place."""
    while tick < end:
        for _ in range(random.integers(3, 12)):
            tick = _syllable(random, tick, end, opening, voiced, unvoiced)
        tick += int(random.uniform(0.08, 0.35) * CLOCK_HZ)


def _silence(ticks: int) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    none = np.zeros(ticks)
    return np.zeros(ticks, bool), none, none, none


def _syllable(random: Random, tick: int, end: int, opening: Array, voiced: Array, unvoiced: Array) -> int:
    """Write one syllable between `tick` and `end` in place; return the tick of the next syllable."""
    if random.random() < 0.4:
        frication_end = min(end, tick + int(random.uniform(0.05, 0.12) * CLOCK_HZ))
        unvoiced[tick:frication_end], opening[tick:frication_end] = random.uniform(0.5, 1.0), 0.3
        tick = frication_end
    stop = min(end, tick + int(random.uniform(0.14, 0.3) * CLOCK_HZ))
    if stop > tick:
        envelope = np.sin(np.pi * (np.arange(stop - tick) + 0.5) / (stop - tick)) ** 0.35
        opening_peak = random.uniform(0.45, 1.0)
        opening[tick:stop] = opening_peak * envelope
        # A wider opening is louder.
        voiced[tick:stop] = np.clip(2 * opening_peak - 0.85 + random.uniform(-0.1, 0.1), 0.05, 1) * envelope
    return stop


def simulate_head_pose(random: Random, ticks: int) -> Array:
    """Return yaw, pitch and roll [K, 3] in degrees: slow drift, small fast nods, occasional large turns."""
    slow = np.stack([smooth_noise(random, ticks, 4.0) for _ in range(3)], axis=1) * [9.0, 6.0, 4.5]
    fast = np.stack([smooth_noise(random, ticks, 0.6) for _ in range(3)], axis=1) * [2.0, 2.0, 1.0]
    turned = smooth_noise(random, ticks, 2.5) > 1.25
    size = np.where(smooth_noise(random, ticks, 5.0) > 0, 1, -1) * random.uniform(35, 60)
    large = gaussian_filter1d(turned * size, 0.3 * CLOCK_HZ)
    pose = slow + fast + random.normal(0, [5, 3, 2])
    pose[:, 0] += large
    return np.asarray(np.clip(pose, [-70, -30, -30], [70, 30, 30]))


def smooth_noise(random: Random, ticks: int, seconds: float) -> Array:
    """Return a random curve [K] of mean 0, variance 1 and a correlation time of about `seconds`."""
    width = seconds * CLOCK_HZ / 2
    pad = int(4 * width) + 1
    curve = gaussian_filter1d(random.normal(size=ticks + 2 * pad), width, mode="wrap")[pad : pad + ticks]
    return np.asarray(curve * np.sqrt(2 * width * np.sqrt(np.pi)))
