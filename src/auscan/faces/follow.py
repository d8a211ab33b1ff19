"""Follow faces through a video while running the detector on few of its frames.

A face that hardly moved between two frames was in between in the meantime. So the detector looks at every
`stride`-th frame; if the same faces are there and nearly in the same place, the frames between get
interpolated boxes and points, otherwise the detector looks at each of them. Which frames it sees depends on
their order alone, never on how they are read or batched.

In: frames in order, a detector.  Out: every frame in order with its faces; at most `stride` frames are held.
Not here: what a face's number means (tracker.py).
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.faces.boxes import overlap
from auscan.faces.detector import Detection
from auscan.faces.tracker import FaceTracker, TrackedFace

STILL_OVERLAP = 0.75
"""A face whose box overlaps its former one this much (IoU) has moved little enough to interpolate."""


class TimedImage(Protocol):
    """What follow_faces needs to know of a frame."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """[H, W, 3] RGB."""

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""


F = TypeVar("F", bound=TimedImage)
Detector = Callable[[NDArray[np.uint8]], list[Detection]]
Sighting = tuple[float, list[TrackedFace]]
"""A time in seconds and the faces there."""


def follow_faces(
    frames: Iterable[F], detector: Detector, stride: int = 4
) -> Iterator[tuple[F, list[TrackedFace]]]:
    """Every frame with its faces, in order. stride: the detector looks at least at every stride-th frame."""
    tracker = FaceTracker()
    before: Sighting | None = None
    pending: list[F] = []  # frames since `before`
    for frame in frames:
        pending.append(frame)
        if before is None or len(pending) >= stride:
            tracker, sightings = _look(tracker, before, pending, detector)
            yield from zip(pending, [faces for _, faces in sightings], strict=True)
            before, pending = sightings[-1], []
    if pending:
        _, sightings = _look(tracker, before, pending, detector)
        yield from zip(pending, [faces for _, faces in sightings], strict=True)


def _look(
    tracker: FaceTracker, before: Sighting | None, pending: Sequence[TimedImage], detector: Detector
) -> tuple[FaceTracker, list[Sighting]]:
    """What is in the pending frames, given the sighting before them; and the tracker after the last."""
    *between, last = pending
    seen = detector(last.image)
    shortcut = copy.deepcopy(tracker)  # goes straight to the last frame; dropped if the way was not straight
    after = (last.time_s, shortcut.update(seen, last.time_s))
    if before is None or not between or _still(before[1], after[1]):
        return shortcut, [*(_interpolate(before, after, f.time_s) for f in between if before), after]
    looked = [(f.time_s, tracker.update(detector(f.image), f.time_s)) for f in between]
    return tracker, [*looked, (last.time_s, tracker.update(seen, last.time_s))]


def _still(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Are these the same faces in nearly the same places? (No faces twice is also nothing new.)"""
    if [face.face_id for face in before] != [face.face_id for face in after]:
        return False
    pairs = zip(before, after, strict=True)
    return all(overlap(a.box[None], b.box[None]).item() >= STILL_OVERLAP for a, b in pairs)


def _interpolate(before: Sighting, after: Sighting, time_s: float) -> Sighting:
    """The same faces on the straight line between two sightings, at a time between theirs."""
    gap_s = after[0] - before[0]
    share = float(np.clip((time_s - before[0]) / gap_s, 0.0, 1.0)) if gap_s > 0 else 1.0
    faces = [
        TrackedFace(
            face_id=a.face_id,
            box=_mix(a.box, b.box, share),
            points=_mix(a.points, b.points, share),
            score=(1 - share) * a.score + share * b.score,
        )
        for a, b in zip(before[1], after[1], strict=True)
    ]
    return time_s, faces


def _mix(a: NDArray[np.float32], b: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """a where share is 0, b where it is 1."""
    return (a + np.float32(share) * (b - a)).astype(np.float32)
