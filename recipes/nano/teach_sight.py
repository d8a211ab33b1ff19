"""Teach a checkpoint head pose and cover without touching anything else of it.

    python recipes/nano/teach_sight.py --data ../shared/data --run runs/nano --out runs/nano/sight

`train.py` teaches both from the start; this is for weights that were trained before it did. The one linear
layer that reads them off the global token is fitted, the encoder stays as it is: targets and loss are those
of stage 1, on crops cut and spoilt as there. Says how far it is off on the development faces.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from augment import occlude
from auscan.core.folder import CARD_FILE, WEIGHTS_FILE, find_checkpoint, read_config
from auscan.faces.align import crop_face, crop_transform, to_crop
from auscan.model.checkpoint import save_checkpoint
from auscan.model.network import AuscanNetwork, VisualStage
from export import export_nano
from face_data import FaceBatches, Faces, load_faces
from occluders import covered_share
from train_faces import sight_loss

CUTS = 2
"""Times every training face is cut and spoilt."""
RARE_YAW_DEG, RARE_COVER = 12.0, 0.1
"""Faces turned by more degrees or covered by a larger share count more, for they are rare: or the layer would
call every head nearly frontal and free."""
DECAY = 1e-4
STEPS = 300


def main() -> None:
    """Read the command line, fit the layer, write the checkpoint and its graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_train.parquet")
    parser.add_argument("--checkpoint", default="nano", help="whose encoder is read")
    parser.add_argument("--run", type=Path, default=Path("runs/nano"), help="cache of the faces")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/sight"), help="checkpoint folder")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = find_checkpoint(args.checkpoint)
    network, config = AuscanNetwork(read_config(folder).network), read_config(folder)
    missing = network.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False).missing_keys
    assert all(name.startswith("visual.sight.") for name in missing), missing
    network.eval().requires_grad_(False)
    faces = load_faces(args.data / "faces_train.parquet", args.run / "faces.npz")
    fit(network.visual, faces)
    for line in judge(network.visual, faces):
        print(line)
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    save_checkpoint(args.out, network, config.model_copy(update={"sight": True}), card)
    export_nano(args.out, args.out, args.data / "faces_train.parquet")


def fit(visual: VisualStage, faces: Faces) -> None:
    """Fit `visual.sight` to the training faces, in place."""
    batches = FaceBatches(faces, size=64, seed=0)
    cuts = [batch for epoch in range(CUTS) for batch in batches.epoch(epoch)]
    tokens = torch.cat([global_tokens(visual, batch.crops) for batch in cuts])  # [n, Dv]
    pose = np.concatenate([batch.pose for batch in cuts])
    covered = np.concatenate([batch.covered for batch in cuts])
    rare = np.column_stack([(pose[:, :1] / RARE_YAW_DEG) ** 2, covered / RARE_COVER])[:, [0, 0, 1]]
    weight = torch.from_numpy(1 + np.nan_to_num(rare))  # [n, 3]
    layer = nn.Linear(tokens.shape[1], 3)
    visual.sight = layer
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        off = sight_loss(visual.tell_sight(tokens), pose, covered, weight)
        off = off + DECAY * layer.weight.square().sum()
        off.backward()
        return off

    optimizer.step(loss)
    layer.requires_grad_(False)


@torch.no_grad()
def global_tokens(visual: VisualStage, crops: NDArray[np.uint8]) -> Tensor:
    """Grey crops [n, S, S] -> the encoder's global tokens [n, Dv]."""
    parts = [torch.from_numpy(crops[i : i + 64]) for i in range(0, len(crops), 64)]
    return torch.cat([visual.encoder(part[..., None].expand(-1, -1, -1, 3))[0] for part in parts])


@torch.no_grad()
def judge(visual: VisualStage, faces: Faces) -> list[str]:
    """How far off the layer is on the development faces, cut by the detector's points, clean and covered."""
    rng = np.random.default_rng(1)
    rows = np.flatnonzero(faces.development)
    clean = np.stack([crop_face(faces.images[row], faces.detector_points[row]) for row in rows])
    hidden, covered = clean.copy(), np.empty(len(rows))
    for i, row in enumerate(rows):
        image, mask = occlude(clean[i].astype(np.float32), rng)
        transform = crop_transform(faces.detector_points[row])
        hidden[i] = image.clip(0, 255).astype(np.uint8)
        covered[i] = covered_share(mask, to_crop(faces.landmarks[row], transform))
    told, told_hidden = (visual.tell_sight(global_tokens(visual, c)).numpy() for c in (clean, hidden))
    pose = faces.pose[rows]
    turned = np.abs(pose[:, 0]) > 20
    off = np.abs(told[:, :2] - pose)
    return [
        f"{len(rows)} development faces, mean absolute error: yaw {off[:, 0].mean():.1f}, "
        f"pitch {off[:, 1].mean():.1f} degrees (always 0 would be off by {np.abs(pose[:, 0]).mean():.1f} and "
        f"{np.abs(pose[:, 1]).mean():.1f}); yaw of the {turned.sum()} turned by more than 20 degrees: "
        f"{off[turned, 0].mean():.1f}, told on average {np.abs(told[turned, 0]).mean():.1f} of "
        f"{np.abs(pose[turned, 0]).mean():.1f}",
        f"correlation: yaw {np.corrcoef(told[:, 0], pose[:, 0])[0, 1]:.3f}, "
        f"pitch {np.corrcoef(told[:, 1], pose[:, 1])[0, 1]:.3f}, covered share with one occluder each "
        f"{np.corrcoef(told_hidden[:, 2], covered)[0, 1]:.3f} "
        f"(mean absolute error {np.abs(told_hidden[:, 2] - covered).mean():.3f}); uncovered faces are told "
        f"{told[:, 2].mean():.3f} on average, 95th percentile {np.percentile(told[:, 2], 95):.3f}",
    ]


if __name__ == "__main__":
    main()
