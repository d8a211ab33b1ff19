r"""Compare visual encoders: the convolutional one of nano, and a ViT of DINOv2's shape of the same speed.

    python benchmarks/ablation/encoders.py --data ../shared/data --run runs/nano \
        --write docs/benchmarks/encoders.md  # needs data that are not included

Each is trained by stage 1 from scratch on the same batches for the same number of steps; the table adds the
processor time a crop. The ViT has 16 px patches, 6 layers and 256 channels. Without a GPU the steps are few:
the table shows which encoder learns faster, not where each would end.

Inputs: the data folder and caches of a run (recipes/nano/train/run.py). Returns: a table.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.config import Dinov2VisualConfig, NetworkConfig, nano
from auscan.model.network import AuscanNetwork
from benchmarks.ablation.leave_out import SHORT, STEPS, epochs_for, face_scores, measured_table
from recipes.nano.data.real_clips import load_clips, single_frames, training_tracks
from recipes.nano.data.real_faces import load_faces
from recipes.nano.render.rendered_faces import TEST, load_rendered
from recipes.nano.train.face_stage import train_faces
from recipes.nano.train.run import weight_count

RATES = {"ViT": 5e-4}
"""Learning rates other than nano's 2e-3, with which the ViT fails to learn (AUC 0.53 after 860 steps)."""
TURNS = 15
"""Timed runs of each encoder; the fastest counts."""


def main() -> None:
    """Train missing encoders and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="as for recipes/nano/train/run.py")
    parser.add_argument("--run", type=Path, required=True, help="run folder of recipes/nano/train/run.py")
    parser.add_argument("--steps", type=int, default=STEPS, help="of stage 1")
    parser.add_argument("--write", type=Path, help="also write the table into this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    faces = load_faces(args.data / "faces_train.parquet", args.run / "faces.npz")
    rendered = load_rendered(args.data / "ict_facekit.npz", args.run / "rendered.npz")
    clips = load_clips(args.data / "clips", args.data / "clips_teacher", args.run / "clips")
    frames = single_frames(training_tracks(clips))
    people = load_rendered(args.data / "ict_facekit.npz", args.run / "rendered_test.npz", TEST[:150])
    settings = replace(SHORT, epochs=epochs_for(args.steps, faces, SHORT))
    rows = {}
    for name, config in encoders().items():
        own = args.run / "encoders" / name.replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        stage_settings = replace(settings, rate=RATES.get(name, settings.rate))
        weights = train_faces(faces, rendered, frames, config, stage_settings, own)
        visual = AuscanNetwork(config).visual.encoder
        speed = {"weights": weight_count(visual) / 1e6, "ms a crop": crop_ms(visual, config.visual.crop_size)}
        rows[name] = speed | face_scores(weights, faces, people, config)
        print(name, rows[name], flush=True)
    lines = [*measured_table(rows, "encoder"), "", f"{args.steps} steps each; weights in millions."]
    print(*lines, sep="\n")
    if args.write:
        head = ["# Visual encoders", "", (__doc__ or "").strip(), ""]
        args.write.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def encoders() -> dict[str, NetworkConfig]:
    """Networks to train, by the name of their encoder."""
    arch = {
        "model_type": "dinov2",
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "image_size": 112,
        "patch_size": 16,
    }
    vit = nano().model_copy(update={"visual": Dinov2VisualConfig(crop_size=112, arch=arch), "grid": 7})
    return {"convolutional (nano)": nano(), "ViT": vit}


@torch.no_grad()
def crop_ms(encoder: torch.nn.Module, side: int) -> float:
    """Milliseconds a crop of one thread, in batches of 32, float32; fastest of some runs."""
    encoder.eval()
    crops = torch.randint(0, 255, (32, side, side, 3), dtype=torch.uint8)
    encoder(crops)
    turns = []
    for _ in range(TURNS):
        began = time.process_time()
        encoder(crops)
        turns.append(time.process_time() - began)
    return min(turns) * 1000 / len(crops)


if __name__ == "__main__":
    main()
