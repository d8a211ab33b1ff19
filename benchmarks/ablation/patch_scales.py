"""Measure what patches of a second, finer scale buy on rendered faces.

    python benchmarks/ablation/patch_scales.py WORK --ict ict_facekit.npz [--seeds 3]

The trunk of the shipped nano stays frozen. Alignment and head are trained on its features of rendered people,
once with 7 x 7 patches (the last map) and once with 14 x 14 (the last two maps as a pyramid, whose 1 x 1
convolution is trained as well), each with a quarter of the patches active. ROC-AUC is that of other people.
Rendered faces are kept in WORK. Needs `pip install '.[train]'`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.config import AlignmentConfig, ConvVisualConfig
from auscan.encoders.visual import ConvEncoder
from auscan.faces.align import SIDE, crop_face
from auscan.model.alignment import GranularityAlignment
from auscan.model.checkpoint import load_checkpoint
from auscan.model.head import ActionUnitHead
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.rendered_faces import DEVELOPMENT, TRAIN, RenderedArrays, load_rendered

TRAINING_PEOPLE, TEST_PEOPLE = 600, 150
STEPS, BATCH = 600, 48


def main() -> None:
    """Train both scales with each seed and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the rendered faces")
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each scale")
    args = parser.parse_args()
    training = load_rendered(args.ict, args.work / "training.npz", TRAIN[:TRAINING_PEOPLE], workers=1)
    test = load_rendered(args.ict, args.work / "test.npz", DEVELOPMENT[:TEST_PEOPLE], workers=1)
    figures = {
        scales: np.stack([auc_by_au(scales, training, test, seed) for seed in range(args.seeds)])
        for scales in (1, 2)
    }  # [seeds, A] each
    for scales, aucs in figures.items():
        grid = ConvVisualConfig(patch_scales=scales).patch_grid
        by_au = ", ".join(f"{au} {auc:.3f}" for au, auc in zip(NANO_AUS, aucs.mean(0), strict=True))
        print(f"{grid} x {grid} patches: mean AUC {aucs.mean():.4f} ({by_au})")
    gain = (figures[2] - figures[1]).mean(1)
    print(f"gain of the second scale by seed: {', '.join(f'{each:+.4f}' for each in gain)}")


class ScaledNetwork(nn.Module):
    """Frozen trunk, pyramid, alignment and head for single crops."""

    def __init__(self, scales: int) -> None:
        super().__init__()
        config = ConvVisualConfig(patch_scales=scales)
        self.encoder = ConvEncoder(config)
        shipped = load_checkpoint("nano")[0].visual.encoder
        missing = self.encoder.load_state_dict(shipped.state_dict(), strict=False).missing_keys
        assert all(name.startswith("fine.") for name in missing)
        self.encoder.requires_grad_(False)
        if self.encoder.fine is not None:
            self.encoder.fine.requires_grad_(True)
        self.alignment = GranularityAlignment(
            self.encoder.width, config.patch_grid**2, AlignmentConfig(), len(NANO_AUS)
        )
        self.head = ActionUnitHead(128, 32, len(NANO_AUS))

    def forward(self, crops: Tensor) -> Tensor:
        """Return logits [b, A] for crops [b, S, S, 3] uint8."""
        face, patches = self.encoder.eval()(crops)
        aligned = self.alignment(face[:, None], patches[:, None])
        logits: Tensor = self.head(aligned.embedding, aligned.au_tokens)[:, 0]
        return logits


def auc_by_au(scales: int, training: RenderedArrays, test: RenderedArrays, seed: int) -> NDArray[np.float64]:
    """Train with a number of patch scales; return the ROC-AUC [A] on the test people."""
    torch.manual_seed(seed)
    network, random = ScaledNetwork(scales), np.random.default_rng(seed)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    crops, labels = crops_of(training), torch.from_numpy(training.labels)
    final = network.alignment.active
    for step in range(STEPS):
        network.alignment.anneal_selection(final, step / STEPS)
        rows = torch.from_numpy(random.integers(0, len(crops), BATCH))
        known, target = labels[rows] >= 0, labels[rows].clamp_min(0).float()
        losses = F.binary_cross_entropy_with_logits(network(crops[rows]), target, reduction="none")
        optimizer.zero_grad()
        losses[known].mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in crops_of(test).split(BATCH)]).numpy()
    aucs = []
    for column in range(len(NANO_AUS)):
        known_rows = test.labels[:, column] >= 0
        aucs.append(roc_auc_score(test.labels[known_rows, column], logits[known_rows, column]))
    print(f"{scales} scales, seed {seed}: {np.mean(aucs):.4f}", file=sys.stderr, flush=True)
    return np.array(aucs)


def crops_of(faces: RenderedArrays) -> Tensor:
    """Return the crops [n, S, S, 3] uint8 of rendered faces."""
    pairs = zip(faces.images, faces.detector_points, strict=True)
    crops = np.stack([crop_face(image, points, SIDE) for image, points in pairs])
    return torch.from_numpy(crops)[..., None].expand(-1, -1, -1, 3)


if __name__ == "__main__":
    main()
