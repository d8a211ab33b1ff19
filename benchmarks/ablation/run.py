"""Ablate the parts of the network on rendered faces with exact labels.

    python benchmarks/ablation/run.py WORK [--ict ict_facekit.npz] [--seeds 3] [--jobs 2] [--write]

For each face model (built-in; ICT-FaceKit's with --ict): render people, fine-tune nano's visual encoder on
some of them frame by frame, extract its features of others, train every network of NETWORKS on these with
each seed, and score people that were used for neither. Thresholds are tuned on validation tracks; the figures
are from test tracks. Results are kept in WORK: finished steps are not repeated, and an interrupted run
resumes. --write puts tables and figures into docs/benchmarks. Needs `pip install '.[train]' matplotlib`. 72
networks take hours on two cores.

See also: scores.py (conditions, intervals), report.py (tables and figures).
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.batch.extract import Extraction
from auscan.datasets.index import read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.writer import write_dataset
from auscan.training.config import check_train_config
from auscan.training.find_encoders import find_encoders
from auscan.training.loop import train
from auscan.training.predict import score_tracks
from auscan.training.run import load_trained
from auscan.training.scores import write_scores
from auscan.training.windows import load_tracks
from benchmarks.ablation.report import write_report
from benchmarks.ablation.scores import EvaluationRows, evaluation_rows

RATE_HZ: Final = 10.0
"""Frame rate of the rendered videos. Low, so that minutes of context cost a third of the usual time."""
SETS: Final = {
    "builtin": {"persons": (360, 4, 11), "tracks": (44, 120, 5), "more": (12, 120, 6)},
    "ict": {"persons": (240, 4, 11), "tracks": (36, 120, 5), "more": (12, 120, 6)},
}
"""Videos, seconds, seed. `persons` train the encoder, `tracks` the networks; `more` is only scored."""
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
"""Settings of the full network, of networks without one part, and with a similar part in its place."""
CONTEXTS: Final = (1, 16, 128, 1024, None)
"""Chunk lengths in frames; None for the whole track."""
EVALUATION_SPLITS: Final = {"tracks": ["test"], "more": ["train", "val", "test"]}
"""Splits that are scored: the test split of `tracks`, and all of `more`."""
OF_CONTEXT: Final = ("full", "TCN", "windowed Transformer")
"""Networks that are scored at every chunk length."""
AUDIO_MARGIN_S: Final = 0.6


def main() -> None:
    """Run missing steps, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for data, runs and scores")
    parser.add_argument("--ict", type=Path, help="ict_facekit.npz: also run on this face model")
    parser.add_argument("--only", choices=sorted(SETS), help="run on one face model")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument("--jobs", type=int, default=2, help="networks trained in parallel")
    parser.add_argument("--write", action="store_true", help="write the report into docs/benchmarks")
    args = parser.parse_args()
    faces = {"builtin": None} | ({"ict": args.ict} if args.ict else {})
    face_models = [face for face in faces if args.only in (None, face)]
    for face in face_models:
        make_features(args.work / face, SETS[face], faces[face], args.jobs)
    work = [
        (args.work / face, name, seed)
        for seed in range(args.seeds)
        for face in face_models
        for name in NETWORKS
    ]
    run_in_processes(train_and_score, work, args.jobs)
    evaluation = {face: read_truth(args.work / face) for face in face_models}
    contexts = {name: tuple(str(length or "whole") for length in CONTEXTS) for name in OF_CONTEXT}
    out = Path("docs/benchmarks") if args.write else args.work
    write_report(args.work, evaluation, list(NETWORKS), contexts, args.seeds, out)


def make_features(folder: Path, sets: dict[str, tuple[int, int, int]], face: Path | None, jobs: int) -> None:
    """Render and index videos, fine-tune the encoder, and extract features of the tracks."""
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
    """Extract features of the data set in `folder`."""
    work = Extraction(read_index(folder / "index"), find_encoders(model), folder / "cache", grid=4)
    if work.pending:
        print(f"features of {len(work.pending)} tracks in {folder}", flush=True)
        work.run_here()


def encoder_settings(folder: Path) -> dict[str, Any]:
    """Return the settings to fine-tune nano's visual encoder on single frames, without audio and scan."""
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
    """Return network sizes small enough to train 72 networks on two cores."""
    return {
        "size": "nano",
        "alignment": {"width": 64, "au_width": 16, "heads": 4, "active_patches": 12},  # of 4 x 4
        "temporal": {"head_width": 16, "state_width": 16, "blocks": 2},
    }


def network_settings(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Return the training settings of one network."""
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
    """Train one network and write scores of all held-out tracks, at every chunk length for OF_CONTEXT."""
    torch.set_num_threads(1)
    config = check_train_config(network_settings(folder, name, seed), name)
    if not (config.out / "scores" / "test.parquet").exists():
        print(f"{folder.name}: {name}, seed {seed}", flush=True)
        train(config)
    network, _ = load_trained(config.out / "best")
    for context in CONTEXTS if name in OF_CONTEXT else (None,):
        for part, splits in EVALUATION_SPLITS.items():
            out = config.out / "held" / f"{part}-{context or 'whole'}.parquet"
            if not out.exists():
                index, cache = read_index(folder / part / "index"), folder / part / "cache"
                write_scores(
                    out, score_tracks(network, load_tracks(index, cache, splits), context, AUDIO_MARGIN_S)
                )


def read_truth(folder: Path) -> tuple[EvaluationRows, EvaluationRows]:
    """Read the ground truth of the validation tracks and of the held-out tracks."""
    return tuple(
        evaluation_rows({part: read_rows(folder / part, splits) for part, splits in parts.items()})
        for parts in ({"tracks": ["val"]}, EVALUATION_SPLITS)
    )  # type: ignore[return-value]


def read_rows(folder: Path, splits: list[str]) -> pd.DataFrame:
    """Read the ground truth of some splits of a data set: a row for each frame with a crop."""
    truth = folder / "data" / "truth"
    tracks = load_tracks(read_index(folder / "index"), folder / "cache", splits)
    seen = [
        pd.DataFrame({"track": track.name, "frame": track.numbers[track.features.has_image]})
        for track in tracks
    ]
    frames = pd.read_parquet(truth / "frames.parquet").rename(columns={"number": "frame"})
    rows = pd.concat(seen).merge(frames, on=["track", "frame"], validate="one_to_one")
    description = pd.read_parquet(truth / "tracks.parquet").drop(columns=["video", "split"])
    return rows.merge(description, on="track", validate="many_to_one")


def run_in_processes(work: Callable[..., None], arguments: list[tuple[Any, ...]], jobs: int) -> None:
    """Run work(*each) for each of the arguments, `jobs` in parallel."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(work, *each) for each in arguments]:
            future.result()


if __name__ == "__main__":
    main()
