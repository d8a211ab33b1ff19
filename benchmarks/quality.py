"""Where reading a face breaks down: what the cuts of results/quality.py rest on.

    python benchmarks/quality.py --data ../shared/data --run runs/nano

Takes the development faces of the training table (no other), spoils them step by step, measures each crop as
the product does, and asks how far the model still agrees with the teacher's labels of the clean picture: mean
AUC over the ten AUs with a teacher, by level of spoiling, then in bins of what was measured. At last, how
many of the clean faces are not judged. `--run` is the recipe's folder, whose cache of the faces is used or
made.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "nano"))
from augment import occlude
from auscan.core.aus import AU_NAMES
from auscan.faces.align import crop_face, crop_transform, to_crop
from auscan.faces.quality import measure
from auscan.inference.follow import follow
from auscan.inference.stages import Stages, load
from auscan.results.quality import REASONS, judge
from face_data import Faces, load_faces
from occluders import covered_share

MEASURED = ("size", "sharpness", "brightness", "contrast")
TOLD = ("yaw", "pitch", "covered")
NOISE = 3.0
"""Standard deviation of the noise of a camera in little light, of 255."""
BINS = 8

Image = NDArray[np.uint8]
Cut = tuple[Image, NDArray[np.float32], float]
"""Crop [S, S], measured [4], covered share."""


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_train.parquet")
    parser.add_argument("--run", type=Path, default=Path("runs/nano"), help="cache of the faces")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--only", nargs="*", help="which ways of spoiling; all without")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    stages = load(args.model)
    faces = load_faces(args.data / "faces_train.parquet", args.run / "faces.npz")
    console = Console(width=110)
    for name, (part, spoil, levels) in WAYS.items():
        if not args.only or name in args.only:
            console.print(by_level(name, part, stages, faces, spoil, levels))
    console.print(refused(stages, faces))


def refused(stages: Stages, faces: Faces) -> str:
    """Why faces are not judged whose pictures are as they were found."""
    cuts = [cut(faces, int(row)) for row in np.flatnonzero(faces.development)]
    _, sight = read(stages, np.stack([crop for crop, _, _ in cuts]))
    quality, reason = judge(np.hstack([np.stack([measured for _, measured, _ in cuts]), sight]))
    why = ", ".join(f"{name} {np.mean(reason == name):.2%}" for name in REASONS)
    return f"clean faces: quality {np.median(quality):.2f} in the median; not judged: {why}"


def by_level(
    name: str,
    part: str,
    stages: Stages,
    faces: Faces,
    spoil: Callable[[Faces, int, float, np.random.Generator], Cut],
    levels: tuple[float, ...],
) -> Table:
    """What is measured and how well it is read, by level of spoiling and then by bin of what was measured."""
    rows = np.flatnonzero(faces.development)
    table = Table(title=f"{name}: {part}")
    for title in ("level", f"{part}, 5 %", "median", "95 %", "really covered", "mean AUC"):
        table.add_column(title, justify="right")
    values, scores = [], []
    for level in levels:
        rng = np.random.default_rng(0)
        cuts = [spoil(faces, row, level, rng) for row in rows]
        said, told = read(stages, np.stack([cut[0] for cut in cuts]))
        measured = np.column_stack([np.stack([cut[1] for cut in cuts]), np.abs(told[:, :2]), told[:, 2]])
        value = measured[:, (*MEASURED, *TOLD).index(part)]
        values.append(value)
        scores.append(said)
        low, middle, high = np.percentile(value, [5, 50, 95])
        hidden = float(np.median([cut[2] for cut in cuts]))
        auc = mean_auc(said, faces.labels[rows])
        shown = (f"{value:.3f}" for value in (low, middle, high, hidden, auc))
        table.add_row(f"{level:g}", *shown)
    table.add_section()
    labels = np.tile(faces.labels[rows], (len(levels), 1))
    for low, high, auc in binned(np.concatenate(values), np.concatenate(scores), labels):
        table.add_row("bin", f"{low:.3f}", "to", f"{high:.3f}", "", f"{auc:.3f}")
    return table


def read(stages: Stages, crops: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n, A] and sight [n, 3] of grey crops [n, S, S], each face alone."""
    rgb = np.repeat(crops[..., None], 3, axis=-1)
    logits, sight = [], []
    for start in range(0, len(rgb), 32):
        part = rgb[start : start + 32]
        seen = stages.look(part, range(len(part)), {})
        sight.append(seen.sight)
        # Moments a minute apart: each face is a clip of its own.
        for one in range(len(part)):
            own = slice(one, one + 1)
            logits.append(follow(stages, seen.embedding[own], seen.au_tokens[own], np.zeros(1), None))
    return np.concatenate(logits), np.concatenate(sight)


