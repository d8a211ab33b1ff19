r"""Compare visual encoders: the convolutional one of nano, and a ViT of DINOv2's shape of the same speed.

    python benchmarks/ablation/encoders.py --data ../shared/data --run runs/nano \
        --write docs/benchmarks/encoders.md  # needs data that are not included

Each is trained by stage 1 from random weights, on the same batches for the same number of steps. The table
adds the processor time of a crop. The ViT has 16 px patches, 6 layers and 256 channels. Without a GPU only
few steps are possible: the table shows which encoder learns faster, not their final accuracy.

Inputs: the data folder and the caches of a run (recipes/nano/train/run.py). Returns: a table.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.config import HubVisualConfig, NetworkConfig
from auscan.model.network import AuscanNetwork
from benchmarks.ablation.leave_out import SHORT, STEPS, epochs_for, face_scores, measured_table
from benchmarks.accuracy.metric_tables import page
from recipes.nano.data.real_clips import load_clips, single_frames, training_tracks
from recipes.nano.render.rendered_faces import TEST, load_rendered
from recipes.nano.train.face_stage import train_faces
from recipes.nano.train.run import network_config, parameter_count, read_training_faces

LEAD = (
    "ROC-AUC of the convolutional encoder of nano and of a ViT of DINOv2's shape and the same speed, after a "
    "short training. Columns are explained in [data.md](data.md)."
)
RATES = {"ViT": 5e-4}
"""Learning rates other than nano's 2e-3. With that rate the ViT reaches AUC 0.53 after 860 steps."""
RUNS = 15
"""Timed runs of each encoder; the fastest counts."""


def main() -> None:
    """Train missing encoders and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="data folder, as for recipes/nano/train/run.py"
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder of recipes/nano/train/run.py")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of stage 1")
    parser.add_argument("--write", type=Path, help="also write the table into this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    faces = read_training_faces(args.data, args.run)
    rendered = load_rendered(args.data / "ict_facekit.npz", args.run / "rendered.npz")
    clips = load_clips(args.data, args.run / "clips")
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
        speed = {
            "weights": parameter_count(visual) / 1e6,
            "ms a crop": crop_ms(visual, config.visual.crop_size),
        }
        rows[name] = speed | face_scores(weights, faces, people, config)
        print(name, rows[name], flush=True)
    lines = [*measured_table(rows, "encoder"), "", f"{args.steps} steps each; weights in millions."]
    print(*lines, sep="\n")
    if args.write:
        args.write.write_text(page("Visual encoders", LEAD, lines, __doc__ or ""), encoding="utf-8")


def encoders() -> dict[str, NetworkConfig]:
    """Return the networks to train, by the name of their encoder."""
    arch = {
        "model_type": "dinov2",
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "image_size": 112,
        "patch_size": 16,
    }
    vit = network_config().model_copy(update={"visual": HubVisualConfig(crop_size=112, arch=arch), "grid": 7})
    return {"convolutional (nano)": network_config(), "ViT": vit}


@torch.no_grad()
def crop_ms(encoder: torch.nn.Module, side: int) -> float:
    """Measure the processor time of a crop in ms: one thread, batches of 32, float32, fastest run."""
    encoder.eval()
    crops = torch.randint(0, 255, (32, side, side, 3), dtype=torch.uint8)
    encoder(crops)
    times_s = []
    for _ in range(RUNS):
        began = time.process_time()
        encoder(crops)
        times_s.append(time.process_time() - began)
    return min(times_s) * 1000 / len(crops)


if __name__ == "__main__":
    main()
