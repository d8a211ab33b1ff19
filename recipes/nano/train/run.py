"""Train nano from the data folder to the shipped checkpoint, with one command.

    python recipes/nano/train/run.py --data ../shared/data --run runs/nano --out src/auscan/checkpoints/nano
    python recipes/nano/train/run.py --data ../shared/data --run runs/nano --variant whole-face-only

Steps, each resumable: faces (face_stage.py), clips (clip_stage.py), checkpoint folder (here), graphs
(../calibrate/export_graphs.py), calibration and thresholds (../calibrate/calibrate.py). A variant trains on
the same batches in the same order. It shares the caches of the run and writes the rest into a subfolder.
Each step is seeded and writes JSON lines into the run folder. Takes hours on two CPU cores. Needs
`pip install '.[train]'`.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks
from auscan.core.config import AlignmentConfig, CheckpointConfig, NetworkConfig, nano
from auscan.core.environment import VERSION
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AuscanNetwork
from recipes.nano.calibrate.calibrate import calibrate_checkpoint
from recipes.nano.calibrate.export_graphs import export_nano
from recipes.nano.data.real_clips import DEVELOPMENT as DEVELOPMENT_CLIPS
from recipes.nano.data.real_clips import HELD_OUT, load_clips, single_frames, training_tracks
from recipes.nano.data.real_faces import Faces, load_faces
from recipes.nano.data.teacher_labels import NANO_AUS, REFERENCE
from recipes.nano.render.rendered_clips import load_rendered_clips
from recipes.nano.render.rendered_faces import DEVELOPMENT, load_rendered
from recipes.nano.train.clip_stage import train_clips
from recipes.nano.train.clip_windows import ClipSettings
from recipes.nano.train.face_stage import VARIANTS, FaceSettings, freeze_variant, log, train_faces

DEVELOPMENT_PEOPLE = DEVELOPMENT[:150]
"""People of the held-out rig, whose scores are logged."""


def main() -> None:
    """Parse arguments and run all stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_train.parquet, clips/, ict_facekit.npz"
    )
    parser.add_argument(
        "--run", type=Path, default=Path("runs/nano"), help="folder for logs, caches and training state"
    )
    parser.add_argument("--out", type=Path, help="checkpoint folder (default: checkpoint/ in the run folder)")
    parser.add_argument("--variant", choices=VARIANTS, default="full", help="network to train")
    parser.add_argument("--start", help="checkpoint to start from (visual stage and head), such as nano")
    parser.add_argument("--rate", type=float, default=FaceSettings.rate, help="learning rate of stage 1")
    parser.add_argument("--epochs", type=int, default=FaceSettings.epochs, help="epochs of stage 1")
    parser.add_argument("--steps", type=int, default=ClipSettings.steps, help="steps of stage 2")
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads; use 1 to train two variants in parallel"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    variant_run = args.run if args.variant == "full" else args.run / args.variant
    variant_run.mkdir(parents=True, exist_ok=True)
    out = args.out or variant_run / "checkpoint"
    settings = FaceSettings(epochs=args.epochs, rate=args.rate), ClipSettings(steps=args.steps)

    start = load_checkpoint(args.start)[0] if args.start else None
    network, scores = train_network(args.data, args.run, variant_run, args.variant, start, *settings)
    command = "python recipes/nano/train/run.py --data ../shared/data --run runs/nano"
    origin = "- All weights were initialised at random."
    if args.start:
        command += f" --start {args.start} --rate {args.rate} --epochs {args.epochs}"
        origin = f"- Visual stage and head started from those of the previous checkpoint `{args.start}`."
    save_network(network, args.variant, out, command=command, origin=origin)
    export_nano(out, out, args.data / "faces_train.parquet")
    calibrate_checkpoint(out, args.data)
    stages = zip(("faces", "clips"), settings, strict=True)
    logged = {f"{stage}_{key}": value for stage, each in stages for key, value in asdict(each).items()}
    log(variant_run / "done.jsonl", **logged, **scores)


def read_training_faces(data: Path, run: Path) -> Faces:
    """Read the real faces of the data folder, or their arrays from the run folder."""
    return load_faces([data / "faces_train.parquet", data / "faces_more.parquet"], run / "faces.npz")


def network_config() -> NetworkConfig:
    """Return the settings of the network: nineteen AUs with intensities, a quarter of the patches active."""
    changes = {"au_names": NANO_AUS, "intensity": True, "alignment": AlignmentConfig()}
    return nano().model_copy(update=changes)


def train_network(
    data: Path,
    run: Path,
    variant_run: Path,
    variant: str,
    start: AuscanNetwork | None,
    face_settings: FaceSettings,
    clip_settings: ClipSettings,
) -> tuple[AuscanNetwork, dict[str, float]]:
    """Run both stages, with caches in `run` and states in `variant_run`. Return network and scores."""
    faces = read_training_faces(data, run)
    rendered = load_rendered(data / "ict_facekit.npz", run / "rendered.npz")
    held_out = load_rendered(None, run / "builtin.npz", DEVELOPMENT_PEOPLE)
    tracks = load_clips(data, run / "clips")
    frames = single_frames(training_tracks(tracks))
    # Single faces have no audio, so stage 1 of no-audio is that of the full network.
    face_run, face_variant = (run, "full") if variant == "no-audio" else (variant_run, variant)
    config = network_config()
    face_weights = train_faces(
        faces, rendered, frames, config, face_settings, face_run, face_variant, start, held_out
    )
    network = AuscanNetwork(config)
    network.load_state_dict(torch.load(face_weights, weights_only=True))
    freeze_variant(network, variant)
    rendered_clips = load_rendered_clips(data / "ict_facekit.npz", run / "rendered_clips")
    clip_weights, scores = train_clips(
        network,
        tracks,
        [found.track for found in rendered_clips],
        faces,
        rendered,
        clip_settings,
        variant_run,
    )
    network.load_state_dict(torch.load(clip_weights, weights_only=True))
    return network.eval(), scores


def save_network(network: AuscanNetwork, variant: str, out: Path, **card_fields: str) -> None:
    """Write the checkpoint folder with a card without figures. card_fields: further texts of the card."""
    name = "nano" if variant == "full" else f"nano-{variant}"
    config = CheckpointConfig(
        name=name,
        has_pose_occlusion=True,
        reference=REFERENCE,
        auscan_version=VERSION,
        network=network.config,
    )
    card = (Path(__file__).parents[1] / "calibrate" / "model_card.md").read_text(encoding="utf-8")
    filled = card.format(
        visual_weights=parameter_count(network.visual),
        weights=parameter_count(network),
        version=VERSION,
        held=", ".join(HELD_OUT),
        development=", ".join(DEVELOPMENT_CLIPS),
        **card_fields,
    )
    save_checkpoint(out, network, config, filled)


def parameter_count(module: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
