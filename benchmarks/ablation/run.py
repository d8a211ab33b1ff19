"""Ablate the parts of the network on rendered faces with exact labels.

    python benchmarks/ablation/run.py WORK [--seeds 5] [--write]

Render people under hard conditions (`CONDITIONS`), extract features with the encoders of the shipped nano,
train each network of `ARMS` on them with each seed, and score the test people with their own, with no and
with another track's sound. Encoders are not fine-tuned, so the figures compare the parts, not the final
accuracy. Seeds are the outer loop: an interrupted run has whole seeds, and resumes. --write writes
docs/benchmarks/ablation.md from the finished seeds. One process on one core needs about 15 minutes for the
data and half an hour a seed. Needs `pip install '.[train]'`.

See also: hearing.py (scoring one network), scores.py (conditions, intervals), report.py (tables).
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for benchmarks
from auscan.batch.extract import Extraction
from auscan.datasets.index import read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.plan import Conditions, RecordingCase, VideoPlan
from auscan.datasets.synth.writer import write_videos
from auscan.training.config import check_train_config
from auscan.training.find_encoders import find_encoders
from auscan.training.loop import train
from benchmarks.ablation.hearing import score_network
from benchmarks.ablation.report import write_report

VIDEOS: Final = {"train": 30, "val": 6, "test": 16}
"""Videos of each split, each of another person."""
SECONDS: Final = 40.0
RATE_HZ: Final = 25.0
SIDE_PX: Final = 192
"""Width and height of the videos."""
SEED: Final = 16
"""Seed of the data."""
CONDITIONS: Final = Conditions(
    covered_speech=0.33, blank_every_s=30.0, occluders=("hand", "microphone", "card")
)
"""Further occlusions at random times cover the mouth in 40 % of speech in total."""
OTHER_VOICE: Final = 0.5
"""Share of the covered utterances of test videos with another person's voice. Training videos have none: with
such a voice in half of the covered speech a network learns to ignore sound where it is needed."""
ARMS: Final[dict[str, dict[str, Any]]] = {
    "full": {},
    "without the late path": {"late_path": False},
    "global token": {"visual": "global"},
    "gates without targets": {"covers": 0.0},
}
"""Settings of the full network, of networks without one part, and with a similar part in its place."""


def main() -> None:
    """Run the missing steps, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for data, runs and scores")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each network")
    parser.add_argument("--write", action="store_true", help="write the report into docs/benchmarks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_features(args.work)
    for seed in range(args.seeds):
        for name in ARMS:
            train_and_score(args.work, name, seed)
    write_report(args.work, list(ARMS), Path("docs/benchmarks") if args.write else args.work)


def make_features(work: Path) -> None:
    """Render and index the videos, and extract features on nano's full grid."""
    data = work / "data"
    if not (data / "truth" / "settings.json").exists():
        print(f"rendering {data}", flush=True)
        settings = {"videos": VIDEOS, "seconds": SECONDS, "rate_hz": RATE_HZ, "seed": SEED}
        write_videos(data, plan_videos(), SEED, settings)
    if not (work / "index" / "report.json").exists():
        prepare(data, work / "index")
    extraction = Extraction(read_index(work / "index"), find_encoders("nano"), work / "cache", grid=7)
    if extraction.pending:
        print(f"features of {len(extraction.pending)} tracks", flush=True)
        extraction.run_here()


def plan_videos() -> list[VideoPlan]:
    """Plan the videos; a constant frame rate and complete pictures, because only the network is compared."""
    case = RecordingCase(missing="none", surplus=0)
    plan = VideoPlan(
        name="",
        case=case,
        split="",
        batch="batch1",
        seconds=SECONDS,
        rate_hz=RATE_HZ,
        width=SIDE_PX,
        height=SIDE_PX,
        seed=(),
        person_seed=(),
        conditions=CONDITIONS,
    )
    splits = [split for split, count in VIDEOS.items() for _ in range(count)]
    test_conditions = replace(CONDITIONS, other_voice=OTHER_VOICE)
    return [
        replace(
            plan,
            conditions=test_conditions if split == "test" else CONDITIONS,
            name=f"video{1001 + number}",
            split=split,
            seed=(SEED, 3, number),
            person_seed=(SEED, 4, number),
            tracks=(f"video{1001 + number}",),
        )
        for number, split in enumerate(splits)
    ]


def network_settings(work: Path, name: str, seed: int) -> dict[str, Any]:
    """Return the training settings of one network."""
    controls = dict(ARMS[name])
    covers = controls.pop("covers", 0.1)
    return {
        "out": work / "runs" / f"{name} {seed}",
        "seed": seed,
        "data": {"index": work / "index", "cache": work / "cache", "length": 250, "stride": 250},
        "model": {
            "size": "nano",
            "alignment": {"width": 64, "au_width": 16, "heads": 4},
            "temporal": {"head_width": 16, "state_width": 16, "blocks": 2},
            "controls": controls,
        },
        "loss": {"covers": covers},
        "dropout": {"no_sound": 0.3, "other_sound": 0.0},
        "optimizer": {"rate": 2e-3, "average": 0.98},
        "loop": {"epochs": 8, "batch": 1, "patience": 3, "device": "cpu", "stop_at": "tuned"},
    }


def train_and_score(work: Path, name: str, seed: int) -> None:
    """Train one network, unless it is finished, and score the test tracks."""
    config = check_train_config(network_settings(work, name, seed), name)
    if not (config.out / "scores" / "val.parquet").exists():
        print(f"{name}, seed {seed}", flush=True)
        train(config, partial(print, flush=True))
    if not (config.out / "test.parquet").exists():
        score_network(config.out, work)


if __name__ == "__main__":
    main()
