"""Do we find and follow the faces that the teacher finds, and do our points agree with the teacher's?

    python benchmarks/faces.py --data ../shared/data

First the stills. Then a line per clip: the share of the teacher's frames in which we found the face too (the
nearest face's mean point error is below half the distance between the eyes), the mean five-point error over
that distance, the share of the teacher's frames covered by the single best face_id, the share of all frames
with any face, the number of face_ids, how long the detector ran a frame, and how often a frame it saw the
whole picture or glanced at a face. Then all clips together.
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
from auscan.faces.follow import STRIDE, follow_faces
from auscan.media.video import read_frames

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
FOUND_WITHIN = 0.5
"""A face further than this from the teacher's (mean point error over eye distance) is another face."""
UNJUDGED = ("lp_s13",)
"""Clips left out of the share found, as the acceptance says: the teacher found nothing there."""
SEVERAL_FACES = ("vx_", "lp_s13")
"""Clips with several faces are left out of the point error: the teacher may follow another one."""


@dataclass
class Tally:
    """What happened in one clip."""

    frames: int = 0
    with_face: int = 0
    teacher: int = 0
    errors: list[float] = field(default_factory=list)
    """Point errors over eye distance, one for each teacher's frame in which we found the face."""
    ids: Counter[int] = field(default_factory=Counter)
    all_ids: set[int] = field(default_factory=set)


class TimedDetector:
    """A detector that keeps count of its runs."""

    def __init__(self, detector: FaceDetector) -> None:
        self.detector, self.runs, self.glances, self.seconds = detector, 0, 0, 0.0

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        start = time.perf_counter()
        faces = self.detector(image)
        self.seconds += time.perf_counter() - start
        self.runs += 1
        return faces

    def near(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> Detection | None:
        start = time.perf_counter()
        face = self.detector.near(image, box)
        self.seconds += time.perf_counter() - start
        self.glances += 1
        return face


def point_error(ours: NDArray[np.floating], teacher: NDArray[np.floating]) -> float:
    """Mean distance of two sets of points [5, 2] over the teacher's distance between the eyes."""
    return float(np.linalg.norm(ours - teacher, axis=1).mean() / np.linalg.norm(teacher[0] - teacher[1]))


def judge_clip(path: Path, teacher: pd.DataFrame, detector: TimedDetector, stride: int) -> Tally:
    """Follow the faces of one clip and hold them against the teacher's rows, frame by frame."""
    tally = Tally()
    teacher = teacher.reindex(columns=["found", *COLUMNS])  # no points at all where no face was found
    found = teacher["found"].to_numpy(dtype=bool)
    points = teacher[COLUMNS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    for frame, faces in follow_faces(read_frames(path), detector, stride=stride):
        tally.frames += 1
        tally.with_face += bool(faces)
        tally.all_ids.update(face.face_id for face in faces)
        if not found[frame.index]:
            continue
        tally.teacher += 1
        if faces:
            errors = [point_error(face.points, points[frame.index]) for face in faces]
            best = int(np.argmin(errors))
            if errors[best] < FOUND_WITHIN:
                tally.errors.append(errors[best])
                tally.ids[faces[best].face_id] += 1
    return tally


def judge_clips(data: Path, detector: TimedDetector, stride: int) -> None:
    """Print the table of all clips and the figures that the acceptance asks for."""
    print("clip         frames   found   error  one id    face  ids ms/frame   runs glances")
    tallies: dict[str, Tally] = {}
    for file in sorted((data / "clips_teacher").glob("*.parquet")):
        path = next((data / "clips").glob(f"{file.stem}.*"))
        runs, glances, seconds = detector.runs, detector.glances, detector.seconds
        tally = tallies[file.stem] = judge_clip(path, pd.read_parquet(file), detector, stride)
        share = len(tally.errors) / tally.teacher if tally.teacher else float("nan")
        one_id = max(tally.ids.values(), default=0) / tally.teacher if tally.teacher else float("nan")
        error = float(np.mean(tally.errors)) if tally.errors else float("nan")
        cost_ms = (detector.seconds - seconds) / tally.frames * 1000
        print(
            f"{file.stem:12} {tally.frames:6d} {share:7.1%} {error:7.1%} {one_id:7.1%} "
            f"{tally.with_face / tally.frames:7.1%} {len(tally.all_ids):4d} {cost_ms:8.1f} "
            f"{(detector.runs - runs) / tally.frames:6.0%} "
            f"{(detector.glances - glances) / tally.frames:7.0%}",
            flush=True,
        )
    judged = [tally for name, tally in tallies.items() if name not in UNJUDGED]
    found, teacher = sum(len(t.errors) for t in judged), sum(t.teacher for t in judged)
    single = [e for name, t in tallies.items() if not name.startswith(SEVERAL_FACES) for e in t.errors]
    frames = sum(t.frames for t in tallies.values())
    print(
        f"\nfound in {found / teacher:.2%} of the teacher's {teacher} frames (without {', '.join(UNJUDGED)})"
    )
    print(f"mean five-point error {np.mean(single):.2%} of the eye distance (clips with one face)")
    print(
        f"detector: {detector.seconds / frames * 1000:.1f} ms a frame; the whole picture in "
        f"{detector.runs / frames:.0%} of the frames, {detector.glances / frames:.0%} glances"
    )


def judge_stills(file: Path, detector: TimedDetector, count: int | None) -> None:
    """Print how many stills of a faces_*.parquet have their face found, and the point error."""
    stills = pd.read_parquet(file, columns=["jpeg", *COLUMNS])
    stills = stills.sample(count, random_state=0) if count and count < len(stills) else stills
    points = stills[COLUMNS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    errors = []
    for jpeg, teacher in zip(stills["jpeg"], points, strict=True):
        image = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
        _, tracked = next(follow_faces([Still(image)], detector))
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
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with clips/, clips_teacher/ and faces_*.parquet"
    )
    parser.add_argument("--longest-side", type=int, help="px the detector reduces frames to")
    parser.add_argument("--stride", type=int, default=STRIDE, help="detect at least at every stride-th frame")
    parser.add_argument("--stills", default="faces_val", help="which stills: faces_val or faces_train")
    parser.add_argument("--count", type=int, help="only so many of the stills, drawn at random")
    args = parser.parse_args()
    detector = FaceDetector(args.longest_side) if args.longest_side else FaceDetector()
    judge_stills(args.data / f"{args.stills}.parquet", TimedDetector(detector), args.count)
    judge_clips(args.data, TimedDetector(detector), args.stride)


if __name__ == "__main__":
    main()
