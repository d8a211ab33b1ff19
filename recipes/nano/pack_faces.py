"""Rendered stills as training arrays: grey canvases from which crops are cut the product's own way.

    python recipes/nano/pack_faces.py --ict ../shared/data/ict_facekit.npz --out runs/nano/rendered.npz

About 25 ms a picture and core. In: the path of an ict_facekit.npz.  Out: `Rendered`, kept beside the run.
Not here: what the stills show (rendered_faces.py), batches (face_data.py).
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_transform, to_crop
from auscan.faces.detector import FaceDetector
from rendered_faces import TRAIN, RenderedFace, rendered_faces

MARGIN = 32
"""px around an aligned crop that a canvas keeps, for crops cut by other points."""
CANVAS = SIDE + 2 * MARGIN
PERSONS, PICTURES = 5000, 4
HULL = 24
"""Points of the outline that are kept."""
TEACHER_SIGNS = np.array([1, -1], np.float32)
"""The teacher's yaw and pitch for the renderer's: its pitch is above 0 where the face looks down."""
_NEAR = 0.12
"""A detection is the face where its points are off by less than this share of the face's height."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """n rendered faces; places are px of their canvases."""

    images: NDArray[np.uint8]
    """[n, 176, 176] grey, aligned by the true points; black beyond the picture."""
    true_points: NDArray[np.float32]
    """[n, 5, 2]."""
    detector_points: NDArray[np.float32]
    """[n, 5, 2]; the true ones where the detector found nothing."""
    found: NDArray[np.bool_]
    """[n]: did it?"""
    outline: NDArray[np.float32]
    """[n, HULL, 2]: its hull is the face."""
    labels: NDArray[np.int8]
    """[n, 12]."""
    soft: NDArray[np.float32]
    intensities: NDArray[np.float32]
    pose: NDArray[np.float32]
    """[n, 2] yaw and pitch by the signs of the teacher's, degrees."""
    covered: NDArray[np.float32]
    """[n] share of the face under a thing."""
    person: NDArray[np.int64]
    lightness: NDArray[np.float32]
    """[n] L* of the skin."""


def load_rendered(
    ict: Path, cache: Path, persons: range = TRAIN[:PERSONS], pictures: int = PICTURES, workers: int = 2
) -> Rendered:
    """Render the faces; the second call takes them from `cache` (.npz)."""
    if not cache.exists():
        parts = [persons[k : k + 50] for k in range(0, len(persons), 50)]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            packed = list(pool.map(pack, repeat(ict), parts, repeat(pictures)))
        names = Rendered.__dataclass_fields__
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.with_suffix(".part").open("wb") as file:
            np.savez(file, **{name: np.concatenate([getattr(p, name) for p in packed]) for name in names})
        cache.with_suffix(".part").replace(cache)
    with np.load(cache) as stored:
        return Rendered(**{name: stored[name] for name in stored.files})


def pack(ict: Path, persons: range, pictures: int, seed: int = 0) -> Rendered:
    """Some persons' stills as arrays."""
    cv2.setNumThreads(1)
    detector = FaceDetector()
    rows = [_row(face, detector) for face in rendered_faces(ict, seed, persons, pictures)]
    return Rendered(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _row(face: RenderedFace, detector: FaceDetector) -> dict[str, np.ndarray]:
    """One row of every array."""
    transform = crop_transform(face.points)
    transform[:, 2] += MARGIN
    seen = detected_points(face, detector)
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    hull = cv2.convexHull(face.outline.astype(np.float32))[:, 0]
    hull = hull[np.linspace(0, len(hull) - 1, HULL).round().astype(int)]
    return {
        "images": cv2.warpAffine(_not_finer(grey, transform), transform, (CANVAS, CANVAS)),
        "true_points": to_crop(face.points, transform),
        "detector_points": to_crop(face.points if seen is None else seen, transform),
        "found": np.bool_(seen is not None),
        "outline": to_crop(hull, transform),
        "labels": face.labels,
        "soft": face.soft,
        "intensities": face.intensities,
        "pose": face.pose[:2] * TEACHER_SIGNS,
        "covered": np.float32(face.covered),
        "person": np.int64(face.person),
        "lightness": np.float32(face.lightness),
    }


def detected_points(face: RenderedFace, detector: FaceDetector) -> NDArray[np.float32] | None:
    """[5, 2] px where the detector sees the face; None where it does not."""
    height = float(np.ptp(face.outline[:, 1]))
    for detection in detector(face.image):
        if np.linalg.norm(detection.points - face.points, axis=1).mean() < _NEAR * height:
            return detection.points
    return None


def _not_finer(grey: NDArray[np.uint8], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture smoothed as far as the transform makes it smaller, so that nothing aliases."""
    shrink = 1 / float(np.hypot(transform[0, 0], transform[1, 0]))
    return cv2.GaussianBlur(grey, (0, 0), 0.35 * shrink) if shrink > 1.4 else grey


def main() -> None:
    """Read the command line, render and pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    parser.add_argument("--persons", type=int, default=PERSONS)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each person")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    packed = load_rendered(args.ict, args.out, TRAIN[: args.persons], args.pictures, args.workers)
    print(f"{len(packed.images)} faces, {packed.found.mean():.1%} of them found by the detector")


if __name__ == "__main__":
    main()
