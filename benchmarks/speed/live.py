"""Measure the difference between live and offline probabilities on clips.

    python benchmarks/speed/live.py --data ../shared/data [--lag 0.5 inf]

Prints a row for each clip and lag: mean and largest absolute difference over frames, faces and trained AUs.
Frames and audio are pushed in the order of the file; none is dropped.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.media.stream import read_stream
from auscan.media.video import Frame
from auscan.pipeline.detect import detect
from auscan.pipeline.live import LiveDetector, Row


def run_live(path: Path, engine: InferenceEngine, lag_s: float) -> list[Row]:
    """Run a file through the live detector. Return all rows."""
    rows: list[Row] = []
    with LiveDetector(engine, lag_s=lag_s) as live:
        for item in read_stream(str(path)):
            if isinstance(item, Frame):
                rows += live.push(item.image, item.time_s)
            else:
                live.push_audio(item)
        return rows + live.finish()


def differences(path: Path, engine: InferenceEngine, lags_s: list[float]) -> list[NDArray[np.float64]]:
    """Return, for each lag, |live - offline| [n] of every frame, face and trained AU of a clip."""
    table = detect(path, model=engine).table
    offline = table[list(AFFWILD2_AUS)].to_numpy(np.float64)
    found = []
    for lag_s in lags_s:
        rows = run_live(path, engine, lag_s)
        keys = [(row["frame"], row["face_id"]) for row in rows]
        if keys != list(zip(table["frame"], table["face_id"], strict=True)):
            raise SystemExit(f"{path.name}: the rows (frame, face_id) of live and offline differ.")
        live = np.array(
            [[np.nan if row[n] is None else row[n] for n in AFFWILD2_AUS] for row in rows], np.float64
        )
        gap = np.abs(live - offline)
        found.append(gap[~np.isnan(gap)])
    return found


def main() -> None:
    """Run all clips and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/")
    parser.add_argument("--clips", nargs="+", help="clips to run, by name without suffix; all by default")
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--lag", type=float, nargs="+", default=[0.5, math.inf], help="lags, seconds")
    args = parser.parse_args()
    engine = load_engine(args.model)
    gaps_by_lag: list[list[NDArray[np.float64]]] = [[] for _ in args.lag]
    print("clip             lag s    mean  largest")
    for path in sorted((args.data / "clips").glob("*.m*")):
        if args.clips and path.stem not in args.clips:
            continue
        for lag, gaps, gap in zip(args.lag, gaps_by_lag, differences(path, engine, args.lag), strict=True):
            gaps.append(gap)
            if len(gap):
                print(f"{path.name:16} {lag:5g} {gap.mean():7.5f} {gap.max():8.5f}", flush=True)
    for lag, gaps in zip(args.lag, gaps_by_lag, strict=True):
        every = np.concatenate(gaps)
        print(f"all clips        {lag:5g} {every.mean():7.5f} {every.max():8.5f}")


if __name__ == "__main__":
    main()
