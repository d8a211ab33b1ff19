"""Does `auscan.detect` give every frame its time and its faces on the shared clips?

    python benchmarks/clips.py --data ../shared/data

A line a clip: frames, whether all timestamps equal those of a plain PyAV decode, the share of frames with a
face, the share of the teacher's frames in which we found its face, the share of them that the best single
face_id covers, and the mean error of the five points (as refined by the network) over the eye distance.
"""

import argparse
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pandas as pd
from faces import COLUMNS, FOUND_WITHIN, SEVERAL_FACES, UNJUDGED, point_error
from numpy.typing import NDArray

from auscan.inference.stages import Stages, load
from auscan.pipeline.detect import detect
from auscan.results.result import Result
from auscan.results.table import frame_times_s


def plain_times_s(path: Path) -> NDArray[np.float64]:
    """Presentation times that PyAV itself gives: [F] seconds."""
    with av.open(str(path)) as container:
        return np.asarray([frame.time for frame in container.decode(video=0)], dtype=np.float64)


def judge(result: Result, teacher: pd.DataFrame) -> tuple[list[float], Counter[int], int]:
    """Point errors where we found the teacher's face, the face_ids there, and how often there was one."""
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


def report_clip(path: Path, teacher: Path, stages: Stages) -> tuple[list[float], int]:
    """Print the line of one clip; returns its point errors and the number of the teacher's frames."""
    result = detect(path, model=stages)
    errors, ids, wanted = judge(result, pd.read_parquet(teacher))
    same = np.array_equal(frame_times_s(result.table), plain_times_s(path))
    share = len(errors) / wanted if wanted else float("nan")
    one_id = max(ids.values(), default=0) / wanted if wanted else float("nan")
    error = float(np.mean(errors)) if errors else float("nan")
    coverage, speed = result.summary()["coverage"], result.info.frames / result.info.seconds
    times = "same" if same else "DIFFER"
    print(
        f"{path.name:16} {result.info.frames:6d} {times:>6} {coverage:7.1%} {share:7.1%} "
        f"{one_id:7.1%} {error:7.1%} {len(result.tracks):4d} {speed:6.0f}",
        flush=True,
    )
    return errors, wanted


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and clips_teacher/")
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    stages = load(args.model)
    print("clip             frames  times    face   found  one id   error  ids    fps")
    found, wanted, errors = 0, 0, list[float]()
    for teacher in sorted((args.data / "clips_teacher").glob("*.parquet")):
        path = next((args.data / "clips").glob(f"{teacher.stem}.*"))
        clip_errors, clip_wanted = report_clip(path, teacher, stages)
        if teacher.stem not in UNJUDGED:
            found, wanted = found + len(clip_errors), wanted + clip_wanted
        if not teacher.stem.startswith(SEVERAL_FACES):
            errors += clip_errors
    print(f"\nfound in {found / wanted:.2%} of the teacher's {wanted} frames (without {', '.join(UNJUDGED)})")
    print(f"mean five-point error {np.mean(errors):.2%} of the eye distance (clips with one face)")


if __name__ == "__main__":
    main()
