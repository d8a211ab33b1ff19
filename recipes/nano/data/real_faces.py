"""Read the real faces of parquet tables as arrays: pictures, points, landmarks, labels.

`load_faces` decodes the tables, runs the face detector once and caches the arrays in the run folder.

Inputs: the paths of the tables. Returns: `Faces`.

See also: teacher_labels.py (label rule), ../train/face_batches.py (training crops).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.faces.detector import FaceDetector
from recipes.nano.data.teacher_labels import blendshape, lip_gap, teacher_targets

CANVAS = 224
"""Longest side of the pictures, px."""
ONE_SIDED = ("mouthLeft", "mouthRight", "jawLeft", "jawRight", "_neutral")
"""Blendshapes without a symmetric counterpart; left out of the auxiliary targets."""
UNSCORED_BLENDSHAPES = ("cheekSquint", "noseSneer")
"""Blendshapes with a teacher score that is always 0."""


@dataclass(frozen=True)
class Faces:
    """n faces with teacher labels and detector points."""

    images: NDArray[np.uint8]
    """[n, 224, 224] grey, padded with black on the right and below."""
    sizes: NDArray[np.int32]
    """[n, 2] height and width of each picture, px."""
    teacher_points: NDArray[np.float32]
    """[n, 5, 2] px."""
    detector_points: NDArray[np.float32]
    """[n, 5, 2] px; the teacher's if the detector found nothing."""
    landmarks: NDArray[np.float32]
    """[n, 478, 2] px."""
    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, A] soft targets, 0 to 1."""
    intensities: NDArray[np.float32]
    """[n, A] 0 to 5; NaN if not annotated."""
    blendshapes: NDArray[np.float32]
    """[n, K] scores, left and right averaged."""
    pose: NDArray[np.float32]
    """[n, 2] yaw and pitch of the head by the teacher, degrees; NaN if unknown."""
    development: NDArray[np.bool_]
    """[n] True for development identities, used to choose thresholds and settings."""


def load_faces(tables: list[Path], cache: Path) -> Faces:
    """Read the faces, or their arrays from `cache` (.npz) if it exists."""
    if not cache.exists():
        faces = read_faces(tables)
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.with_suffix(".part").open("wb") as file:
            np.savez(file, **faces.__dict__)
        cache.with_suffix(".part").replace(cache)
    with np.load(cache) as stored:
        return Faces(**{name: stored[name] for name in stored.files})


def read_faces(tables: list[Path]) -> Faces:
    """Decode the pictures, run the detector, and convert teacher scores into targets."""
    table = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    images = np.zeros((len(table), CANVAS, CANVAS), dtype=np.uint8)
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    points = np.stack([table[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in names], axis=1)
    sizes = table[["height", "width"]].to_numpy(np.int32).clip(max=CANVAS)
    found = points.copy()
    detector = FaceDetector()
    for row, jpeg in enumerate(table["jpeg"]):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        images[row, : grey.shape[0], : grey.shape[1]] = grey[:CANVAS, :CANVAS]
        found[row] = detector_points(detector, image.astype(np.uint8), points[row])
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    targets = teacher_targets(table, lip_gap(landmarks))
    shapes = sorted(
        {strip_side(c) for c in table if c.startswith("bs_")} - set(ONE_SIDED) - set(UNSCORED_BLENDSHAPES)
    )
    scores = np.stack([blendshape(table, name) for name in shapes], axis=1)
    development = is_development(table)
    pose = table[["yaw", "pitch"]].to_numpy(np.float32)
    return Faces(
        *(images, sizes, points, found, landmarks),
        *(targets.labels, targets.soft, targets.intensities, scores, pose, development),
    )


def is_development(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Select the tenth of the identities held out for development: [n] bool."""
    return np.asarray(pd.util.hash_array(table["identity"].to_numpy(object)) % 10 == 0)


def strip_side(column: str) -> str:
    """Remove the side: 'bs_browDownLeft' -> 'browDown'. 'bs_mouthLeft' keeps it: it is a direction."""
    name = column.removeprefix("bs_")
    return name if name in ONE_SIDED else name.removesuffix("Left").removesuffix("Right")


def detector_points(
    detector: FaceDetector, image: NDArray[np.uint8], teacher: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the points of the detection nearest to the teacher's face, or the teacher's if none is near."""
    border = max(image.shape[:2]) // 4  # the faces fill their pictures; the detector needs a margin
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT)
    eyes = float(np.linalg.norm(teacher[1] - teacher[0]))
    best, best_error = teacher, 0.5 * eyes
    for detection in detector(padded):
        error = float(np.linalg.norm(detection.points - border - teacher, axis=1).mean())
        if error < best_error:
            best, best_error = detection.points - border, error
    return best
