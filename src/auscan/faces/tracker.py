"""Assign face_ids: track faces over frames.

Each track predicts the box of its face (constant velocity, Kalman filter). Predictions and detections are
assigned so that the total overlap of boxes is largest (Hungarian method). An unassigned detection starts a
track. A track without a detection for more than `max_gap_s` ends; if the face returns later, it gets a new
face_id. Persons are not recognized.

Inputs: detections and their time in seconds, frame by frame. Returns: faces with a stable face_id, counted
from 0.
See also: keyframe_tracking.py (chooses the frames for detection).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import lap
import numpy as np
from numpy.typing import NDArray

from auscan.faces.detector import Detection, overlap


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


class FaceTracker:
    """Tracker of all faces of one video; call `update` once per frame, in order."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_KalmanTrack] = []
        self._next_id = 0

    def update(self, detections: Sequence[Detection], time_s: float) -> list[TrackedFace]:
        """Return the tracked faces of the frame at time_s (seconds), sorted by face_id."""
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
        """Return the track of each assigned detection, by the index of the detection."""
        if not detections or not self._tracks:
            return {}
        predicted = np.stack([track.predict(time_s) for track in self._tracks])  # [tracks, 4]
        detected = np.stack([d.box for d in detections])  # [detections, 4]
        overlaps = overlap(predicted, detected)
        overlaps[overlaps < self.config.min_overlap] = 0.0  # or poor pairs could replace a good one
        _, _, tracks = lap.lapjv(1.0 - overlaps, extend_cost=True)  # track of each detection; -1: none
        return {j: self._tracks[i] for j, i in enumerate(tracks) if i >= 0 and overlaps[i, j] > 0}


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

    def __init__(self, face_id: int, box: NDArray[np.float32], time_s: float) -> None:
        self.face_id = face_id
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
