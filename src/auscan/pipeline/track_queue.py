"""Hold the tracks of faces that have left until the offset of the sound is known.

The offset belongs to the file, so all of its tracks are scored with the same one. It is searched once, on the
first tracks with enough evidence together, or on all tracks of a shorter file. Tracks wait on disk meanwhile;
their number is limited. A checkpoint of format 1 cannot hear the opening of the mouth: nothing waits.

Inputs: finished tracks and the audio tokens read so far.
Returns: the tracks in order, each with the opening of its mouth; the offset in seconds.
See also: inference/synchrony.py (the search), detect.py (scores the tracks). live.py does not search.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from auscan.inference.engine import InferenceEngine
from auscan.inference.score_track import AudioTokenSource
from auscan.inference.synchrony import SoundOffset
from auscan.pipeline.track import FaceTrack, TrackOpening

ENOUGH_EVIDENCE_S = 30.0
"""Evidence after which the offset is decided before the file has ended, seconds."""
MAX_WAITING_FRAMES = 20_000
"""Frames of waiting tracks, all faces together, after which it is decided on the evidence there is."""


class WaitingTrack(NamedTuple):
    """Finished track that is not scored yet."""

    track: FaceTrack
    """The track."""
    opening: TrackOpening | None
    """Opening of its mouth; None if it cannot be predicted."""


class TrackQueue:
    """Queue of finished tracks of one file."""

    def __init__(self, engine: InferenceEngine) -> None:
        self.offset_s: float | None = None
        """Seconds by which the sound is late; None until it is decided, and if nothing can be heard."""
        self._engine, self._search = engine, SoundOffset()
        self._waiting: deque[WaitingTrack] = deque()

    def add(self, track: FaceTrack, audio: AudioTokenSource | None) -> None:
        """Append a track; `audio` has all tokens around it."""
        opening = track.opening(self._engine, audio)
        if opening is not None and self.offset_s is None:
            self._search.add(*opening)
        self._waiting.append(WaitingTrack(track, opening))

    @property
    def first_frame(self) -> float:
        """Number of the first frame of any waiting track; infinity if there is none."""
        return min((each.track.frames[0] for each in self._waiting), default=float("inf"))

    def ready(self, at_end: bool = False) -> Iterator[WaitingTrack]:
        """Remove and yield the tracks that can be scored: all of them once the offset is decided.

        at_end: the file has ended
        """
        undecided = self.offset_s is None and any(each.opening is not None for each in self._waiting)
        frames = sum(len(each.track.frames) for each in self._waiting)
        enough = self._search.evidence_s >= ENOUGH_EVIDENCE_S or frames >= MAX_WAITING_FRAMES
        if undecided and not (at_end or enough):
            return
        if undecided:
            self.offset_s = self._search.find_s()
        while self._waiting:
            yield self._waiting.popleft()
