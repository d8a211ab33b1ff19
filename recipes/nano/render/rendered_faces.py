"""Render still faces with exact labels and pack them into training arrays.

    python recipes/nano/render/rendered_faces.py --ict ict_facekit.npz --out runs/nano/rendered.npz

`rendered_faces` yields stills. `load_rendered` renders many, converts them to grey canvases and caches them.
A picture takes about 25 ms on one core. The same arguments give the same pictures. Persons come from the
disjoint ranges `TRAIN`, `DEVELOPMENT` and `TEST`.

Inputs: the path of an ict_facekit.npz, persons. Returns: `RenderedFace`s, or `RenderedArrays`.

See also: rendered_clips.py (clips), ../train/face_batches.py (crops and batches).
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks
from auscan.datasets.synth.person import Floats
from auscan.faces.align import SIDE, crop_transform, to_crop
from auscan.faces.detector import FaceDetector
from recipes.nano.render.appearance import TEST_SEEDS, Appearance, Random, draw_appearance
from recipes.nano.render.camera_model import adjust_exposure, apply_camera, draw_camera_setup, render_head
from recipes.nano.render.expressions import draw_expression, labels_of, mean_intensities, soft_targets
from recipes.nano.render.head_mesh import Head, load_head
from recipes.nano.render.occluders import covered_share, draw_random_occluder, parts_covered, paste

TRAIN = range(0, TEST_SEEDS // 2)
DEVELOPMENT = range(TEST_SEEDS // 2, TEST_SEEDS)
TEST = range(TEST_SEEDS, 2 * TEST_SEEDS)
"""Persons for training, for calibration, and for benchmarks; the ranges are disjoint."""
OCCLUDED = 0.25
"""Share of stills with an occluder."""


@dataclass(frozen=True, eq=False)
class RenderedFace:
    """One still with its ground truth."""

    image: NDArray[np.uint8]
    """[H, W, 3] RGB with one face."""
    person: int
    """Seed of the person."""
    labels: NDArray[np.int8]
    """[A]: 1 active, 0 inactive, -1 between; covered parts are labelled too."""
    soft: Floats
    """[A]: soft targets, 0 to 1."""
    intensities: Floats
    """[A]: mean of both sides, 0 to about 1.2."""
    points: Floats
    """[5, 2] px."""
    outline: Floats
    """[L, 2] px: the face is its convex hull."""
    pose: Floats
    """[3]: yaw, pitch, roll in degrees; yaw above 0 turns towards larger x, pitch above 0 looks up."""
    covered: float
    """Occluded share of the face."""
    parts: dict[str, bool]
    """Which of occluders.PARTS are covered."""
    hidden: NDArray[np.bool_]
    """[H, W]: occlusion mask."""
    lightness: float
    """L* of the skin."""
    glasses: str
    """none, clear or dark."""
    lip_gap: float
    """Inner-lip distance over face height."""


def rendered_faces(
    ict: Path | None, seed: int, persons: Iterable[int], pictures: int = 4, occluded: float = OCCLUDED
) -> Iterator[RenderedFace]:
    """Yield some pictures of each person. The same arguments give the same pictures.

    ict: an ict_facekit.npz; None for the built-in face.
    occluded: share of pictures with an occluder.
    """
    head = load_head(ict)
    for person in persons:
        appearance = draw_appearance(head, person)
        for number in range(pictures):
            yield render_face(
                head, appearance, person, np.random.default_rng([seed, person, number]), occluded
            )


def render_face(
    head: Head, appearance: Appearance, person: int, random: Random, occluded: float
) -> RenderedFace:
    """Render one picture of a person."""
    expression, pose, camera = (
        draw_expression(random),
        draw_pose(random),
        adjust_exposure(draw_camera_setup(random), appearance),
    )
    left, right = expression.left + appearance.resting_aus, expression.right + appearance.resting_aus
    vertices = head.vertices(appearance.shape, appearance.au_deltas, left, right, expression.extras)
    at = (float(random.uniform(0.42, 0.58)), float(random.uniform(0.38, 0.5)))
    picture = render_head(head, appearance, vertices, pose, at, camera)
    image, hidden = picture.image, np.zeros(picture.image.shape[:2], np.bool_)
    parts = parts_covered(np.zeros((SIDE, SIDE), np.bool_))
    if random.random() < occluded:
        occluder, shift = draw_random_occluder(random)
        transform = crop_transform(picture.points)
        to_image = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))[:2]
        light = float(np.clip((camera.key_light + camera.ambient).mean(), 0.3, 1.2))
        image, hidden = paste(image, occluder, shift, 0.0, to_image, light)
        bare = np.zeros((SIDE, SIDE), np.uint8)
        parts = parts_covered(paste(bare, occluder, shift)[1])
    if appearance.glasses == "dark":
        parts["eyes"] = True
    intensities = mean_intensities(expression, appearance.resting_aus)
    return RenderedFace(
        image=apply_camera(image, camera, random),
        person=person,
        labels=labels_of(intensities, picture.lip_gap),
        soft=soft_targets(intensities, picture.lip_gap),
        intensities=intensities,
        points=picture.points,
        outline=picture.outline,
        pose=np.array(pose, np.float32),
        covered=covered_share(hidden, picture.outline) if hidden.any() else 0.0,
        parts=parts,
        hidden=hidden,
        lightness=appearance.lightness,
        glasses=appearance.glasses,
        lip_gap=picture.lip_gap,
    )


def draw_pose(random: Random) -> tuple[float, float, float]:
    """Draw yaw, pitch, roll in degrees: half near frontal, half over the whole range."""
    if random.random() < 0.5:
        yaw, pitch = random.normal(0, 14), random.normal(0, 9)
    else:
        yaw, pitch = random.uniform(-65, 65), random.uniform(-33, 33)
    return float(np.clip(yaw, -65, 65)), float(np.clip(pitch, -33, 33)), float(random.normal(0, 8))


MARGIN = 32
"""Margin of a canvas around the aligned crop, px, for crops by other points."""
CANVAS = SIDE + 2 * MARGIN
"""Side of a canvas, px."""
PERSONS, PICTURES = 5000, 4
"""Training persons, and pictures of each."""
HULL = 24
"""Number of outline points that are kept."""
TEACHER_POSE_SIGNS = np.array([1, -1], np.float32)
"""Signs from the renderer's yaw and pitch to the teacher's, whose pitch is positive when looking down."""
_NEAR = 0.12
"""Largest mean point error of a matching detection, as a share of the face height."""


@dataclass(frozen=True, eq=False)
class RenderedArrays:
    """n rendered faces; positions in px of their canvases."""

    images: NDArray[np.uint8]
    """[n, 176, 176] grey, aligned by the true points; black beyond the picture."""
    true_points: NDArray[np.float32]
    """[n, 5, 2]."""
    detector_points: NDArray[np.float32]
    """[n, 5, 2]; the true points if the detector found no face."""
    found: NDArray[np.bool_]
    """[n]: whether the detector found the face."""
    outline: NDArray[np.float32]
    """[n, HULL, 2]: the face is its convex hull."""
    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 between."""
    soft: NDArray[np.float32]
    """[n, A] soft targets, 0 to 1."""
    intensities: NDArray[np.float32]
    """[n, A]."""
    pose: NDArray[np.float32]
    """[n, 2] yaw and pitch with the teacher's signs, degrees."""
    hidden: NDArray[np.uint8]
    """[n, 176, 22] occlusion masks of the canvases, eight pixels a byte."""
    person: NDArray[np.int64]
    """[n] seed of the person."""
    lightness: NDArray[np.float32]
    """[n] L* of the skin."""


