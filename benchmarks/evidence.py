"""Does the evidence say what mattered?  Cover what it points at, and see what becomes of the score.

    python benchmarks/evidence.py --data ../shared/data

On faces of people the model never saw (`faces_val.parquet`), a picture each, without sound:

1. For each AU, the three patches it attended to most are blurred away, then three of those that were read,
   chosen by chance, then the three it attended to least. How far does its logit move each time? Where
   attention says nothing, all three move it alike.
2. A block of 3 x 3 patches is covered with the face's own mean colour. Do its patches fall away?
3. How far are the gates open?
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from auscan.core.aus import AU_NAMES
from auscan.faces.align import crop_face
from auscan.inference.follow import follow
from auscan.inference.stages import FaceEvidence, Stages, load, need_evidence

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COVERED = 3
"""Patches blurred away for an AU; also the side of the covered block, in patches."""
BATCH = 32

Crops = NDArray[np.uint8]  # [F, S, S, 3] RGB
Looked = tuple[NDArray[np.float32], FaceEvidence]


def main() -> None:
    """Run the three parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_val.parquet")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--faces", type=int, default=300, help="how many, spread over the table")
    args = parser.parse_args()
    stages = load(args.model)
    need_evidence(stages)
    crops = read_crops(args.data / "faces_val.parquet", args.faces, stages.config.network.visual.crop_size)
    random = np.random.default_rng(0)
    logits, evidence = look(stages, crops)
    console = Console(width=100)
    console.print(by_attention(stages, crops, logits, evidence, random))
    console.print(under_a_cover(stages, crops, evidence, random))
    console.print(open_gates(evidence))


def read_crops(parquet: Path, count: int, side: int) -> Crops:
    """Crops by the teacher's points."""
    names = [f"{name}_{axis}" for name in POINTS for axis in "xy"]
    table = pd.read_parquet(parquet, columns=["jpeg", *names])
    table = table.iloc[np.linspace(0, len(table) - 1, count).round().astype(int)]
    points = table[names].to_numpy(np.float32).reshape(-1, 5, 2)
    images = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in table["jpeg"])
    return np.stack([crop_face(image, five, side) for image, five in zip(images, points, strict=True)])


def look(stages: Stages, crops: Crops) -> Looked:
    """Logits [F, A] of each crop alone, and what they went by."""
    parts = [
        stages.look(part, range(len(part)), {}, evidence=True)
        for part in np.split(crops, range(BATCH, len(crops), BATCH))
    ]
    embedding = np.concatenate([part.embedding for part in parts])
    au_tokens = np.concatenate([part.au_tokens for part in parts])
    logits = [
        follow(stages, embedding[i : i + 1], au_tokens[i : i + 1], np.zeros(1), None)
        for i in range(len(crops))
    ]
    arrays = zip(
        *((e.patch_weights, e.attention, e.gates) for e in (p.evidence for p in parts) if e), strict=True
    )
    return np.concatenate(logits), FaceEvidence(*(np.concatenate(each) for each in arrays))


def by_attention(
    stages: Stages,
    crops: Crops,
    logits: NDArray[np.float32],
    evidence: FaceEvidence,
    random: np.random.Generator,
) -> Table:
    """How far an AU's logit moves (mean of absolute values) when patches are blurred away."""
    table = Table("AU", "most attended", "by chance", "least attended", title="mean |change of the logit|")
    sums = []
    for j, name in enumerate(AU_NAMES):
        if name in stages.config.untaught:
            continue
        order = np.argsort(np.where(evidence.patch_weights > 0, -evidence.attention[:, j], 1), axis=1)
        read = (evidence.patch_weights > 0).sum(1)
        chance = np.stack(
            [random.choice(row[:n], COVERED, replace=False) for row, n in zip(order, read, strict=True)]
        )
        least = np.stack([row[n - COVERED : n] for row, n in zip(order, read, strict=True)])
        moves = []
        for chosen in (order[:, :COVERED], chance, least):
            covered, _ = look(stages, blur(crops, chosen, evidence.patch_weights.shape[1]))
            moves.append(float(np.abs(covered[:, j] - logits[:, j]).mean()))
        sums.append(moves)
        table.add_row(name, *(f"{move:.2f}" for move in moves))
    table.add_row("mean", *(f"{move:.2f}" for move in np.mean(sums, axis=0)))
    return table


def under_a_cover(stages: Stages, crops: Crops, evidence: FaceEvidence, random: np.random.Generator) -> Table:
    """The weight of nine patches side by side, and how many are read, before and after they are covered."""
    grid = round(evidence.patch_weights.shape[1] ** 0.5)
    corners = random.integers(0, grid - COVERED + 1, (len(crops), 2))
    covered, inside = crops.copy(), np.zeros((len(crops), grid, grid), bool)
    for crop, cells, (row, column) in zip(covered, inside, corners, strict=True):
        cells[row : row + COVERED, column : column + COVERED] = True
        crop[enlarged(cells, crop.shape[0])] = crop.reshape(-1, 3).mean(0)
    inside = inside.reshape(len(crops), -1)
    table = Table("covered patches", "mean weight", "read", "share of all attention")
    for title, seen in (("before", evidence), ("after", look(stages, covered)[1])):
        attention = (seen.attention * inside[:, None]).sum(-1).mean()
        weights = seen.patch_weights[inside]
        table.add_row(title, f"{weights.mean():.3f}", f"{(weights > 0).mean():.0%}", f"{attention:.0%}")
    return table


def open_gates(evidence: FaceEvidence) -> Table:
    """Quantiles of the gates."""
    table = Table("AU", "1 %", "median", "99 %", title="gate: how far the local reading is taken in")
    for name, values in zip(AU_NAMES, evidence.gates.T, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in np.quantile(values, (0.01, 0.5, 0.99))))
    return table


def blur(crops: Crops, patches: NDArray[np.integer], count: int) -> Crops:
    """Crops whose patches [F, k] of `count` are blurred beyond recognition."""
    grid, out = round(count**0.5), crops.copy()
    for crop, chosen in zip(out, patches, strict=True):
        cells = np.zeros(count, bool)
        cells[chosen] = True
        where = enlarged(cells.reshape(grid, grid), crop.shape[0])
        crop[where] = cv2.GaussianBlur(crop, (0, 0), crop.shape[0] / grid)[where]
    return out


def enlarged(cells: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Patches [g, g] as pixels [S, S]."""
    at = np.arange(side) * len(cells) // side
    return cells[np.ix_(at, at)]


if __name__ == "__main__":
    main()
