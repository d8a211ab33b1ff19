"""Track faces: run the detector on keyframes, interpolate between them, assign face_ids.

Keyframes: the detector runs on every `stride`-th frame; at rates that are not ordinary, as often in a second
as at the nearest ordinary rate. If two successive keyframes have the same faces in
nearly the same places, boxes and points of the frames between are interpolated. Otherwise the frame in the
middle becomes a keyframe and both halves are handled in the same way. If the faces at both ends are the
same, only the area around each expected face is searched in the middle. The first and the last frame of a
shot (shots.py) are keyframes too, so nothing is interpolated across a cut. The choice of keyframes depends
only on the order and the times of the frames, not on how they are read or batched.

Assignment: each track predicts the box of its face (constant velocity, Kalman filter). Predictions and
detections are assigned so that the total overlap of boxes is largest (Hungarian method). An unassigned
detection starts a track. A track without a detection for more than `max_gap_s` ends; if the face returns
later, it gets a new face_id. A track belongs to one shot: it ends with it, or goes on if the shot continues
after a cutaway. Only frames that exist count: between two frames, however far apart, a face is
not unseen (`TrackingClock`). Persons are not recognized.

Inputs: frames in order with their times in seconds, a detector.
Returns: every frame in order with its faces, face_id counted from 0; at most 2 x `stride` frames are kept.
See also: detector.py (one image).
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import lap
import numpy as np
from numpy.typing import NDArray

from auscan.faces.detector import Detection, overlap
from auscan.faces.shots import ShotCounter


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """One face in one frame, with the face_id of its track."""

    face_id: int
    """Number of the track, from 0 in order of appearance."""
    box: NDArray[np.float32]
    """[4] x, y, width, height in px."""
    points: NDArray[np.float32]
    """[5, 2] px, as in Detection."""
    score: float
    """Confidence of the detector, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """Criteria for the start, continuation and end of a track (FaceTracker)."""

    start_score: float = 0.5
    """Smallest score that starts a track; a weak detection alone never starts one."""
    keep_score: float = 0.35
    """Smallest score that continues a track, as for a face turned away or blurred."""
    min_overlap: float = 0.2
    """Smallest IoU of a detection with the predicted box of a track."""
    max_gap_s: float = 1.0
    """Longest gap in a track, in seconds (not frames, so that it does not depend on the frame rate)."""


LONGEST_STEP_S = 0.25
"""Longest step of a `TrackingClock`, in seconds: longer intervals between frames are pauses."""


class TrackingClock:
    """Clock of the tracks: the times of the frames, without the part of each interval that is a pause."""

    def __init__(self) -> None:
        self._last_s, self._paused_s = math.inf, 0.0

    def at(self, time_s: float) -> float:
        """Return the time of the next frame, in seconds; equal to `time_s` before the first pause."""
        self._paused_s += max(0.0, time_s - self._last_s - LONGEST_STEP_S)
        self._last_s = time_s
        return time_s - self._paused_s


class FaceTracker:
    """Tracker of all faces of one video; call `update` once per frame, in order."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_KalmanTrack] = []
        self._next_id = 0

    def update(self, detections: Sequence[Detection], time_s: float, shot: int = 0) -> list[TrackedFace]:
        """Return the tracked faces of the frame at time_s (TrackingClock), sorted by face_id.

        shot: number of the frame's shot; faces of other shots are other faces
        """
        config = self.config
        self._tracks = [track for track in self._tracks if time_s - track.last_seen_s <= config.max_gap_s]
        detections = [d for d in detections if d.score >= config.keep_score]
        matches = self._match(detections, time_s, [t for t in self._tracks if t.shot == shot])

        faces = []
        for i, detection in enumerate(detections):
            track = matches.get(i)
            if track is not None:
                track.correct(detection.box, time_s)
            elif detection.score >= config.start_score:
                track = _KalmanTrack(self._next_id, detection.box, time_s, shot)
                self._next_id += 1
                self._tracks.append(track)
            else:
                continue
            faces.append(TrackedFace(track.face_id, detection.box, detection.points, detection.score))
        return sorted(faces, key=lambda face: face.face_id)

    def _match(
        self, detections: Sequence[Detection], time_s: float, candidates: Sequence["_KalmanTrack"]
    ) -> dict[int, "_KalmanTrack"]:
        """Return the track of each assigned detection, by the index of the detection."""
        if not detections or not candidates:
            return {}
        predicted = np.stack([track.predict(time_s) for track in candidates])  # [tracks, 4]
        detected = np.stack([d.box for d in detections])  # [detections, 4]
        overlaps = overlap(predicted, detected)
        overlaps[overlaps < self.config.min_overlap] = 0.0  # or poor pairs could replace a good one
        _, _, tracks = lap.lapjv(1.0 - overlaps, extend_cost=True)  # track of each detection; -1: none
        return {j: candidates[i] for j, i in enumerate(tracks) if i >= 0 and overlaps[i, j] > 0}


class _KalmanTrack:
    """Constant-velocity Kalman filter on the centre of a face's box; the size is that of the last detection.

    x and y have the same model and are independent, so both share one 2 x 2 covariance. Noise is in units of
    the face (mean side of its box), so that near and far faces are treated in the same way.
    """

    MEASUREMENT_STD = 0.04
    """Standard deviation of the detected centre, in units of the face."""
    ACCELERATION_STD = 6.0
    """Standard deviation of the acceleration of a head, in units of the face per second squared."""
    INITIAL_SPEED_STD = 1.0
    """Standard deviation of the speed of a new face, in units of the face per second."""

    def __init__(self, face_id: int, box: NDArray[np.float32], time_s: float, shot: int) -> None:
        self.face_id, self.shot = face_id, shot
        self.last_seen_s = time_s
        self._size = box[2:].astype(np.float64)  # [2] px
        self._state = np.stack([box[:2] + box[2:] / 2, np.zeros(2)]).astype(
            np.float64
        )  # centre px, speed px/s
        self._covariance = np.diag(
            [self.MEASUREMENT_STD**2, self.INITIAL_SPEED_STD**2]
        )  # of centre and speed, in units of the face

    def predict(self, time_s: float) -> NDArray[np.float64]:
        """Predict the box [4] px at time_s (seconds)."""
        state, _ = self._advance(time_s)
        return np.concatenate([state[0] - self._size / 2, self._size])

    def correct(self, box: NDArray[np.float32], time_s: float) -> None:
        """Update the filter with a detected box [4] px at time_s (seconds)."""
        state, covariance = self._advance(time_s)
        gain = covariance[:, :1] / (covariance[0, 0] + self.MEASUREMENT_STD**2)  # [2, 1]
        self._state = state + gain * (box[:2] + box[2:] / 2 - state[0])
        self._covariance = covariance - gain @ covariance[:1]
        self._size = box[2:].astype(np.float64)
        self.last_seen_s = time_s

    def _advance(self, time_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return state [2, 2] and covariance [2, 2], propagated from the last detection to time_s."""
        dt = max(0.0, time_s - self.last_seen_s)  # times may decrease in broken files
        step = np.array([[1.0, dt], [0.0, 1.0]])
        noise_gain = np.array([[dt * dt / 2], [dt]]) * self.ACCELERATION_STD
        return step @ self._state, step @ self._covariance @ step.T + noise_gain @ noise_gain.T


