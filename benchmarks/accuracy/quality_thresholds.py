"""Measure accuracy against picture quality, the basis of the thresholds in results/table.py.

    python benchmarks/accuracy/quality_thresholds.py --data ../shared/data --run runs/nano

Corrupts the development faces of the training table step by step, measures each crop as `auscan detect` does,
and computes agreement with the teacher's labels of the clean picture: mean AUC over the ten AUs with a
teacher, by level of corruption, then in bins of the measured value. Last it prints the share of clean faces
that are not scored. `--run` is the run folder of the recipe; its cache of faces is used or made.
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

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.faces.align import crop_face, crop_transform, measure_quality, to_crop
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.inference.score_track import score_track
from auscan.results.table import REASONS, check_quality
from recipes.nano.data.real_faces import Faces, load_faces
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.occluders import covered_share
from recipes.nano.train.augment import occlude

MEASURED = ("size", "sharpness", "brightness", "contrast")
"""Quantities of measure_quality, in order."""
POSE_OCCLUSION = ("yaw", "pitch", "covered")
"""Quantities of the visual stage, in order."""
NOISE = 3.0
"""Standard deviation of the camera noise in low light, of 255."""
BINS = 8
"""Bins of the measured value, with equally many faces."""
Image = NDArray[np.uint8]
MeasuredCrop = tuple[Image, NDArray[np.float32], float]
"""Crop [S, S], measured quantities [4], covered share."""


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_train.parquet")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/nano"), help="run folder with the cache of faces"
    )
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--only", nargs="*", help="corruptions to run; all by default")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    engine = load_engine(args.model)
    faces = load_faces([args.data / "faces_train.parquet"], args.run / "faces.npz")
    console = Console(width=110)
    for name, (quantity, corrupt, levels) in CORRUPTIONS.items():
        if not args.only or name in args.only:
            console.print(table_by_level(name, quantity, engine, faces, corrupt, levels))
    console.print(unscored_faces(engine, faces))


def unscored_faces(engine: InferenceEngine, faces: Faces) -> str:
    """Return the shares of clean faces that are not scored, by reason."""
    crops = [crop_face_of(faces, int(row)) for row in np.flatnonzero(faces.development)]
    _, pose_occlusion = score(engine, np.stack([crop for crop, _, _ in crops]))
    quality, reason = check_quality(
        np.hstack([np.stack([measured for _, measured, _ in crops]), pose_occlusion])
    )
    reasons = ", ".join(f"{name} {np.mean(reason == name):.2%}" for name in REASONS)
    return f"clean faces: median quality {np.median(quality):.2f}; not scored: {reasons}"


def table_by_level(
    name: str,
    quantity: str,
    engine: InferenceEngine,
    faces: Faces,
    corrupt: Callable[[Faces, int, float, np.random.Generator], MeasuredCrop],
    levels: tuple[float, ...],
) -> Table:
    """Return measured values and mean AUC by level of corruption, then by bin of the measured value."""
    rows = np.flatnonzero(faces.development)
    table = Table(title=f"{name}: {quantity}")
    for title in ("level", f"{quantity}, 5 %", "median", "95 %", "covered share", "mean AUC"):
        table.add_column(title, justify="right")
    values, scores = [], []
    for level in levels:
        rng = np.random.default_rng(0)
        crops = [corrupt(faces, row, level, rng) for row in rows]
        logits, pose_occlusion = score(engine, np.stack([crop[0] for crop in crops]))
        measured = np.column_stack(
            [
                np.stack([crop[1] for crop in crops]),
                np.abs(pose_occlusion[:, :2]),
                pose_occlusion[:, 2],
            ]
        )
        value = measured[:, (*MEASURED, *POSE_OCCLUSION).index(quantity)]
        values.append(value)
        scores.append(logits)
        low, middle, high = np.percentile(value, [5, 50, 95])
        hidden = float(np.median([crop[2] for crop in crops]))
        auc = mean_auc(logits, labels_of(engine, faces)[rows])
        shown = (f"{value:.3f}" for value in (low, middle, high, hidden, auc))
        table.add_row(f"{level:g}", *shown)
    table.add_section()
    labels = np.tile(labels_of(engine, faces)[rows], (len(levels), 1))
    for low, high, auc in auc_by_bin(np.concatenate(values), np.concatenate(scores), labels):
        table.add_row("bin", f"{low:.3f}", "to", f"{high:.3f}", "", f"{auc:.3f}")
    return table


def score(engine: InferenceEngine, crops: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score grey crops [n, S, S], each as a clip of its own: logits [n, A], pose and occlusion [n, 3]."""
    rgb = np.repeat(crops[..., None], 3, axis=-1)
    logits, pose_occlusion = [], []
    for start in range(0, len(rgb), 32):
        part = rgb[start : start + 32]
        seen = engine.encode_faces(part, range(len(part)), {})
        pose_occlusion.append(seen.pose_occlusion)
        for one in range(len(part)):
            own = slice(one, one + 1)
            logits.append(
                score_track(engine, seen.embedding[own], seen.au_tokens[own], np.zeros(1), None).logits
            )
    return np.concatenate(logits), np.concatenate(pose_occlusion)