def load_rendered(
    ict: Path | None,
    cache: Path,
    persons: range = TRAIN[:PERSONS],
    pictures: int = PICTURES,
    workers: int = 2,
) -> RenderedArrays:
    """Render the faces, or read them from `cache` (.npz) if it exists.  ict: None for the built-in face."""
    if not cache.exists():
        parts = [persons[k : k + 50] for k in range(0, len(persons), 50)]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            packed = list(pool.map(pack, repeat(ict), parts, repeat(pictures)))
        names = RenderedArrays.__dataclass_fields__
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.with_suffix(".part").open("wb") as file:
            np.savez(file, **{name: np.concatenate([getattr(p, name) for p in packed]) for name in names})
        cache.with_suffix(".part").replace(cache)
    with np.load(cache) as stored:
        return RenderedArrays(**{name: stored[name] for name in stored.files})


def pack(ict: Path | None, persons: range, pictures: int, seed: int = 0) -> RenderedArrays:
    """Render some persons' stills into arrays."""
    cv2.setNumThreads(1)
    detector = FaceDetector()
    rows = [_row(face, detector) for face in rendered_faces(ict, seed, persons, pictures)]
    return RenderedArrays(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _row(face: RenderedFace, detector: FaceDetector) -> dict[str, np.ndarray]:
    """Convert one still into a row of every array."""
    transform = crop_transform(face.points)
    transform[:, 2] += MARGIN
    seen = detected_points(face, detector)
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    hull = cv2.convexHull(face.outline.astype(np.float32))[:, 0]
    hull = hull[np.linspace(0, len(hull) - 1, HULL).round().astype(int)]
    return {
        "images": cv2.warpAffine(_antialias(grey, transform), transform, (CANVAS, CANVAS)),
        "true_points": to_crop(face.points, transform),
        "detector_points": to_crop(face.points if seen is None else seen, transform),
        "found": np.bool_(seen is not None),
        "outline": to_crop(hull, transform),
        "labels": face.labels,
        "soft": face.soft,
        "intensities": face.intensities,
        "pose": face.pose[:2] * TEACHER_POSE_SIGNS,
        "hidden": np.packbits(
            cv2.warpAffine(face.hidden.astype(np.uint8), transform, (CANVAS, CANVAS)), axis=1
        ),
        "person": np.int64(face.person),
        "lightness": np.float32(face.lightness),
    }


def detected_points(face: RenderedFace, detector: FaceDetector) -> NDArray[np.float32] | None:
    """Return the points [5, 2] px of the matching detection; None if there is none."""
    height = float(np.ptp(face.outline[:, 1]))
    for detection in detector(face.image):
        if np.linalg.norm(detection.points - face.points, axis=1).mean() < _NEAR * height:
            return detection.points
    return None


def _antialias(grey: NDArray[np.uint8], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blur a picture before downscaling, to avoid aliasing."""
    shrink = 1 / float(np.hypot(transform[0, 0], transform[1, 0]))
    return cv2.GaussianBlur(grey, (0, 0), 0.35 * shrink) if shrink > 1.4 else grey


def main() -> None:
    """Parse arguments, render and pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, help="ict_facekit.npz (default: the built-in face)")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    parser.add_argument("--persons", type=int, default=PERSONS, help="number of people")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="pictures of each person")
    parser.add_argument("--workers", type=int, default=2, help="parallel processes")
    args = parser.parse_args()
    packed = load_rendered(args.ict, args.out, TRAIN[: args.persons], args.pictures, args.workers)
    print(f"{len(packed.images)} faces, {packed.found.mean():.1%} of them found by the detector")


if __name__ == "__main__":
    main()
