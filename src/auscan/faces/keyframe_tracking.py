"""Track faces through a video with detections on keyframes and interpolation between them.

The detector runs on every `stride`-th frame. If two successive keyframes have the same faces in nearly the
same places, boxes and points of the frames between are interpolated. Otherwise the frame in the middle
becomes a keyframe and both halves are handled in the same way. If the faces at both ends are the same, only
the area around each expected face is searched in the middle. The choice of keyframes depends only on the
order of the frames, not on how they are read or batched.

Inputs: frames in order, a detector. Returns: every frame in order with its faces; at most `stride` frames are
kept.
See also: tracker.py (assigns face_id).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.faces.detector import Detection
from auscan.faces.tracker import FaceTracker, TrackedFace

STRIDE = 8
"""Largest distance of keyframes, in frames: few faces appear and disappear within a third of a second."""

MAX_FACES_NEAR = 3
"""Largest number of faces for a search around each face; more are detected faster in the whole frame."""

MAX_STILL_MOTION = 0.04
"""Faces whose points moved by less than this fraction of the side of their box are interpolated."""


class TimedImage(Protocol):
    """Frame as `track_faces` needs it."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB."""

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""


class Detector(Protocol):
    """Detector as `track_faces` needs it (detector.FaceDetector)."""

    def __call__(self, image: NDArray[np.uint8], /) -> list[Detection]:
        """Return all faces in an image [H, W, 3]."""

    def detect_near(self, image: NDArray[np.uint8], box: NDArray[np.float32], /) -> Detection | None:
        """Return the face near `box` [4] px, or None; cheaper than detection in the whole image."""


F = TypeVar("F", bound=TimedImage)
FacesAtTime = tuple[float, list[TrackedFace]]
"""A time in seconds and the faces at that time."""


def track_faces(
    frames: Iterable[F], detector: Detector, stride: int = STRIDE
) -> Iterator[tuple[F, list[TrackedFace]]]:
    """Yield every frame with its faces, in order. stride: largest distance of keyframes, in frames."""
    tracker = KeyframeTracker[F](detector, stride)
    for frame in frames:
        yield from tracker.push(frame)
    yield from tracker.finish()


class KeyframeTracker(Generic[F]):
    """Streaming form of `track_faces`: frames are pushed one by one and returned in groups."""

    def __init__(self, detector: Detector, stride: int = STRIDE) -> None:
        self._detector, self._stride = detector, stride
        self._tracker = FaceTracker()
        self._last_keyframe: FacesAtTime | None = None
        self._pending: list[F] = []  # frames after `_last_keyframe`

    def push(self, frame: F) -> list[tuple[F, list[TrackedFace]]]:
        """Add the next frame; return the frames that are complete, with their faces, in order."""
        self._pending.append(frame)
        full = self._last_keyframe is None or len(self._pending) >= self._stride
        return self.finish() if full else []

    def finish(self) -> list[tuple[F, list[TrackedFace]]]:
        """Return the pending frames with their faces, in order; the last of them becomes a keyframe."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        filled = self._fill(self._last_keyframe, pending, self._detector(pending[-1].image))
        self._last_keyframe = filled[-1]
        return list(zip(pending, [faces for _, faces in filled], strict=True))

    def _fill(
        self, before: FacesAtTime | None, frames: Sequence[F], detections: list[Detection]
    ) -> list[FacesAtTime]:
        """Return the faces of `frames`, given the detections in the last one; advance the tracker."""
        *between, last = frames
        jumped = copy.deepcopy(self._tracker)  # updated with the last frame only; discarded if faces moved
        after = (last.time_s, jumped.update(detections, last.time_s))
        if before is None or not between or _nearly_still(before[1], after[1]):
            self._tracker = jumped
            return [*(_interpolate(before, after, f.time_s) for f in between if before), after]
        middle = len(between) // 2
        first = self._fill(before, frames[: middle + 1], self._detect_between(before, after, frames[middle]))
        return first + self._fill(first[-1], frames[middle + 1 :], detections)

    def _detect_between(self, before: FacesAtTime, after: FacesAtTime, frame: F) -> list[Detection]:
        """Detect faces in a frame between keyframes; if both have the same faces, only those that moved."""
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
    """Return whether both have the same face_ids."""
    return [face.face_id for face in before] == [face.face_id for face in after]


def _nearly_still(before: Sequence[TrackedFace], after: Sequence[TrackedFace]) -> bool:
    """Return whether both have the same faces in nearly the same places; True if neither has faces."""
    pairs = zip(before, after, strict=False)
    return _same_faces(before, after) and all(_motion(a, b) < MAX_STILL_MOTION for a, b in pairs)


def _motion(a: TrackedFace, b: TrackedFace) -> float:
    """Return the mean distance the five points moved, relative to the side of the face's box."""
    return float(np.linalg.norm(b.points - a.points, axis=1).mean() / a.box[2:].mean())


def _interpolate(before: FacesAtTime, after: FacesAtTime, time_s: float) -> FacesAtTime:
    """Interpolate the faces linearly between two keyframes, at a time between them."""
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
    """Interpolate linearly: a for weight 0, b for weight 1."""
    return (a + np.float32(weight) * (b - a)).astype(np.float32)
