"""Check timestamps, faces and points of `auscan.detect` on clips.

    python benchmarks/accuracy/clips.py --data ../shared/data

Prints a row for each clip: frames; whether all timestamps equal those of a plain PyAV decode; share of frames
with a face; share of the teacher's frames in which its face was found; share of them with the most frequent
face_id; mean error of the five points (refined by the network) over the eye distance; number of face_ids;
frames a second.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.pipeline.detect import detect
from auscan.results.result import Result
from auscan.results.table import frame_times_s
from benchmarks.accuracy.face_tracking import (
    COLUMNS,
    EXCLUDED_CLIPS,
    FOUND_WITHIN,
    SEVERAL_FACES,
    point_error,
)


def plain_times_s(path: Path) -> NDArray[np.float64]:
    """Decode presentation times with PyAV: [F] seconds."""
    with av.open(str(path)) as container:
        return np.asarray([frame.time for frame in container.decode(video=0)], dtype=np.float64)


def compare_with_teacher(result: Result, teacher: pd.DataFrame) -> tuple[list[float], Counter[int], int]:
    """Return the point errors of faces found, their face_ids, and the teacher's number of frames."""
    teacher = teacher.reindex(columns=["found", *COLUMNS])
    points = teacher[COLUMNS].to_numpy(np.float64).reshape(-1, 5, 2)
    found = np.flatnonzero(teacher["found"].to_numpy(bool))
    ours: dict[int, list[tuple[float, int]]] = {int(frame): [] for frame in found}
    for track in result.tracks:
        for frame, five in zip(track.frames, track.points, strict=True):
            if int(frame) in ours:
                ours[int(frame)].append((point_error(five, points[frame]), track.face_id))
    best = [min(faces) for faces in ours.values() if faces and min(faces)[0] < FOUND_WITHIN]
    return [error for error, _ in best], Counter(face_id for _, face_id in best), len(found)


def report_clip(path: Path, teacher: Path, engine: InferenceEngine) -> tuple[list[float], int]:
    """Print the row of one clip. Return its point errors and the teacher's number of frames."""
    result = detect(path, model=engine)
    errors, ids, teacher_frames = compare_with_teacher(result, pd.read_parquet(teacher))
    same = np.array_equal(frame_times_s(result.table), plain_times_s(path))
    share = len(errors) / teacher_frames if teacher_frames else float("nan")
    one_id = max(ids.values(), default=0) / teacher_frames if teacher_frames else float("nan")
    error = float(np.mean(errors)) if errors else float("nan")
    coverage, speed = result.summary()["coverage"], result.info.frames / result.info.seconds
    times = "same" if same else "DIFFER"
    print(
        f"{path.name:16} {result.info.frames:6d} {times:>6} {coverage:7.1%} {share:7.1%} "
        f"{one_id:7.1%} {error:7.1%} {len(result.tracks):4d} {speed:6.0f}",
        flush=True,
    )
    return errors, teacher_frames


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and clips_teacher/")
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    args = parser.parse_args()
    engine = load_engine(args.model)
    print("clip             frames  times    face   found  one id   error  ids    fps")
    found, teacher_frames, errors = 0, 0, list[float]()
    for teacher in sorted((args.data / "clips_teacher").glob("*.parquet")):
        path = next((args.data / "clips").glob(f"{teacher.stem}.*"))
        clip_errors, clip_teacher_frames = report_clip(path, teacher, engine)
        if teacher.stem not in EXCLUDED_CLIPS:
            found, teacher_frames = found + len(clip_errors), teacher_frames + clip_teacher_frames
        if not teacher.stem.startswith(SEVERAL_FACES):
            errors += clip_errors
    print(
        f"\nfound in {found / teacher_frames:.2%} of the teacher's {teacher_frames} frames "
        f"(without {', '.join(EXCLUDED_CLIPS)})"
    )
    print(f"mean five-point error {np.mean(errors):.2%} of the eye distance (clips with one face)")


if __name__ == "__main__":
    main()
