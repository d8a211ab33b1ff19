"""Measure what the number format of cached patches costs: their error, and its effect on logits and AUC.

    python benchmarks/accuracy/feature_precision.py --data ../shared/data

Scores held-out faces, one picture each, without audio. Between encoder and alignment the tokens are rounded
as in a cache of features (datasets/cache.py): global tokens to float16, patches to each of the formats.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from torch import Tensor

from auscan.datasets.cache import quantise, restore
from auscan.faces.align import crop_face
from auscan.inference.score_track import score_track
from auscan.inference.torch_engine import TorchEngine
from benchmarks.accuracy.held_out_data import LabelledPictures, real_faces, rendered_faces
from benchmarks.accuracy.metric_tables import au_metrics

BATCH = 64
Tokens = NDArray[np.float32]
Rounding = Callable[[Tokens], Tokens]


def with_float16_scales(patches: Tokens) -> Tokens:
    """Round patches [..., Dv] to int8 with float16 scales."""
    limits = np.abs(patches).max(axis=-1) / 127
    scales = limits.astype(np.float16)
    scales = np.where(scales < limits, np.nextafter(scales, np.float16(np.inf)), scales).astype(np.float32)
    return restore(np.rint(patches / scales[..., None]).astype(np.int8), scales)


ROUNDINGS: dict[str, Rounding] = {
    "not rounded": lambda patches: patches,
    "float16": lambda patches: patches.astype(np.float16).astype(np.float32),
    "int8, float32 scale": lambda patches: restore(*quantise(patches.astype(np.float16))),
    "int8, float16 scale": with_float16_scales,
}
"""Number format -> function that rounds patches [F, N, Dv]."""


def main() -> None:
    """Print a table for each set of faces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_val.parquet")
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--every", type=int, default=1, help="score each n-th real face")
    parser.add_argument("--persons", type=int, default=40, help="rendered people, four pictures each")
    args = parser.parse_args()
    engine, console = TorchEngine(args.model), Console(width=110)
    sets = {
        "real faces": real_faces(args.data, args.every),
        "rendered faces": rendered_faces(args.data, args.persons, 0.0),
    }
    for name, pictures in sets.items():
        console.print(rounding_table(engine, name, pictures))


def rounding_table(engine: TorchEngine, name: str, pictures: LabelledPictures) -> Table:
    """Compare the formats on the faces of a set."""
    crops = crops_of(engine, pictures)
    exact = logits_of(engine, crops, ROUNDINGS["not rounded"])
    patches = patches_of(engine, crops)
    au_names = engine.config.au_names
    labels = pictures.truth.of(au_names).labels
    columns = ("error of a token: mean", "largest", "change of a logit: mean", "largest", "mean AUC")
    table = Table("patches", *columns, title=f"{len(crops)} {name}")
    for form, rounding in ROUNDINGS.items():
        logits = logits_of(engine, crops, rounding)
        error = np.linalg.norm(rounding(patches) - patches, axis=-1) / np.linalg.norm(patches, axis=-1)
        change = np.abs(logits - exact)
        scores = expit(logits)
        auc = au_metrics(labels, scores, (scores >= 0.5).astype(float), au_names)["auc"].mean()
        shares = (f"{value:.3%}" for value in (error.mean(), error.max()))
        table.add_row(form, *shares, f"{change.mean():.4f}", f"{change.max():.3f}", f"{auc:.5f}")
    return table


def crops_of(engine: TorchEngine, pictures: LabelledPictures) -> NDArray[np.uint8]:
    """Crop the faces by their labelled points: [F, S, S, 3]."""
    side = engine.config.network.visual.crop_size
    pairs = zip(pictures.images(), pictures.truth.points, strict=True)
    return np.stack([crop_face(image, points, side) for image, points in pairs])


@torch.inference_mode()
def patches_of(engine: TorchEngine, crops: NDArray[np.uint8]) -> Tokens:
    """Encode the crops; return the patches [F, N, Dv]."""
    parts = torch.from_numpy(crops).split(BATCH)
    return np.concatenate([engine.network.visual.encoder(part)[1].numpy() for part in parts])


def logits_of(engine: TorchEngine, crops: NDArray[np.uint8], rounding: Rounding) -> NDArray[np.float32]:
    """Score each crop as a clip of its own, with rounded tokens: logits [F, A]."""

    def round_tokens(_module: object, _inputs: object, tokens: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        if rounding is ROUNDINGS["not rounded"]:
            return tokens
        face, patches = tokens
        return face.half().float(), torch.from_numpy(rounding(patches.numpy()))

    hook = engine.network.visual.encoder.register_forward_hook(round_tokens)
    logits = []
    for part in np.split(crops, range(BATCH, len(crops), BATCH)):
        found = engine.encode_faces(part, range(len(part)), {})
        for row in range(len(part)):
            frame = slice(row, row + 1)
            embedding, au_tokens = found.embedding[frame], found.au_tokens[frame]
            logits.append(score_track(engine, embedding, au_tokens, np.zeros(1), None).logits)
    hook.remove()
    return np.concatenate(logits)


if __name__ == "__main__":
    main()