STRIDE = 8
"""Distance of keyframes, in frames: few faces appear and disappear within a third of a second."""

SLOWEST_HZ, FASTEST_HZ = 23.5, 40.5
"""Ordinary frame rates. `STRIDE` frames are too long a time below them, and needlessly short above."""

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
    """Yield every frame with its faces, in order.

    stride: distance of keyframes, in frames at ordinary rates (`KeyframeTracker`)
    """
    tracker = KeyframeTracker[F](detector, stride)
    for frame in frames:
        yield from tracker.push(frame)
    yield from tracker.finish()


@dataclass(frozen=True, slots=True)
class _Pending(Generic[F]):
    """A frame with its time on the clock of the tracks."""

    frame: F
    time_s: float

    @property
    def image(self) -> NDArray[np.uint8]:
        return self.frame.image


class KeyframeTracker(Generic[F]):
    """Streaming form of `track_faces`: frames are pushed one by one and returned in groups.

    The last frame of a group is a keyframe. A group has `stride` frames. It is shorter if it would last
    longer than `stride` frames at `SLOWEST_HZ`, and longer, up to 2 x `stride` frames, until it lasts as long
    as `stride` frames at `FASTEST_HZ`.
    """

    def __init__(self, detector: Detector, stride: int = STRIDE) -> None:
        self._detector, self._stride = detector, stride
        self._tracker, self._clock = FaceTracker(), TrackingClock()
        self._last_keyframe: FacesAtTime | None = None
        self._keyframe_s = self._last_s = -math.inf  # times of the last keyframe and of the last frame
        self._pending: list[_Pending[F]] = []  # frames after `_last_keyframe`, of one shot
        self._shots, self._shot = ShotCounter(), 0

    def push(self, frame: F) -> list[tuple[F, list[TrackedFace]]]:
        """Add the next frame; return the frames that are complete, with their faces, in order."""
        longest_s = self._stride / SLOWEST_HZ
        shot = self._shots.shot_of(frame.image, frame.time_s)
        is_cut, is_late = shot != self._shot, frame.time_s - self._keyframe_s > longest_s
        complete = self.finish() if is_cut or is_late else []
        if is_cut:
            self._shot, self._last_keyframe = shot, None
        next_s = 2 * frame.time_s - self._last_s  # expected time of the next frame
        self._last_s = frame.time_s
        self._pending.append(_Pending(frame, self._clock.at(frame.time_s)))
        is_long = frame.time_s - self._keyframe_s >= self._stride / FASTEST_HZ
        is_full = is_cut or len(self._pending) >= (self._stride if is_long else 2 * self._stride)
        if is_full or next_s - self._keyframe_s > longest_s:
            complete += self.finish()
        return complete

    def finish(self) -> list[tuple[F, list[TrackedFace]]]:
        """Return the pending frames with their faces, in order; the last of them becomes a keyframe."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        filled = self._fill(self._last_keyframe, pending, self._detector(pending[-1].image))
        self._last_keyframe, self._keyframe_s = filled[-1], pending[-1].frame.time_s
        return [(each.frame, faces) for each, (_, faces) in zip(pending, filled, strict=True)]

    def _fill(
        self, before: FacesAtTime | None, frames: Sequence[_Pending[F]], detections: list[Detection]
    ) -> list[FacesAtTime]:
        """Return the faces of `frames`, given the detections in the last one; advance the tracker."""
        *between, last = frames
        jumped = copy.deepcopy(self._tracker)  # updated with the last frame only; discarded if faces moved
        after = (last.time_s, jumped.update(detections, last.time_s, self._shot))
        if before is None or not between or _nearly_still(before[1], after[1]):
            self._tracker = jumped
            return [*(_interpolate(before, after, f.time_s) for f in between if before), after]
        middle = len(between) // 2
        first = self._fill(before, frames[: middle + 1], self._detect_between(before, after, frames[middle]))
        return first + self._fill(first[-1], frames[middle + 1 :], detections)

    def _detect_between(self, before: FacesAtTime, after: FacesAtTime, frame: TimedImage) -> list[Detection]:
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
