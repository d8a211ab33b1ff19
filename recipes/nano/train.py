"""Train nano from the data folder to the shipped checkpoint, with one command.

    python recipes/nano/train.py --data ../shared/data --run runs/nano --out src/auscan/checkpoints/nano

Stages, each resumable: faces (train_faces.py), clips (train_clips.py), packing (here), graphs (export.py),
calibration and thresholds (calibrate.py).
Every stage logs JSON lines into the run's folder and is seeded; a second call goes on where the first one
stopped. On two CPU cores stage 1 took 78 minutes beside other jobs. Needs `pip install '.[train]'`.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from auscan.core.config import CheckpointConfig, nano
from auscan.core.version import VERSION
from auscan.model.checkpoint import save_checkpoint
from auscan.model.network import AuscanNetwork
from calibrate import calibrate_checkpoint
from clip_data import HELD_OUT, load_clips
from export import export_nano
from face_data import load_faces
from labels import REFERENCE, UNTAUGHT
from pack_faces import load_rendered
from rendered_clips import load_rendered_clips
from train_clips import ClipSettings, development_scores, held_out, train_clips
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
    ict = args.data / "ict_facekit.npz"
    rendered = load_rendered(ict, args.run / "rendered.npz")
    face_weights = train_faces(faces, rendered, nano(), FaceSettings(epochs=args.epochs), args.run)
    network = AuscanNetwork(nano())
    network.load_state_dict(torch.load(face_weights, weights_only=True))
    tracks = load_clips(args.data / "clips", args.data / "clips_teacher", args.run / "clips")
    made = [found.track for found in load_rendered_clips(ict, args.run / "rendered_clips")]
    clip_weights = train_clips(
        network, tracks, made, faces, rendered, ClipSettings(steps=args.steps), args.run
    )
    network.load_state_dict(torch.load(clip_weights, weights_only=True))
    network.eval()

    config = CheckpointConfig(
        name="nano",
        untaught=UNTAUGHT,
        sight=True,
        reference=REFERENCE,
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
        held=", ".join(HELD_OUT),
        **scores,
    )
    save_checkpoint(args.out, network, config, filled)
    export_nano(args.out, args.out, args.data / "faces_train.parquet")
    calibrate_checkpoint(args.out, args.data)
    settings = {**asdict(FaceSettings(epochs=args.epochs)), **asdict(ClipSettings(steps=args.steps))}
    log(args.run / "done.jsonl", **settings, **scores)


def weight_count(module: torch.nn.Module) -> int:
    """How many numbers the module learned."""
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