def labels_of(engine: InferenceEngine, faces: Faces) -> NDArray[np.int8]:
    """Return the labels [n, A] of the AUs of a checkpoint; -1 for AU06, which has no teacher score."""
    labels = faces.labels[:, [NANO_AUS.index(name) for name in engine.config.au_names]]
    return np.where(np.array(engine.config.au_names) == "AU06", -1, labels).astype(np.int8)


def mean_auc(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Compute the mean ROC-AUC over the AUs with labels of both kinds."""
    aucs = []
    for column in range(labels.shape[1]):
        known = labels[:, column] >= 0
        if len(np.unique(labels[known, column])) == 2:
            aucs.append(roc_auc_score(labels[known, column], logits[known, column]))
    return float(np.mean(aucs))


def auc_by_bin(
    values: NDArray[np.floating], logits: NDArray[np.float32], labels: NDArray[np.int8]
) -> Iterator[tuple[float, float, float]]:
    """Yield lower edge, upper edge and mean AUC of bins with equally many faces."""
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1))
    for low, high in pairwise(edges):
        inside = (values >= low) & (values <= high)
        yield float(low), float(high), mean_auc(logits[inside], labels[inside])


def crop_face_of(faces: Faces, row: int, image: Image | None = None, scale: float = 1.0) -> MeasuredCrop:
    """Crop a face as `auscan detect` does, and measure it."""
    height, width = faces.sizes[row]
    image = faces.images[row][:height, :width] if image is None else image
    points = faces.detector_points[row] * scale
    return measure_crop(crop_face(image, points), points)


def measure_crop(crop: Image, points: NDArray[np.float32], covered: float = 0.0) -> MeasuredCrop:
    """Measure the quality of a grey crop of 112 x 112 px."""
    rgb = np.repeat(crop[..., None], 3, axis=-1)
    return crop, measure_quality(rgb, crop_transform(points)), covered


def change_crop(
    faces: Faces, row: int, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> MeasuredCrop:
    """Change the crop of a face and measure it."""
    crop = change(crop_face_of(faces, row)[0].astype(np.float32))
    return measure_crop(np.clip(crop, 0, 255).round().astype(np.uint8), faces.detector_points[row])


def blur(faces: Faces, row: int, sigma: float, rng: np.random.Generator) -> MeasuredCrop:
    """Blur as if out of focus."""
    return change_crop(faces, row, lambda crop: cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop)


def motion_blur(faces: Faces, row: int, length: float, rng: np.random.Generator) -> MeasuredCrop:
    """Blur along a line in a random direction."""
    size = int(length) // 2 * 2 + 1
    kernel = np.zeros((size, size), np.float32)
    angle, middle = rng.uniform(0, np.pi), size // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = (tuple((middle + sign * reach).round().astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, *ends, 1.0, 1)
    return change_crop(faces, row, lambda crop: cv2.filter2D(crop, -1, kernel / kernel.sum()))


def shrink(faces: Faces, row: int, eyes_px: float, rng: np.random.Generator) -> MeasuredCrop:
    """Reduce the picture to a given eye distance in px."""
    height, width = faces.sizes[row]
    image = faces.images[row][:height, :width]
    scale = min(1.0, eyes_px / float(crop_face_of(faces, row)[1][0]))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return crop_face_of(faces, row, cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale)


def darken(faces: Faces, row: int, gain: float, rng: np.random.Generator) -> MeasuredCrop:
    """Reduce the signal and keep the camera noise."""
    return change_crop(
        faces, row, lambda crop: crop * gain + rng.normal(0, NOISE, crop.shape).astype(np.float32)
    )


def reduce_contrast(faces: Faces, row: int, share: float, rng: np.random.Generator) -> MeasuredCrop:
    """Reduce contrast at constant brightness."""
    return change_crop(
        faces,
        row,
        lambda crop: (
            share * (crop - crop.mean()) + crop.mean() + rng.normal(0, NOISE, crop.shape).astype("f4")
        ),
    )


def occlude_face(faces: Faces, row: int, least: float, rng: np.random.Generator) -> MeasuredCrop:
    """Paste occluders until at least a share of the face is covered."""
    points = faces.detector_points[row]
    crop, hidden = crop_face_of(faces, row)[0].astype(np.float32), np.zeros((112, 112), np.bool_)
    landmarks = to_crop(faces.landmarks[row], crop_transform(points))
    while covered_share(hidden, landmarks) < least:
        crop, more = occlude(crop, rng)
        hidden |= more
    share = covered_share(hidden, landmarks)
    return measure_crop(np.clip(crop, 0, 255).astype(np.uint8), points, share)


CORRUPTIONS: dict[str, tuple[str, Callable[..., MeasuredCrop], tuple[float, ...]]] = {
    "out of focus, standard deviation in px": ("sharpness", blur, (0, 0.5, 1, 1.5, 2, 3, 4, 6)),
    "motion, px": ("sharpness", motion_blur, (1, 5, 9, 13, 19, 27)),
    "far away, eyes in px": ("size", shrink, (100, 24, 16, 12, 10, 8, 6, 4)),
    "little light, gain": ("brightness", darken, (1, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015)),
    "little contrast, gain": ("contrast", reduce_contrast, (1, 0.5, 0.25, 0.12, 0.06, 0.03)),
    "covered, least share": ("covered", occlude_face, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    "turned, as it is": ("yaw", blur, (0,)),
}


if __name__ == "__main__":
    main()
