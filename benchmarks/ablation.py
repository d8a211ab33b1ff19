"""What each part of the method buys, on rendered faces with exactly known labels.

    python benchmarks/ablation.py WORK [--ict ict_facekit.npz] [--seeds 3] [--jobs 2] [--write]

For each face (auscan's own; ICT-FaceKit's with --ict): render people, teach nano's visual encoder on some of
them frame by frame, keep its features of others, train every network of NETWORKS on these with each seed, and
score people whom neither encoder nor network has seen. Thresholds come from validation tracks, the figures
from the others. Everything lies in WORK, finished steps are not done again, and a killed run goes on.
--write puts tables and figures into docs/benchmarks. Needs `pip install '.[train]' matplotlib`; two cores
take hours: 72 networks in all.

Not here: conditions, intervals (ablation_scores.py), tables and figures (ablation_report.py).
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch
from ablation_report import write_report
from ablation_scores import Held, read_held

from auscan.batch.extract import Extraction
from auscan.datasets.index import read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.writer import write_dataset
from auscan.training.config import check_train_config
from auscan.training.loop import train
from auscan.training.predict import score_tracks
from auscan.training.run import load_trained
from auscan.training.scores import write_scores
from auscan.training.start import find_encoders
from auscan.training.windows import load_tracks

RATE_HZ: Final = 10.0
"""Frames a second: minutes of context, at a third of the frames to render and to read."""
SETS: Final = {
    "builtin": {"persons": (360, 4, 11), "tracks": (44, 120, 5), "more": (12, 120, 6)},
    "ict": {"persons": (240, 4, 11), "tracks": (36, 120, 5), "more": (12, 120, 6)},
}
"""Videos, seconds, seed. The encoder learns from `persons`, networks from `tracks`; `more` is only scored."""
NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "full": {},
    "without alignment": {"visual": "global"},
    "without the alignment loss": {"alignment_loss": 0.0},
    "without fusion": {"fusion": "none"},
    "without audio guidance": {"guide": "plain"},
    "without any sound": {"fusion": "none", "guide": "plain"},
    "without memory": {"temporal": "none"},
    "TCN": {"temporal": "tcn"},
    "windowed Transformer": {"temporal": "transformer"},
    "BiGRU": {"temporal": "bigru"},
    "concatenation": {"fusion": "concat"},
    "symmetric attention": {"fusion": "symmetric"},
}
"""The full model, the same without each part, and with another part of about as many weights in its place."""
CONTEXTS: Final = (1, 16, 128, 1024, None)
"""Frames that are read at a time; None: the whole track."""
HELD: Final = {"tracks": ["test"], "more": ["train", "val", "test"]}
"""Who is scored in the end: a test split, and a whole data set whose splits mean nothing here."""
OF_CONTEXT: Final = ("full", "TCN", "windowed Transformer")
HEARD_BEYOND_S: Final = 0.6


def main() -> None:
    """Do what is left to do, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--ict", type=Path, help="an ict_facekit.npz: do it on that face too")
    parser.add_argument("--only", choices=sorted(SETS), help="one of the faces")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="networks that are trained side by side")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks")
    args = parser.parse_args()
    faces = {"builtin": None} | ({"ict": args.ict} if args.ict else {})
    chosen = [face for face in faces if args.only in (None, face)]
    for face in chosen:
        make_features(args.work / face, SETS[face], faces[face], args.jobs)
    work = [
        (args.work / face, name, seed) for seed in range(args.seeds) for face in chosen for name in NETWORKS
    ]
    in_processes(train_and_score, work, args.jobs)
    held = {face: read_truth(args.work / face) for face in chosen}
    contexts = {name: tuple(str(length or "whole") for length in CONTEXTS) for name in OF_CONTEXT}
    out = Path("docs/benchmarks") if args.write else args.work
    write_report(args.work, held, list(NETWORKS), contexts, args.seeds, out)


def make_features(folder: Path, sets: dict[str, tuple[int, int, int]], face: Path | None, jobs: int) -> None:
    """Render, index, teach the encoder, and keep what it says of the tracks."""
    for name, (videos, seconds, seed) in sets.items():
        data = folder / name / "data"
        if not (data / "truth" / "settings.json").exists():
            print(f"rendering {data}", flush=True)
            write_dataset(data, videos, seed, seconds, face, jobs, RATE_HZ)
        if not (folder / name / "index" / "report.json").exists():
            prepare(data, folder / name / "index")
    extract(folder / "persons", "nano")
    encoder = folder / "encoder"
    if not (encoder / "scores" / "val.parquet").exists():
        train(check_train_config(encoder_settings(folder), "encoder"), partial(print, flush=True))
    for name in ("tracks", "more"):
        extract(folder / name, str(encoder / "best"))


