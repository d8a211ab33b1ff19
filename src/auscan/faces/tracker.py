"""Give a face the same number from frame to frame.

Each track predicts where its face should be now (constant velocity, Kalman filter), predictions and
detections are paired so that the boxes overlap most (Hungarian method), and what is left over starts or rests
a track. A track that rests for longer than `max_gap_s` ends: a face that comes back later gets a new number.

In: detections and their time in seconds, frame by frame.  Out: faces with a stable face_id, counted from 0.
Not here: choosing the frames to detect on (keyframe_tracking.py), recognising a person who comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import lap
import numpy as np
from numpy.typing import NDArray

from auscan.faces.detector import Detection, overlap


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """One face in one frame, with the number it keeps through the video."""

    face_id: int
    """Counts up from 0 in the order in which faces appear."""
    box: NDArray[np.float32]
    """[4] x, y, width, height in px."""
    points: NDArray[np.float32]
    """[5, 2] px, as in Detection."""
    score: float
    """The detector's, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """When a track starts, goes on and ends; only FaceTracker reads it."""

    start_score: float = 0.5
    """A new face needs this; a single doubtful box never becomes a person."""
    keep_score: float = 0.35
    """A known face goes on from this: turned away or blurred it is still the same face."""
    min_overlap: float = 0.2
    """A detection further than this (IoU) from where a face should be is not that face."""
    max_gap_s: float = 1.0
    """A face unseen for longer is gone. Seconds, so that a change of frame rate changes nothing."""


class FaceTracker:
    """Follows all faces of one video; call `update` once for each frame, in order."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_KalmanTrack] = []
        self._next_id = 0

    def update(self, detections: Sequence[Detection], time_s: float) -> list[TrackedFace]:
        """The faces of the frame at time_s, by face_id; detections that belong to no face are left out."""
        config = self.config
        self._tracks = [track for track in self._tracks if time_s - track.last_seen_s <= config.max_gap_s]
        detections = [d for d in detections if d.score >= config.keep_score]
        matches = self._match(detections, time_s)

        faces = []
        for i, detection in enumerate(detections):
            track = matches.get(i)
            if track is not None:
                track.correct(detection.box, time_s)
            elif detection.score >= config.start_score:
                track = _KalmanTrack(self._next_id, detection.box, time_s)
                self._next_id += 1
                self._tracks.append(track)
            else:
                continue
            faces.append(TrackedFace(track.face_id, detection.box, detection.points, detection.score))
        return sorted(faces, key=lambda face: face.face_id)

    def _match(self, detections: Sequence[Detection], time_s: float) -> dict[int, "_KalmanTrack"]:
        """Which detection (its index) belongs to which track."""
        if not detections or not self._tracks:
            return {}
        predicted = np.stack([track.predict(time_s) for track in self._tracks])  # [tracks, 4]
        detected = np.stack([d.box for d in detections])  # [detections, 4]
        overlaps = overlap(predicted, detected)
        overlaps[overlaps < self.config.min_overlap] = 0.0  # or many poor pairs could outbid a good one
        _, _, tracks = lap.lapjv(1.0 - overlaps, extend_cost=True)  # of each detection, -1 for none
        return {j: self._tracks[i] for j, i in enumerate(tracks) if i >= 0 and overlaps[i, j] > 0}


class _KalmanTrack:
    """One face's motion: a constant-velocity Kalman filter on the box's centre; the size is the last seen.

    x and y move alike and do not disturb each other, so both share one 2 x 2 covariance. Noise is counted in
    faces (the box's mean side), hence near and far faces are treated alike.
    """

    MEASUREMENT_STD = 0.04
    """Standard deviation of the detector's centre, in faces."""
    ACCELERATION_STD = 6.0
    """Standard deviation of a head's acceleration, in faces per second squared."""
    INITIAL_SPEED_STD = 1.0
    """Standard deviation of the speed of a new face, in faces per second."""

    def __init__(self, face_id: int, box: NDArray[np.float32], time_s: float) -> None:
        self.face_id = face_id
        self.last_seen_s = time_s
        self._size = box[2:].astype(np.float64)  # [2] px
        self._state = np.stack([box[:2] + box[2:] / 2, np.zeros(2)]).astype(
            np.float64
        )  # centre px, speed px/s
        self._covariance = np.diag(
            [self.MEASUREMENT_STD**2, self.INITIAL_SPEED_STD**2]
        )  # of centre and speed, in faces

    def predict(self, time_s: float) -> NDArray[np.float64]:
        """The box [4] px where the face should be at time_s."""
        state, _ = self._advance(time_s)
        return np.concatenate([state[0] - self._size / 2, self._size])

    def correct(self, box: NDArray[np.float32], time_s: float) -> None:
        """Learn that the face was seen in this box [4] px at time_s."""
        state, covariance = self._advance(time_s)
        gain = covariance[:, :1] / (covariance[0, 0] + self.MEASUREMENT_STD**2)  # [2, 1]
        self._state = state + gain * (box[:2] + box[2:] / 2 - state[0])
        self._covariance = covariance - gain @ covariance[:1]
        self._size = box[2:].astype(np.float64)
        self.last_seen_s = time_s

    def _advance(self, time_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """State [2, 2] and covariance [2, 2] carried from the last sighting to time_s."""
        dt = max(0.0, time_s - self.last_seen_s)  # broken files may step back in time
        step = np.array([[1.0, dt], [0.0, 1.0]])
        noise_gain = np.array([[dt * dt / 2], [dt]]) * self.ACCELERATION_STD
        return step @ self._state, step @ self._covariance @ step.T + noise_gain @ noise_gain.T
