"""Follow faces through a video while running the detector on few of its frames.

A face that hardly moved between two frames was in between in the meantime. So the detector looks at every
`stride`-th frame; if the same faces are there and nearly in the same place, the frames between get
interpolated boxes and points, otherwise the frame in the middle is looked at, and so on with both halves.
Where the faces at both ends are the same, a glance at the surroundings of each is enough in the middle. Which
frames the detector sees depends on their order alone, never on how they are read or batched.

In: frames in order, a detector.  Out: every frame in order with its faces; at most `stride` frames are held.
Not here: what a face's number means (tracker.py).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.faces.detector import Detection
from auscan.faces.tracker import FaceTracker, TrackedFace

STRIDE = 8
"""The detector looks at every so many frames at least: few faces come and go within a third of a second."""

GLANCES = 3
"""More faces than this are found faster by looking at the whole frame."""

STILL = 0.04
"""A face whose points moved by less than this share of its box's side is still enough to interpolate."""


class TimedImage(Protocol):
    """What follow_faces needs to know of a frame."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """[H, W, 3] RGB."""

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""


class Detector(Protocol):
    """What follow_faces needs of a detector."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Detection]:
        """All faces in an image [H, W, 3]."""

    def near(self, image: NDArray[np.uint8], box: NDArray[np.float32], /) -> Detection | None:
        """The face that is about where `box` [4] px is, cheaper."""


F = TypeVar("F", bound=TimedImage)
Sighting = tuple[float, list[TrackedFace]]
"""A time in seconds and the faces there."""


def follow_faces(
    frames: Iterable[F], detector: Detector, stride: int = STRIDE
) -> Iterator[tuple[F, list[TrackedFace]]]:
    """Every frame with its faces, in order. stride: the detector looks at least at every stride-th frame."""
    follower = FaceFollower[F](detector, stride)
    for frame in frames:
        yield from follower.push(frame)
    yield from follower.finish()


class FaceFollower(Generic[F]):
    """The same for a video that is still being made: frames go in one by one, and come out some at a time."""

    def __init__(self, detector: Detector, stride: int = STRIDE) -> None:
        self._detector, self._stride = detector, stride
        self._tracker = FaceTracker()
        self._before: Sighting | None = None
        self._pending: list[F] = []  # frames since `_before`

    def push(self, frame: F) -> list[tuple[F, list[TrackedFace]]]:
        """Take the next frame; the frames that are now known, with their faces, in order."""
        self._pending.append(frame)
        full = self._before is None or len(self._pending) >= self._stride
        return self.finish() if full else []

    def finish(self) -> list[tuple[F, list[TrackedFace]]]:
        """The frames that still wait, in order: the last of them is looked at whatever their number."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        sightings = self._fill(self._before, pending, self._detector(pending[-1].image))
        self._before = sightings[-1]
        return list(zip(pending, [faces for _, faces in sightings], strict=True))

    def _fill(self, before: Sighting | None, frames: Sequence[F], seen: list[Detection]) -> list[Sighting]:
        """What is in the frames after `before`, given what is seen in the last; moves the tracker there."""
        *between, last = frames
        shortcut = copy.deepcopy(self._tracker)  # goes straight to the last frame; dropped if it moved
        after = (last.time_s, shortcut.update(seen, last.time_s))
        if before is None or not between or _still(before[1], after[1]):
            self._tracker = shortcut
            return [*(_interpolate(before, after, f.time_s) for f in between if before), after]
        middle = len(between) // 2
        first = self._fill(before, frames[: middle + 1], self._look_between(before, after, frames[middle]))
        return first + self._fill(first[-1], frames[middle + 1 :], seen)

    def _look_between(self, before: Sighting, after: Sighting, frame: F) -> list[Detection]:
        """What is in a frame between two sightings: of the same faces only those that moved are sought."""
        if not _same(before[1], after[1]) or len(after[1]) > GLANCES:
            return self._detector(frame.image)
        _, expected = _interpolate(before, after, frame.time_s)
        found = []
        for a, b, face in zip(before[1], after[1], expected, strict=True):
            if _moved(a, b) < STILL:
                seen: Detection | None = Detection(face.box, face.score, face.points)
            else:
                seen = self._detector.near(frame.image, face.box)
            if seen is None:
                return self._detector(frame.image)
            found.append(seen)
        return found


def _same(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Are these the same faces?"""
    return [face.face_id for face in before] == [face.face_id for face in after]


def _still(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Are these the same faces in nearly the same places? (No faces twice is also nothing new.)"""
    pairs = zip(before, after, strict=False)
    return _same(before, after) and all(_moved(a, b) < STILL for a, b in pairs)


def _moved(a: TrackedFace, b: TrackedFace) -> float:
    """How far the five points moved on average, in sides of the face's box."""
    return float(np.linalg.norm(b.points - a.points, axis=1).mean() / a.box[2:].mean())


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
