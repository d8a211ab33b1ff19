"""Measure how faithful the attributions are: change the attended patches and compare the scores.

    python benchmarks/accuracy/attribution_faithfulness.py --data ../shared/data

On faces of `faces_val.parquet`, one picture each, without audio:

1. Blur, for each AU, the three patches with most attention, three random active patches, and the three with
   least attention, and measure the change of its logit. If attention is uninformative, all three are equal.
2. Cover a block of 3 x 3 patches with the mean colour of the face and measure the weight of its patches.
3. Print quantiles of the gates.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from auscan.faces.align import crop_face
from auscan.inference.engine import FaceAttributions, InferenceEngine
from auscan.inference.load import load_engine, require_attributions
from auscan.inference.score_track import score_track

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COVERED = 3
"""Number of patches blurred for an AU, and side of the covered block in patches."""
BATCH = 32
Crops = NDArray[np.uint8]  # [F, S, S, 3] RGB
Scored = tuple[NDArray[np.float32], FaceAttributions]


def main() -> None:
    """Run the three parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_val.parquet")
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--faces", type=int, default=300, help="number of faces, spread over the table")
    args = parser.parse_args()
    engine = load_engine(args.model)
    require_attributions(engine)
    crops = score_crops(args.data / "faces_val.parquet", args.faces, engine.config.network.visual.crop_size)
    random = np.random.default_rng(0)
    logits, attributions = score_with_attributions(engine, crops)
    console = Console(width=100)
    console.print(blurring_table(engine, crops, logits, attributions, random))
    console.print(covered_patches_table(engine, crops, attributions, random))
    console.print(gates_table(attributions, engine.config.au_names))


def score_crops(parquet: Path, count: int, side: int) -> Crops:
    """Crop faces by the teacher's points: [F, S, S, 3] RGB."""
    names = [f"{name}_{axis}" for name in POINTS for axis in "xy"]
    table = pd.read_parquet(parquet, columns=["jpeg", *names])
    table = table.iloc[np.linspace(0, len(table) - 1, count).round().astype(int)]
    points = table[names].to_numpy(np.float32).reshape(-1, 5, 2)
    images = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in table["jpeg"])
    return np.stack([crop_face(image, five, side) for image, five in zip(images, points, strict=True)])


def score_with_attributions(engine: InferenceEngine, crops: Crops) -> Scored:
    """Score each crop as a clip of its own: logits [F, A] and attributions."""
    parts = [
        engine.encode_faces(part, range(len(part)), {}, attributions=True)
        for part in np.split(crops, range(BATCH, len(crops), BATCH))
    ]
    embedding = np.concatenate([part.embedding for part in parts])
    au_tokens = np.concatenate([part.au_tokens for part in parts])
    logits = [
        score_track(engine, embedding[i : i + 1], au_tokens[i : i + 1], np.zeros(1), None).logits
        for i in range(len(crops))
    ]
    arrays = zip(
        *((e.patch_weights, e.attention, e.gates) for e in (p.attributions for p in parts) if e), strict=True
    )
    return np.concatenate(logits), FaceAttributions(*(np.concatenate(each) for each in arrays))


def blurring_table(
    engine: InferenceEngine,
    crops: Crops,
    logits: NDArray[np.float32],
    attributions: FaceAttributions,
    random: np.random.Generator,
) -> Table:
    """Mean absolute change of each AU's logit when patches are blurred."""
    table = Table("AU", "most attended", "random", "least attended", title="mean |change of the logit|")
    sums = []
    for j, name in enumerate(engine.config.au_names):
        if name in engine.config.untrained_aus:
            continue
        order = np.argsort(np.where(attributions.patch_weights > 0, -attributions.attention[:, j], 1), axis=1)
        read = (attributions.patch_weights > 0).sum(1)
        chance = np.stack(
            [random.choice(row[:n], COVERED, replace=False) for row, n in zip(order, read, strict=True)]
        )
        least = np.stack([row[n - COVERED : n] for row, n in zip(order, read, strict=True)])
        moves = []
        for chosen in (order[:, :COVERED], chance, least):
            covered, _ = score_with_attributions(
                engine, blur(crops, chosen, attributions.patch_weights.shape[1])
            )
            moves.append(float(np.abs(covered[:, j] - logits[:, j]).mean()))
        sums.append(moves)
        table.add_row(name, *(f"{move:.2f}" for move in moves))
    table.add_row("mean", *(f"{move:.2f}" for move in np.mean(sums, axis=0)))
    return table


def covered_patches_table(
    engine: InferenceEngine, crops: Crops, attributions: FaceAttributions, random: np.random.Generator
) -> Table:
    """Compare weight and share of active patches of a block before and after covering it."""
    grid = round(attributions.patch_weights.shape[1] ** 0.5)
    corners = random.integers(0, grid - COVERED + 1, (len(crops), 2))
    covered, inside = crops.copy(), np.zeros((len(crops), grid, grid), bool)
    for crop, cells, (row, column) in zip(covered, inside, corners, strict=True):
        cells[row : row + COVERED, column : column + COVERED] = True
        crop[upsample_cells(cells, crop.shape[0])] = crop.reshape(-1, 3).mean(0)
    inside = inside.reshape(len(crops), -1)
    table = Table("covered patches", "mean weight", "active", "share of all attention")
    for title, seen in (("before", attributions), ("after", score_with_attributions(engine, covered)[1])):
        attention = (seen.attention * inside[:, None]).sum(-1).mean()
        weights = seen.patch_weights[inside]
        table.add_row(title, f"{weights.mean():.3f}", f"{(weights > 0).mean():.0%}", f"{attention:.0%}")
    return table


def gates_table(attributions: FaceAttributions, au_names: tuple[str, ...]) -> Table:
    """Return the quantiles of the gates, a row an AU."""
    table = Table("AU", "1 %", "median", "99 %", title="gate: weight of the local view")
    for name, values in zip(au_names, attributions.gates.T, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in np.quantile(values, (0.01, 0.5, 0.99))))
    return table


def blur(crops: Crops, patches: NDArray[np.integer], count: int) -> Crops:
    """Blur the patches [F, k] (of `count`) of each crop."""
    grid, out = round(count**0.5), crops.copy()
    for crop, chosen in zip(out, patches, strict=True):
        cells = np.zeros(count, bool)
        cells[chosen] = True
        where = upsample_cells(cells.reshape(grid, grid), crop.shape[0])
        crop[where] = cv2.GaussianBlur(crop, (0, 0), crop.shape[0] / grid)[where]
    return out


def upsample_cells(cells: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Upsample patches [g, g] to pixels [S, S]."""
    at = np.arange(side) * len(cells) // side
    return cells[np.ix_(at, at)]


if __name__ == "__main__":
    main()
