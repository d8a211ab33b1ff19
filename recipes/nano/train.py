"""Train nano from the data folder to the shipped checkpoint, with one command.

    python recipes/nano/train.py --data ../shared/data --run runs/nano --out src/auscan/checkpoints/nano

Stages, each resumable: faces (train_faces.py), clips (train_clips.py), thresholds and packing (here).
Every stage logs JSON lines into the run's folder and is seeded; a second call goes on where the first one
stopped. On two CPU cores stage 1 took 78 minutes beside other jobs. Needs `pip install '.[train]'`.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.config import CheckpointConfig, nano
from auscan.core.version import VERSION
from auscan.model.checkpoint import save_checkpoint
from auscan.model.network import AuscanNetwork
from clip_data import HELD_OUT, load_clips
from export import export_nano
from face_data import Faces, development_crops, load_faces
from labels import UNTAUGHT
from train_clips import ClipSettings, development_scores, features_of, held_out, train_clips
from train_faces import FaceSettings, log, train_faces


def main() -> None:
    """Read the command line and run all stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_train.parquet and clips/")
    parser.add_argument("--run", type=Path, default=Path("runs/nano"), help="logs, caches, training state")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/checkpoint"), help="checkpoint folder")
    parser.add_argument("--epochs", type=int, default=FaceSettings.epochs, help="epochs of stage 1")
    parser.add_argument("--steps", type=int, default=ClipSettings.steps, help="steps of stage 2")
    args = parser.parse_args()
    torch.set_num_threads(2)
    cv2.setNumThreads(1)
    args.run.mkdir(parents=True, exist_ok=True)

    faces = load_faces(args.data / "faces_train.parquet", args.run / "faces.npz")
    face_weights = train_faces(faces, nano(), FaceSettings(epochs=args.epochs), args.run)
    network = AuscanNetwork(nano())
    network.load_state_dict(torch.load(face_weights, weights_only=True))
    tracks = load_clips(args.data / "clips", args.data / "clips_teacher", args.run / "clips")
    clip_weights = train_clips(network, tracks, faces, ClipSettings(steps=args.steps), args.run)
    network.load_state_dict(torch.load(clip_weights, weights_only=True))
    network.eval()

    probabilities, labels = development_probabilities(network, faces)
    thresholds = best_thresholds(probabilities, labels)
    config = CheckpointConfig(
        name="nano",
        untaught=UNTAUGHT,
        sight=True,
        thresholds=tuple(thresholds),
        auscan_version=VERSION,
        network=network.config,
    )
    taught = len({track.clip for track in tracks} - set(HELD_OUT))
    scores = development_scores(network, held_out(network, tracks))
    card = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    filled = card.format(
        visual_weights=weight_count(network.visual),
        weights=weight_count(network),
        version=VERSION,
        taught=int((~faces.development).sum()),
        clips=taught,
        faces=len(labels),
        table=score_table(probabilities, labels, thresholds),
        held=", ".join(HELD_OUT),
        **scores,
    )
    save_checkpoint(args.out, network, config, filled)
    export_nano(args.out, args.out, args.data / "faces_train.parquet")
    settings = {**asdict(FaceSettings(epochs=args.epochs)), **asdict(ClipSettings(steps=args.steps))}
    log(args.run / "done.jsonl", **settings, **scores)


def weight_count(module: torch.nn.Module) -> int:
    """How many numbers the module learned."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def development_probabilities(
    network: AuscanNetwork, faces: Faces
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """What the product would say of each development face alone [m, 12], and the labels [m, 12]."""
    crops, labels = development_crops(faces)
    seen = features_of(network, crops, in_order=False)
    moment = torch.zeros(len(crops), 1, dtype=torch.float64)
    logits = network.temporal(seen.embedding[:, None], seen.au_tokens[:, None], moment)[:, 0]
    return torch.sigmoid(logits.double()).numpy(), labels


def best_thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.int8]) -> list[float]:
    """The threshold with the best F1 for each AU, within 0.05 to 0.95; 0.5 where there are no labels.

    F1 is often flat near its top, and its very peak is chance: the middle of what is as good to half a
    percent is taken.
    """
    thresholds = []
    for column in range(AU_COUNT):
        known = labels[:, column] >= 0
        if not known.any():
            thresholds.append(0.5)
            continue
        precision, recall, cuts = precision_recall_curve(labels[known, column], probabilities[known, column])
        f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-9))[:-1]
        good = cuts[f1 >= f1.max() - 0.005]
        thresholds.append(round(float(np.clip((good.min() + good.max()) / 2, 0.05, 0.95)), 3))
    return thresholds


def score_table(probabilities: NDArray[np.float64], labels: NDArray[np.int8], thresholds: list[float]) -> str:
    """AUC and F1 of each AU as a Markdown table."""
    lines = ["| AU | positives | AUC | F1 | threshold |", "| --- | --- | --- | --- | --- |"]
    for column, name in enumerate(AU_NAMES):
        known = labels[:, column] >= 0
        if not known.any():
            lines.append(f"| {name} | - | not taught | - | - |")
            continue
        truth, guess = labels[known, column], probabilities[known, column]
        auc = roc_auc_score(truth, guess)
        f1 = f1_score(truth, guess >= thresholds[column])
        lines.append(f"| {name} | {truth.mean():.1%} | {auc:.3f} | {f1:.3f} | {thresholds[column]:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
