"""Fine-tune nano on rendered people whose coder marks three AUs earlier than usual, and on nano's own labels.

    python benchmarks/accuracy/finetune.py [--people 40] [--seconds 30] [--work FOLDER] [--workers 2]
        [--null] [--write FILE]

The people are rendered with the built-in face of auscan.datasets.synth, which nano was not trained on, so the
movement of each AU is known exactly. The coder calls an AU active from half of its movement on, as
`auscan synth` does, but SHIFTED from SHIFTED_LEVEL on. Labels are one CSV a video, read as one's own labels.
`auscan finetune` runs as a user runs it, with two threads.

--null: the labels are the decisions of nano itself, so there is nothing to gain.

Inputs: none. Returns: the report of auscan finetune (F1 before and after on people that were not trained on),
the means of the shifted and of the other AUs, and the minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import auscan
from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.index import read_index
from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.dynamics import LABEL_LEVEL
from auscan.datasets.synth.plan import RecordingCase, VideoPlan
from auscan.datasets.synth.video import make_video
from auscan.training.finetune_report import compare

SHIFTED = ("AU10", "AU12", "AU26")
"""AUs whose rule differs. A first run with AU02, AU04 and AU15 gained nothing: see docs/finetune.md."""
SHIFTED_LEVEL = 0.3
"""Movement from which the coder calls these active."""
RATE_HZ = 30.0
SEED = 1717
THREADS = 2


def main() -> None:
    """Render the people, run auscan finetune, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each video")
    parser.add_argument("--work", type=Path, help="folder that keeps videos, features and models")
    parser.add_argument("--workers", type=int, default=2, help="videos rendered in parallel")
    parser.add_argument("--null", action="store_true", help="labels are the decisions of nano")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(
            options.work or Path(temporary), options.people, options.seconds, options.workers, options.null
        )
    text = json.dumps(figures, indent=1)
    print(text)
    if options.write is not None:
        options.write.write_text(text + "\n", encoding="utf-8")


def run(work: Path, people: int, seconds: float, workers: int, null: bool) -> dict[str, Any]:
    """Return the report of auscan finetune, with means of the shifted and of the other AUs."""
    render(work / "data", people, seconds, workers)
    labels = work / ("null_labels" if null else "labels")
    (write_null_labels if null else write_labels)(work / "data", labels)
    out = work / ("null_model" if null else "model")
    features = work / "model.work" / "features"
    if null and features.is_dir():  # the same videos and encoders
        shutil.copytree(features, work / "null_model.work" / "features", dirs_exist_ok=True)
    began_s = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    command = [
        "finetune",
        "--labels",
        str(labels),
        "--videos",
        str(work / "data" / "batch1"),
        "--out",
        str(out),
    ]
    call = "import sys; from auscan.cli.main import main; sys.argv[0] = 'auscan'; main()"
    subprocess.run([sys.executable, "-c", call, *command], check=True, env=environment)
    report = json.loads((out.with_name(f"{out.name}.work") / "finetune.json").read_text(encoding="utf-8"))
    minutes = (time.monotonic() - began_s) / 60
    return {**report, "wall_min": round(minutes, 1), **group_means(out.with_name(f"{out.name}.work"))}


def group_means(work: Path) -> dict[str, Any]:
    """Return the mean F1 of the shifted and of the other AUs before and after, with an interval."""
    index = read_index(work / "index")
    before, after = (pd.read_parquet(work / f"decisions_{name}.parquet") for name in ("before", "after"))
    others = tuple(au for au in AFFWILD2_AUS if au not in SHIFTED)
    found = {
        name: compare(index, before, after, aus) for name, aus in (("shifted", SHIFTED), ("others", others))
    }
    return {
        name: {"before": each.mean_before, "after": each.mean_after, "interval": each.mean_interval}
        for name, each in found.items()
    }


def render(folder: Path, people: int, seconds: float, workers: int) -> None:
    """Write a video and the true movement of each person; those that exist are kept."""
    pending = [plan for plan in plans(people, seconds) if not (folder / f"{plan.name}.parquet").exists()]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(render_one, folder), pending))


def plans(people: int, seconds: float) -> list[VideoPlan]:
    """Return the plan of each person's video."""
    return [
        VideoPlan(
            name=f"person{number:02d}",
            case=RecordingCase(missing="none", surplus=0),
            split="test",
            batch="batch1",
            seconds=seconds,
            rate_hz=RATE_HZ,
            width=320,
            height=240,
            seed=(SEED, 3, number, 0),
            person_seed=(SEED, 4, number),
            tracks=(f"person{number:02d}",),
        )
        for number in range(people)
    ]


def render_one(folder: Path, plan: VideoPlan) -> None:
    """Render one video; write the movement of its AUs beside it."""
    video = make_video(plan, builtin_face(), folder)
    video.frames[["number", *AFFWILD2_AUS]].to_parquet(folder / f"{plan.name}.parquet")


def write_labels(data: Path, folder: Path) -> None:
    """Write the coder's file of each video: a row for each frame, 1 from the level of the AU on."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = np.array([SHIFTED_LEVEL if au in SHIFTED else LABEL_LEVEL for au in AFFWILD2_AUS])
    for path in sorted(data.glob("*.parquet")):
        truth = pd.read_parquet(path)
        labels = pd.DataFrame(
            (truth[list(AFFWILD2_AUS)].to_numpy() >= levels).astype(int), columns=AFFWILD2_AUS
        )
        labels.insert(0, "frame", truth["number"].to_numpy())
        labels.to_csv(folder / f"{path.stem}.csv", index=False)


def write_null_labels(data: Path, folder: Path) -> None:
    """Write the decisions of nano as labels; frames that it does not score are not coded."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((data / "batch1").glob("*.mp4")):
        table = auscan.detect(path).table
        table = (
            table.assign(size=table["w"] * table["h"])
            .sort_values("size")
            .drop_duplicates("frame", keep="last")
        )
        labels = table[[f"{au}_c" for au in AFFWILD2_AUS]].set_axis(list(AFFWILD2_AUS), axis=1)
        labels = labels.astype("Int8")
        labels.insert(0, "frame", table["frame"].to_numpy() + 1)
        labels.sort_values("frame").to_csv(folder / f"{path.stem}.csv", index=False)


if __name__ == "__main__":
    main()
