r"""Visual encoders side by side: the convolutional one, and a ViT of DINOv2's shape that is as fast.

    python benchmarks/compare_encoders.py --data ../shared/data --run runs/nano \
        --write docs/benchmarks/encoders.md  # needs data that are not included

Each learns stage 1 from scratch and from the same batches, for the same number of steps; beside stands the
processor time that a crop takes it. The ViT has 16 px patches, 6 layers and 256 channels. Without a GPU the
steps are few: what is seen is who learns faster, not where each would end.

In: the data folder and the caches of a run (train.py).  Out: a table.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from leave_out import SHORT, STEPS, epochs_for, face_scores, measured_table

from auscan.core.config import Dinov2VisualConfig, NetworkConfig, nano
from auscan.model.network import AuscanNetwork
from clip_data import load_clips, single_frames, training_tracks
from face_data import load_faces
from pack_faces import load_rendered
from rendered_faces import TEST
from train import weight_count
from train_faces import train_faces

RATES = {"ViT": 5e-4}
"""Where nano's own rate of 2e-3 is none: the ViT learned nothing with it (AUC 0.53 after 860 steps)."""
TURNS = 15
"""Timed turns of each encoder; the quickest counts."""


def main() -> None:
    """Train what is not trained yet, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="as for train.py")
    parser.add_argument("--run", type=Path, required=True, help="where the caches of train.py lie")
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
        learning = replace(settings, rate=RATES.get(name, settings.rate))
        weights = train_faces(faces, rendered, frames, config, learning, own)
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
    """Name of each encoder -> the network around it."""
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
    """Milliseconds of one thread that a crop takes in batches of 32, float32: the quickest of some turns."""
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