def mean_auc(said: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Mean ROC-AUC over the AUs with a teacher (not AU06, whose sign is ours)."""
    aucs = []
    for column, name in enumerate(AU_NAMES):
        known = labels[:, column] >= 0
        if name != "AU06" and len(np.unique(labels[known, column])) == 2:
            aucs.append(roc_auc_score(labels[known, column], said[known, column]))
    return float(np.mean(aucs))


def binned(
    values: NDArray[np.floating], said: NDArray[np.float32], labels: NDArray[np.int8]
) -> Iterator[tuple[float, float, float]]:
    """From, to and mean AUC of bins with equally many faces."""
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1))
    for low, high in pairwise(edges):
        inside = (values >= low) & (values <= high)
        yield float(low), float(high), mean_auc(said[inside], labels[inside])


def cut(faces: Faces, row: int, image: Image | None = None, scale: float = 1.0) -> Cut:
    """The face as the product cuts it, and what it measures."""
    height, width = faces.sizes[row]
    image = faces.images[row][:height, :width] if image is None else image
    points = faces.detector_points[row] * scale
    return finish(crop_face(image, points), points)


def finish(crop: Image, points: NDArray[np.float32], covered: float = 0.0) -> Cut:
    """Measure a grey crop of 112 x 112 px."""
    rgb = np.repeat(crop[..., None], 3, axis=-1)
    return crop, measure(rgb, crop_transform(points)), covered


def respoil(faces: Faces, row: int, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Cut:
    """The face with its crop changed."""
    crop = change(cut(faces, row)[0].astype(np.float32))
    return finish(np.clip(crop, 0, 255).round().astype(np.uint8), faces.detector_points[row])


def blurred(faces: Faces, row: int, sigma: float, rng: np.random.Generator) -> Cut:
    """Out of focus."""
    return respoil(faces, row, lambda crop: cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop)


def moved(faces: Faces, row: int, length: float, rng: np.random.Generator) -> Cut:
    """Blurred by motion, in some direction."""
    size = int(length) // 2 * 2 + 1
    kernel = np.zeros((size, size), np.float32)
    angle, middle = rng.uniform(0, np.pi), size // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = (tuple((middle + sign * reach).round().astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, *ends, 1.0, 1)
    return respoil(faces, row, lambda crop: cv2.filter2D(crop, -1, kernel / kernel.sum()))


def shrunk(faces: Faces, row: int, eyes_px: float, rng: np.random.Generator) -> Cut:
    """As far away that the eyes are so many pixels apart."""
    height, width = faces.sizes[row]
    image = faces.images[row][:height, :width]
    scale = min(1.0, eyes_px / float(cut(faces, row)[1][0]))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return cut(faces, row, cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale)


def darkened(faces: Faces, row: int, gain: float, rng: np.random.Generator) -> Cut:
    """In little light: the signal falls, the noise stays."""
    return respoil(faces, row, lambda crop: crop * gain + rng.normal(0, NOISE, crop.shape).astype(np.float32))


def faded(faces: Faces, row: int, share: float, rng: np.random.Generator) -> Cut:
    """In fog or against the light: as bright as before, with less contrast."""
    return respoil(
        faces,
        row,
        lambda crop: (
            share * (crop - crop.mean()) + crop.mean() + rng.normal(0, NOISE, crop.shape).astype("f4")
        ),
    )


def covered(faces: Faces, row: int, least: float, rng: np.random.Generator) -> Cut:
    """Under things that hide at least a share of it, none for 0."""
    points = faces.detector_points[row]
    crop, hidden = cut(faces, row)[0].astype(np.float32), np.zeros((112, 112), np.bool_)
    landmarks = to_crop(faces.landmarks[row], crop_transform(points))
    while covered_share(hidden, landmarks) < least:
        crop, more = occlude(crop, rng)
        hidden |= more
    share = covered_share(hidden, landmarks)
    return finish(np.clip(crop, 0, 255).astype(np.uint8), points, share)


WAYS: dict[str, tuple[str, Callable[..., Cut], tuple[float, ...]]] = {
    "out of focus, standard deviation in px": ("sharpness", blurred, (0, 0.5, 1, 1.5, 2, 3, 4, 6)),
    "motion, px": ("sharpness", moved, (1, 5, 9, 13, 19, 27)),
    "far away, eyes in px": ("size", shrunk, (100, 24, 16, 12, 10, 8, 6, 4)),
    "little light, gain": ("brightness", darkened, (1, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015)),
    "little contrast, gain": ("contrast", faded, (1, 0.5, 0.25, 0.12, 0.06, 0.03)),
    "covered, least share": ("covered", covered, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    "turned, as it is": ("yaw", blurred, (0,)),
}


if __name__ == "__main__":
    main()
