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

MAX_FACES_NEAR = 3
"""More faces than this are found faster by looking at the whole frame."""

MAX_STILL_MOTION = 0.04
"""A face whose points moved by less than this share of its box's side is still enough to interpolate."""


class TimedImage(Protocol):
    """What track_faces needs to know of a frame."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """[H, W, 3] RGB."""

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""


class Detector(Protocol):
    """What track_faces needs of a detector."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Detection]:
        """All faces in an image [H, W, 3]."""

    def detect_near(self, image: NDArray[np.uint8], box: NDArray[np.float32], /) -> Detection | None:
        """The face that is about where `box` [4] px is, cheaper."""


F = TypeVar("F", bound=TimedImage)
FacesAtTime = tuple[float, list[TrackedFace]]
"""A time in seconds and the faces there."""


def track_faces(
    frames: Iterable[F], detector: Detector, stride: int = STRIDE
) -> Iterator[tuple[F, list[TrackedFace]]]:
    """Every frame with its faces, in order. stride: the detector looks at least at every stride-th frame."""
    tracker = KeyframeTracker[F](detector, stride)
    for frame in frames:
        yield from tracker.push(frame)
    yield from tracker.finish()


class KeyframeTracker(Generic[F]):
    """The same for a video that is still being made: frames go in one by one, and come out some at a time."""

    def __init__(self, detector: Detector, stride: int = STRIDE) -> None:
        self._detector, self._stride = detector, stride
        self._tracker = FaceTracker()
        self._last_keyframe: FacesAtTime | None = None
        self._pending: list[F] = []  # frames since `_last_keyframe`

    def push(self, frame: F) -> list[tuple[F, list[TrackedFace]]]:
        """Take the next frame; the frames that are now known, with their faces, in order."""
        self._pending.append(frame)
        full = self._last_keyframe is None or len(self._pending) >= self._stride
        return self.finish() if full else []

    def finish(self) -> list[tuple[F, list[TrackedFace]]]:
        """The frames that still wait, in order: the last of them is looked at whatever their number."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        filled = self._fill(self._last_keyframe, pending, self._detector(pending[-1].image))
        self._last_keyframe = filled[-1]
        return list(zip(pending, [faces for _, faces in filled], strict=True))

    def _fill(
        self, before: FacesAtTime | None, frames: Sequence[F], detections: list[Detection]
    ) -> list[FacesAtTime]:
        """What is in the frames after `before`, given what is seen in the last; moves the tracker there."""
        *between, last = frames
        jumped = copy.deepcopy(self._tracker)  # goes straight to the last frame; dropped if it moved
        after = (last.time_s, jumped.update(detections, last.time_s))
        if before is None or not between or _nearly_still(before[1], after[1]):
            self._tracker = jumped
            return [*(_interpolate(before, after, f.time_s) for f in between if before), after]
        middle = len(between) // 2
        first = self._fill(before, frames[: middle + 1], self._detect_between(before, after, frames[middle]))
        return first + self._fill(first[-1], frames[middle + 1 :], detections)

    def _detect_between(self, before: FacesAtTime, after: FacesAtTime, frame: F) -> list[Detection]:
        """What is in a frame between two sightings: of the same faces only those that moved are sought."""
        if not _same_faces(before[1], after[1]) or len(after[1]) > MAX_FACES_NEAR:
            return self._detector(frame.image)
        _, expected = _interpolate(before, after, frame.time_s)
        detections = []
        for a, b, face in zip(before[1], after[1], expected, strict=True):
            if _motion(a, b) < MAX_STILL_MOTION:
                detection: Detection | None = Detection(face.box, face.score, face.points)
            else:
                detection = self._detector.detect_near(frame.image, face.box)
            if detection is None:
                return self._detector(frame.image)
            detections.append(detection)
        return detections


def _same_faces(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Are these the same faces?"""
    return [face.face_id for face in before] == [face.face_id for face in after]


def _nearly_still(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Are these the same faces in nearly the same places? (No faces twice is also nothing new.)"""
    pairs = zip(before, after, strict=False)
    return _same_faces(before, after) and all(_motion(a, b) < MAX_STILL_MOTION for a, b in pairs)


def _motion(a: TrackedFace, b: TrackedFace) -> float:
    """How far the five points moved on average, in sides of the face's box."""
    return float(np.linalg.norm(b.points - a.points, axis=1).mean() / a.box[2:].mean())


def _interpolate(before: FacesAtTime, after: FacesAtTime, time_s: float) -> FacesAtTime:
    """The same faces on the straight line between two sightings, at a time between theirs."""
    gap_s = after[0] - before[0]
    weight = float(np.clip((time_s - before[0]) / gap_s, 0.0, 1.0)) if gap_s > 0 else 1.0
    faces = [
        TrackedFace(
            face_id=a.face_id,
            box=_blend(a.box, b.box, weight),
            points=_blend(a.points, b.points, weight),
            score=(1 - weight) * a.score + weight * b.score,
        )
        for a, b in zip(before[1], after[1], strict=True)
    ]
    return time_s, faces


def _blend(a: NDArray[np.float32], b: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """a where share is 0, b where it is 1."""
    return (a + np.float32(weight) * (b - a)).astype(np.float32)