def extract(folder: Path, model: str) -> None:
    """Features of the data set in `folder`."""
    work = Extraction(read_index(folder / "index"), find_encoders(model), folder / "cache", grid=4)
    if work.todo:
        print(f"features of {len(work.todo)} tracks in {folder}", flush=True)
        work.run_here()


def encoder_settings(folder: Path) -> dict[str, Any]:
    """Nano's visual encoder, taught frame by frame: no sound, no memory."""
    persons = folder / "persons"
    return {
        "out": folder / "encoder",
        "data": {"index": persons / "index", "cache": persons / "cache", "length": 2, "stride": 5},
        "model": {
            **small_network(),
            "controls": {"fusion": "none", "temporal": "none", "guide": "plain"},
            "encoder": {"start": "nano", "learn": "all", "rate_factor": 1.0, "augment": True},
        },
        "loss": {"soft_f1": 0.0},
        "dropout": {"no_face": 0.0},
        "optimizer": {"rate": 5e-4, "average": 0.99},
        "loop": {"epochs": 8, "batch": 32, "patience": 8, "device": "cpu", "precision": "bf16"},
    }


def small_network() -> dict[str, Any]:
    """Sizes at which 72 networks can be trained on two cores."""
    return {
        "size": "nano",
        "alignment": {"width": 64, "au_width": 16, "heads": 4, "active_patches": 12},
        "temporal": {"head_width": 16, "state_width": 16, "blocks": 2},
    }


def network_settings(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """One network of the ablation."""
    controls = dict(NETWORKS[name])
    alignment_loss = controls.pop("alignment_loss", 0.1)
    tracks = folder / "tracks"
    return {
        "out": folder / "runs" / f"{name} {seed}",
        "seed": seed,
        "data": {
            "index": tracks / "index",
            "cache": tracks / "cache",
            "score": ["test"],
            "length": 600,
            "stride": 600,
        },
        "model": {**small_network(), "controls": controls},
        "loss": {"alignment": alignment_loss, "alignment_frames": 8},
        "dropout": {"no_sound": 0.1, "no_face": 0.1, "no_face_length": 0.1},
        "optimizer": {"rate": 2e-3, "average": 0.98},
        "loop": {"epochs": 8, "batch": 2, "patience": 8, "device": "cpu"},
    }


def train_and_score(folder: Path, name: str, seed: int) -> None:
    """One network: train it, and write the scores of all held-out tracks, at every context if that counts."""
    torch.set_num_threads(1)
    config = check_train_config(network_settings(folder, name, seed), name)
    if not (config.out / "scores" / "test.parquet").exists():
        print(f"{folder.name}: {name}, seed {seed}", flush=True)
        train(config)
    network, _ = load_trained(config.out / "best")
    for context in CONTEXTS if name in OF_CONTEXT else (None,):
        for part, splits in HELD.items():
            out = config.out / "held" / f"{part}-{context or 'whole'}.parquet"
            if not out.exists():
                index, cache = read_index(folder / part / "index"), folder / part / "cache"
                write_scores(
                    out, score_tracks(network, load_tracks(index, cache, splits), context, HEARD_BEYOND_S)
                )


def read_truth(folder: Path) -> tuple[Held, Held]:
    """The truth of the validation tracks and of the held-out ones."""
    return tuple(
        read_held({part: read_rows(folder / part, splits) for part, splits in parts.items()})
        for parts in ({"tracks": ["val"]}, HELD)
    )  # type: ignore[return-value]


def read_rows(folder: Path, splits: list[str]) -> pd.DataFrame:
    """A row for every frame that was seen in some splits of a data set: the truth about frame and track."""
    truth = folder / "data" / "truth"
    tracks = load_tracks(read_index(folder / "index"), folder / "cache", splits)
    seen = [
        pd.DataFrame({"track": track.name, "frame": track.numbers[track.features.has_image]})
        for track in tracks
    ]
    frames = pd.read_parquet(truth / "frames.parquet").rename(columns={"number": "frame"})
    rows = pd.concat(seen).merge(frames, on=["track", "frame"], validate="one_to_one")
    about = pd.read_parquet(truth / "tracks.parquet").drop(columns=["video", "split"])
    return rows.merge(about, on="track", validate="many_to_one")


def in_processes(work: Callable[..., None], arguments: list[tuple[Any, ...]], jobs: int) -> None:
    """work(*each) for each of the arguments, `jobs` at a time."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(work, *each) for each in arguments]:
            future.result()


if __name__ == "__main__":
    main()
