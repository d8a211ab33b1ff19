"""Decide how far the sound belongs to a face, by correlating the opening of its mouth with the sound.

Two small heads of the network predict the opening of the mouth: `seen` from the picture, `heard` from the
sound. If the voice is that of the face, the two rise and fall together. `follow_voice` keeps a running
correlation of them and returns for each frame

    trust      0 to 1, how far the sound belongs to the face; the sound's influence is scaled by it
    speaking   0 to 1, trust times the activity of the voice; NaN without sound

Evidence is counted in seconds, weighted by how far the mouth is visible and by the activity of the voice.
Silence and a hidden mouth add none, and forget none. Without evidence a prior decides: a single face in the
picture is trusted, one of several is not. A still mouth is evidence against a voice.

The state is carried from chunk to chunk, so results do not depend on chunks and live equals offline. A frame
depends on the frames before it, and on the sound up to `VOICE_WINDOW_S` after it.

`SoundOffset` searches for a constant offset between sound and picture, over whole tracks.

Inputs: frames of one face; heard logits at the times of the audio tokens.
Returns: trust [T] and speaking [T]; the offset in seconds.
See also: score_track.py (scales the sound by the trust), benchmarks/accuracy/whose_voice.py (real clips, on
which the constants were chosen).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import TOKEN_RATE_HZ
from auscan.core.environment import chunk_slices

Floats = NDArray[np.float64]

LAGS_S: Floats = 0.04 * np.arange(-2.0, 3.0)
"""Lags of the sound at which the correlation is computed, seconds; the best one counts."""
SPAN_S = 2.5
"""Time constant of the running correlation, seconds of evidence: long enough to tell voices apart, short
enough to notice when another voice takes over."""
PRIOR_S = 0.3
"""Weight of the prior, seconds of evidence."""
PRIOR_SINGLE_FACE = 0.5
"""Correlation assumed before any evidence if there is one face in the picture; 0 if there are several."""
UNTRUSTED, TRUSTED = 0.22, 0.36
"""Correlations at which the trust is 0 and 1; it is linear between them."""
MIN_SEEN_STD = 0.5
"""Added in squares to the standard deviation of `seen` (logits): noise of a still mouth is no opening."""
ACTIVE_STD = 0.2
"""Standard deviation of `heard` (logits) within `VOICE_WINDOW_S` at which a voice is fully active."""
VOICE_WINDOW_S = 0.1
"""Half-width of the window in which the activity of the voice is measured, seconds."""
MAX_STEP_S = 0.2
"""Longest time that one frame stands for, seconds: frames further apart do not show how a mouth moves."""

OFFSETS_S: Floats = 0.02 * np.arange(-15.0, 16.0)
"""Offsets that are searched, seconds."""
MIN_OFFSET_EVIDENCE_S = 8.0
"""Evidence needed to find an offset, seconds."""
MIN_OFFSET_CORRELATION = 0.35
"""Correlation needed at the offset."""
MIN_OFFSET_GAIN = 0.05
"""Correlation needed at the offset above that without an offset."""
MAX_OFFSET_S = float(OFFSETS_S[-1])
"""Largest offset that is searched, seconds; the last one is no maximum and is never found."""
VOICE_REACH_S = VOICE_WINDOW_S + 2 / TOKEN_RATE_HZ
"""Sound on each side of a frame that affects its trust, seconds: the window and the next token."""
_CHUNK_FRAMES = 2048
"""Frames processed at once; bounds the memory, does not change results."""


class MouthFrames(NamedTuple):
    """Consecutive frames of one face."""

    times_s: Floats
    """Frame times [T] in seconds, ascending."""
    seen: NDArray[np.float32]
    """Opening of the mouth predicted from the picture, logits [T]; NaN adds no evidence."""
    visible: NDArray[np.float32]
    """How far the mouth can be seen, 0 to 1: [T]."""
    faces: NDArray[np.int64]
    """Number of faces in the picture: [T]."""

    def rows(self, part: slice) -> "MouthFrames":
        """Return some of the frames."""
        return MouthFrames(self.times_s[part], self.seen[part], self.visible[part], self.faces[part])


class HeardOpening(NamedTuple):
    """Opening of the mouth predicted from the sound."""

    times_s: Floats
    """Times [Ta] of the audio tokens in seconds, ascending; may omit audio far from faces."""
    heard: NDArray[np.float32]
    """Logits [Ta]."""

    def shifted(self, offset_s: float) -> "HeardOpening":
        """Return the opening with the offset of the sound taken from its times."""
        return HeardOpening(self.times_s - offset_s, self.heard)

    def at(self, times_s: Floats) -> Floats:
        """Interpolate the logits at times of any shape; NaN further than one token from any token."""
        spacing_s = 1.0 / TOKEN_RATE_HZ
        if not len(self.times_s):
            return np.full(times_s.shape, np.nan)
        after = np.searchsorted(self.times_s, times_s).clip(0, len(self.times_s) - 1)
        before = (after - 1).clip(0)
        distance_s = np.minimum(abs(self.times_s[after] - times_s), abs(self.times_s[before] - times_s))
        values = np.interp(times_s, self.times_s, self.heard.astype(np.float64))
        return np.where(distance_s <= spacing_s, values, np.nan)


class VoiceEvidence(NamedTuple):
    """State of `follow_voice` between two chunks of frames."""

    sums: Floats
    """Decayed sums [6, lags] of weight, x, y, x^2, y^2 and x y, with x seen and y heard."""
    last_s: float
    """Time of the last frame, seconds; NaN before the first one."""


class VoiceTrust(NamedTuple):
    """Result of `follow_voice`."""

    trust: NDArray[np.float32]
    """How far the sound belongs to the face, 0 to 1: [T]."""
    speaking: NDArray[np.float32]
    """Trust times the activity of the voice, 0 to 1: [T]; NaN for frames without sound."""
    correlation: NDArray[np.float32]
    """Running correlation, shrunk to the prior, at the best lag: [T]."""


def follow_voice(
    mouth: MouthFrames, heard: HeardOpening, state: VoiceEvidence | None = None
) -> tuple[VoiceTrust, VoiceEvidence]:
    """Compute trust and speaking of the frames of a face, and the state after the last frame.

    heard: all audio within `VOICE_REACH_S` of the frames
    state: state after the frames before these; None for the first frames of a face
    """
    if state is None:
        state = VoiceEvidence(np.zeros((6, len(LAGS_S))), np.nan)
    parts = [VoiceTrust(*np.empty((3, 0), np.float32))]
    for chunk in chunk_slices(len(mouth.times_s), _CHUNK_FRAMES):
        part, state = _follow_chunk(mouth.rows(chunk), heard, state)
        parts.append(part)
    return VoiceTrust(*(np.concatenate(each) for each in zip(*parts, strict=True))), state


def _follow_chunk(
    mouth: MouthFrames, heard: HeardOpening, state: VoiceEvidence
) -> tuple[VoiceTrust, VoiceEvidence]:
    activity = voice_activity(mouth.times_s, heard)  # [T]
    added = _moments(mouth, heard, activity, LAGS_S, state.last_s)  # [T, 6, lags]
    decay = np.exp(-added[:, 0].max(axis=1) / SPAN_S)  # [T]
    sums, running = state.sums, np.empty_like(added)
    for t in range(len(added)):
        sums = running[t] = decay[t] * sums + added[t]
    correlation = _correlation(running, mouth.faces)
    trust = np.clip((correlation - UNTRUSTED) / (TRUSTED - UNTRUSTED), 0.0, 1.0)
    result = (each.astype(np.float32) for each in (trust, trust * activity, correlation))
    return VoiceTrust(*result), VoiceEvidence(sums, float(mouth.times_s[-1]))


def _correlation(sums: Floats, faces: NDArray[np.int64]) -> Floats:
    """Return the correlation [T] for sums [T, 6, lags] and the number of faces in the picture [T]."""
    prior = np.where(faces > 1, 0.0, PRIOR_SINGLE_FACE)[:, None]  # [T, 1]
    shrunk = (_correlation_seconds(sums) + PRIOR_S * prior) / (sums[:, 0] + PRIOR_S)  # [T, lags]
    return np.asarray(shrunk.max(axis=1))


def voice_activity(times_s: Floats, heard: HeardOpening) -> Floats:
    """Compute how far a voice is active at times [T]: 0 to 1, NaN without sound.

    A voice opens and closes the mouth several times a second, so `heard` varies while it is active.
    """
    steps = np.arange(-round(VOICE_WINDOW_S * TOKEN_RATE_HZ), round(VOICE_WINDOW_S * TOKEN_RATE_HZ) + 1)
    window = heard.at(times_s[:, None] + steps / TOKEN_RATE_HZ)  # [T, W]
    known = ~np.isnan(window)
    count = np.maximum(known.sum(axis=1), 1)  # [T]
    mean = np.where(known, window, 0.0).sum(axis=1) / count
    variance = np.where(known, (window - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    activity = np.minimum(np.sqrt(variance) / ACTIVE_STD, 1.0)
    return np.where(known.any(axis=1), activity, np.nan)


def _moments(
    mouth: MouthFrames, heard: HeardOpening, activity: Floats, lags_s: Floats, last_s: float
) -> Floats:
    """Return weight, x, y, x^2, y^2 and x y of each frame, weighted, at each lag: [T, 6, lags].

    activity: [T], NaN without sound    last_s: time of the frame before the first one, seconds; NaN for none
    """
    step_s = np.nan_to_num(np.clip(np.diff(mouth.times_s, prepend=last_s), 0.0, MAX_STEP_S))  # [T]
    y = heard.at(mouth.times_s[:, None] + lags_s)  # [T, lags]
    x = np.broadcast_to(mouth.seen.astype(np.float64)[:, None], y.shape)
    weight = (step_s * mouth.visible * np.nan_to_num(activity))[:, None]
    weight = np.where(np.isnan(x) | np.isnan(y), 0.0, weight)  # [T, lags]
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    return np.stack([weight, weight * x, weight * y, weight * x * x, weight * y * y, weight * x * y], axis=1)


def _correlation_seconds(sums: Floats) -> Floats:
    """Return correlation times seconds of evidence [..., lags] from sums [..., 6, lags]."""
    seconds, x, y, xx, yy, xy = np.moveaxis(sums, -2, 0)
    known = np.maximum(seconds, 1e-12)
    variance_x = np.maximum(xx / known - (x / known) ** 2, 0.0) + MIN_SEEN_STD**2
    variance_y = np.maximum(yy / known - (y / known) ** 2, 1e-12)
    return np.asarray((xy - x * y / known) / np.sqrt(variance_x * variance_y))


class SoundOffset:
    """Search for a constant offset between the sound and the picture of a file, over its tracks.

    A positive offset means that the sound is late: the sound at `t + offset` belongs to the picture at `t`.
    Subtract it from the times of the sound.
    """

    def __init__(self) -> None:
        self._seconds = np.zeros(len(OFFSETS_S))
        self._together = np.zeros(len(OFFSETS_S))

    @property
    def evidence_s(self) -> float:
        """Evidence so far, seconds."""
        return float(self._seconds.max())

    def add(self, mouth: MouthFrames, heard: HeardOpening) -> None:
        """Add a whole track; `heard` has all audio within the largest offset of its frames."""
        sums = np.zeros((6, len(OFFSETS_S)))
        for chunk in chunk_slices(len(mouth.times_s), _CHUNK_FRAMES):
            part, last_s = mouth.rows(chunk), float(mouth.times_s[chunk.start - 1]) if chunk.start else np.nan
            sums += _moments(part, heard, voice_activity(part.times_s, heard), OFFSETS_S, last_s).sum(axis=0)
        self._seconds += sums[0]
        self._together += _correlation_seconds(sums)

    def find_s(self) -> float:
        """Return the offset in seconds; 0 if there is too little evidence, or no clear one."""
        if self.evidence_s < MIN_OFFSET_EVIDENCE_S:
            return 0.0
        correlation = self._together / np.maximum(self._seconds, 1e-12)  # [offsets]
        best, none = int(correlation.argmax()), len(OFFSETS_S) // 2
        clear = (
            0 < best < len(OFFSETS_S) - 1  # a maximum, not the end of a slope
            and correlation[best] >= MIN_OFFSET_CORRELATION
            and correlation[best] >= correlation[none] + MIN_OFFSET_GAIN
        )
        return float(OFFSETS_S[best]) if clear else 0.0
