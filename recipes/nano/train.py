"""Train nano from the data folder to the shipped checkpoint, with one command.

    python recipes/nano/train.py --data ../shared/data --run runs/nano --out src/auscan/checkpoints/nano
    python recipes/nano/train.py --data ../shared/data --run runs/nano --variant whole-face-only

Stages, each resumable: faces (train_faces.py), clips (train_clips.py), packing (here), graphs (export.py),
calibration and thresholds (calibrate.py). A variant (variants.py) learns from the same batches in the same
order; it shares the run's caches and keeps the rest in a folder of its own there.
Every stage logs JSON lines into the run's folder and is seeded; a second call goes on where the first one
stopped. Takes hours on two CPU cores. Needs `pip install '.[train]'`.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from auscan.core.config import CheckpointConfig, nano
from auscan.core.version import VERSION
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AuscanNetwork
from calibrate import calibrate_checkpoint
from clip_data import DEVELOPMENT, HELD_OUT, load_clips, single_frames, training_tracks
from clip_windows import ClipSettings
from export import export_nano
from face_data import load_faces
from labels import REFERENCE
from pack_faces import load_rendered
from rendered_clips import load_rendered_clips
from train_clips import train_clips
from train_faces import FaceSettings, log, train_faces
from variants import VARIANTS, close_doors


def main() -> None:
    """Read the command line and run all stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="faces_train.parquet, clips/, ict_facekit.npz"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/nano"), help="logs, caches, training state")
    parser.add_argument("--out", type=Path, help="checkpoint folder; if not given, within the run's")
    parser.add_argument("--variant", choices=VARIANTS, default="full")
    parser.add_argument("--start", help="checkpoint whose visual stage and head to go on from, such as nano")
    parser.add_argument("--rate", type=float, default=FaceSettings.rate, help="learning rate of stage 1")
    parser.add_argument("--epochs", type=int, default=FaceSettings.epochs, help="epochs of stage 1")
    parser.add_argument("--steps", type=int, default=ClipSettings.steps, help="steps of stage 2")
    parser.add_argument("--threads", type=int, default=2, help="two variants side by side: 1 each")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    own = args.run if args.variant == "full" else args.run / args.variant
    own.mkdir(parents=True, exist_ok=True)
    out = args.out or own / "checkpoint"
    settings = FaceSettings(epochs=args.epochs, rate=args.rate), ClipSettings(steps=args.steps)

    start = load_checkpoint(args.start)[0] if args.start else None
    network, scores = learn(args.data, args.run, own, args.variant, start, *settings)
    command = "python recipes/nano/train.py --data ../shared/data --run runs/nano"
    began = "- All weights began with chance."
    if args.start:
        command += f" --start {args.start} --rate {args.rate} --epochs {args.epochs}"
        began = f"- Visual stage and head began with those of the checkpoint `{args.start}` before this one."
    pack(network, args.variant, out, command=command, began=began)
    export_nano(out, out, args.data / "faces_train.parquet")
    calibrate_checkpoint(out, args.data)
    stages = zip(("faces", "clips"), settings, strict=True)
    used = {f"{stage}_{key}": value for stage, each in stages for key, value in asdict(each).items()}
    log(own / "done.jsonl", **used, **scores)


def learn(
    data: Path,
    run: Path,
    own: Path,
    variant: str,
    start: AuscanNetwork | None,
    for_faces: FaceSettings,
    for_clips: ClipSettings,
) -> tuple[AuscanNetwork, dict[str, float]]:
    """Both stages; caches lie in `run`, states in `own`. Returns the network and its development scores."""
    faces = load_faces(data / "faces_train.parquet", run / "faces.npz")
    rendered = load_rendered(data / "ict_facekit.npz", run / "rendered.npz")
    tracks = load_clips(data / "clips", data / "clips_teacher", run / "clips")
    frames = single_frames(training_tracks(tracks))
    place, seen = (run, "full") if variant == "no-audio" else (own, variant)  # single faces make no sound
    face_weights = train_faces(faces, rendered, frames, nano(), for_faces, place, seen, start)
    network = AuscanNetwork(nano())
    network.load_state_dict(torch.load(face_weights, weights_only=True))
    close_doors(network, variant)
    made = load_rendered_clips(data / "ict_facekit.npz", run / "rendered_clips")
    clip_weights, scores = train_clips(
        network, tracks, [found.track for found in made], faces, rendered, for_clips, own
    )
    network.load_state_dict(torch.load(clip_weights, weights_only=True))
    return network.eval(), scores


def pack(network: AuscanNetwork, variant: str, out: Path, **told: str) -> None:
    """Write the checkpoint folder, its card still without figures. told: what else the card says of it"""
    name = "nano" if variant == "full" else f"nano-{variant}"
    config = CheckpointConfig(
        name=name, sight=True, reference=REFERENCE, auscan_version=VERSION, network=network.config
    )
    card = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    filled = card.format(
        visual_weights=weight_count(network.visual),
        weights=weight_count(network),
        version=VERSION,
        held=", ".join(HELD_OUT),
        development=", ".join(DEVELOPMENT),
        **told,
    )
    save_checkpoint(out, network, config, filled)


def weight_count(module: torch.nn.Module) -> int:
    """How many numbers the module learned."""
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
