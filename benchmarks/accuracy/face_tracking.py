"""Compare face detection and tracking with the teacher (MediaPipe Face Landmarker) on stills and clips.

    python benchmarks/accuracy/face_tracking.py --data ../shared/data

Prints the stills, then a row for each clip, then all clips together. Columns, over the frames with a face by
the teacher unless stated otherwise:

    found       share of frames with the teacher's face: a mean point error below half the eye distance
    error       mean error of the five points over the eye distance
    one id      share of frames with the most frequent face_id
    face        share of all frames with any face
    ids         number of face_ids
    ms/frame    detector time
    runs, near  detector runs a frame on the whole picture, and near a known face
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.faces.detector import Detection, FaceDetector
from auscan.faces.tracking import STRIDE, track_faces
from auscan.media.video import read_frames

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
FOUND_WITHIN = 0.5
"""Maximum mean point error over eye distance at which a face is the teacher's."""
EXCLUDED_CLIPS = ("lp_s13",)
"""Clips left out of the share found, because the teacher found no face in them."""
SEVERAL_FACES = ("vx_", "lp_s13")
"""Clips with several faces, left out of the point error: the teacher may track another face."""


@dataclass
class TrackingCounts:
    """Counts of one clip."""

    frames: int = 0
    with_face: int = 0
    """Frames with any face."""
    teacher: int = 0
    """Frames with a face by the teacher."""
    errors: list[float] = field(default_factory=list)
    """Point error over eye distance of each frame with the teacher's face."""
    ids: Counter[int] = field(default_factory=Counter)
    """Frames of each face_id that is the teacher's face."""
    all_ids: set[int] = field(default_factory=set)


class TimedDetector:
    """A face detector that counts and times its runs."""

    def __init__(self, detector: FaceDetector) -> None:
        self.detector, self.runs, self.near_runs, self.seconds = detector, 0, 0, 0.0

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        start = time.perf_counter()
        faces = self.detector(image)
        self.seconds += time.perf_counter() - start
        self.runs += 1
        return faces

    def detect_near(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> Detection | None:
        """Count and time a run near a known face."""
        start = time.perf_counter()
        face = self.detector.detect_near(image, box)
        self.seconds += time.perf_counter() - start
        self.near_runs += 1
        return face


def point_error(ours: NDArray[np.floating], teacher: NDArray[np.floating]) -> float:
    """Compute the mean distance of two sets of points [5, 2] over the teacher's eye distance."""
    return float(np.linalg.norm(ours - teacher, axis=1).mean() / np.linalg.norm(teacher[0] - teacher[1]))


def compare_clip(path: Path, teacher: pd.DataFrame, detector: TimedDetector, stride: int) -> TrackingCounts:
    """Track the faces of one clip and compare them with the teacher's rows, frame by frame."""
    counts = TrackingCounts()
    teacher = teacher.reindex(columns=["found", *COLUMNS])  # clips without a face have no columns of points
    found = teacher["found"].to_numpy(dtype=bool)
    points = teacher[COLUMNS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    for frame, faces in track_faces(read_frames(path), detector, stride=stride):
        counts.frames += 1
        counts.with_face += bool(faces)
        counts.all_ids.update(face.face_id for face in faces)
        if not found[frame.index]:
            continue
        counts.teacher += 1
        if faces:
            errors = [point_error(face.points, points[frame.index]) for face in faces]
            best = int(np.argmin(errors))
            if errors[best] < FOUND_WITHIN:
                counts.errors.append(errors[best])
                counts.ids[faces[best].face_id] += 1
    return counts


def compare_clips(data: Path, detector: TimedDetector, stride: int) -> None:
    """Print the table of all clips and the totals."""
    print("clip         frames   found   error  one id    face  ids ms/frame   runs    near")
    counts_by_clip: dict[str, TrackingCounts] = {}
    for file in sorted((data / "clips_teacher").glob("*.parquet")):
        path = next((data / "clips").glob(f"{file.stem}.*"))
        runs, near_runs, seconds = detector.runs, detector.near_runs, detector.seconds
        counts = counts_by_clip[file.stem] = compare_clip(path, pd.read_parquet(file), detector, stride)
        share = len(counts.errors) / counts.teacher if counts.teacher else float("nan")
        one_id = max(counts.ids.values(), default=0) / counts.teacher if counts.teacher else float("nan")
        error = float(np.mean(counts.errors)) if counts.errors else float("nan")
        cost_ms = (detector.seconds - seconds) / counts.frames * 1000
        print(
            f"{file.stem:12} {counts.frames:6d} {share:7.1%} {error:7.1%} {one_id:7.1%} "
            f"{counts.with_face / counts.frames:7.1%} {len(counts.all_ids):4d} {cost_ms:8.1f} "
            f"{(detector.runs - runs) / counts.frames:6.0%} "
            f"{(detector.near_runs - near_runs) / counts.frames:7.0%}",
            flush=True,
        )
    included = [counts for name, counts in counts_by_clip.items() if name not in EXCLUDED_CLIPS]
    found, teacher = sum(len(t.errors) for t in included), sum(t.teacher for t in included)
    single = [e for name, t in counts_by_clip.items() if not name.startswith(SEVERAL_FACES) for e in t.errors]
    frames = sum(t.frames for t in counts_by_clip.values())
    print(
        f"\nfound in {found / teacher:.2%} of the teacher's {teacher} frames "
        f"(without {', '.join(EXCLUDED_CLIPS)})"
    )
    print(f"mean five-point error {np.mean(single):.2%} of the eye distance (clips with one face)")
    print(
        f"detector: {detector.seconds / frames * 1000:.1f} ms a frame; the whole picture in "
        f"{detector.runs / frames:.0%} of the frames, {detector.near_runs / frames:.0%} runs near a face"
    )


def compare_stills(file: Path, detector: TimedDetector, count: int | None) -> None:
    """Print the share of stills of a faces_*.parquet in which the face was found, and the point error."""
    stills = pd.read_parquet(file, columns=["jpeg", *COLUMNS])
    stills = stills.sample(count, random_state=0) if count and count < len(stills) else stills
    points = stills[COLUMNS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    errors = []
    for jpeg, teacher in zip(stills["jpeg"], points, strict=True):
        image = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
        _, tracked = next(track_faces([Still(image)], detector))
        errors.append(min((point_error(face.points, teacher) for face in tracked), default=float("inf")))
    found = np.array(errors) < FOUND_WITHIN
    print(
        f"{file.stem}: found in {found.mean():.2%} of {len(found)}, "
        f"mean five-point error {np.mean(np.array(errors)[found]):.2%}"
    )


@dataclass(frozen=True)
class Still:
    """A video of one frame."""

    image: NDArray[np.uint8]
    time_s: float = 0.0


def main() -> None:
    """Parse arguments and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with clips/, clips_teacher/ and faces_*.parquet"
    )
    parser.add_argument("--longest-side", type=int, help="longest side of frames for the detector, px")
    parser.add_argument(
        "--stride", type=int, default=STRIDE, help="largest distance of two detections, frames"
    )
    parser.add_argument("--stills", default="faces_val", help="stills: faces_val or faces_train")
    parser.add_argument("--count", type=int, help="number of stills, drawn at random; all by default")
    args = parser.parse_args()
    detector = FaceDetector(args.longest_side) if args.longest_side else FaceDetector()
    compare_stills(args.data / f"{args.stills}.parquet", TimedDetector(detector), args.count)
    compare_clips(args.data, TimedDetector(detector), args.stride)


if __name__ == "__main__":
    main()
