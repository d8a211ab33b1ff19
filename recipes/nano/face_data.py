"""The real faces of the data folder as training arrays, and crops cut from them the product's own way.

`load_faces` reads the Parquet file once and keeps the result beside the run; `FaceBatches` cuts and spoils
crops on the fly with the same `crop_face` that inference uses, by points as the detector or the teacher
places them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from augment import MIRRORED, shake_points, spoil, surround
from auscan.faces.align import SIDE, TEMPLATE, crop_face, crop_transform, to_crop
from auscan.faces.detector import FaceDetector
from clip_data import Frames
from labels import blendshape, lip_gap, teacher_targets
from occluders import covered_share
from pack_faces import Rendered

CANVAS = 224
"""Longest side of the pictures, px."""
ONE_SIDED = ("mouthLeft", "mouthRight", "jawLeft", "jawRight", "_neutral")
"""Blendshapes that mirroring would change into others; left out of the extra targets."""
SILENT = ("cheekSquint", "noseSneer")
"""Blendshapes that the teacher never gives."""


@dataclass(frozen=True)
class Faces:
    """n faces with what the teacher and the detector say of them."""

    images: NDArray[np.uint8]
    """[n, 224, 224] grey, padded with black on the right and below."""
    sizes: NDArray[np.int32]
    """[n, 2] height and width of each picture, px."""
    teacher_points: NDArray[np.float32]
    """[n, 5, 2] px."""
    detector_points: NDArray[np.float32]
    """[n, 5, 2] px; the teacher's where the detector found nothing."""
    landmarks: NDArray[np.float32]
    """[n, 478, 2] px."""
    labels: NDArray[np.int8]
    soft: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    """[n, K] scores without side."""
    pose: NDArray[np.float32]
    """[n, 2] yaw and pitch of the head by the teacher, degrees; NaN where nobody knows."""
    development: NDArray[np.bool_]
    """[n] True for the identities kept aside to choose thresholds and settings by."""


def load_faces(parquet: Path, cache: Path) -> Faces:
    """Read the faces; the second call takes them from `cache` (.npz)."""
    if not cache.exists():
        faces = read_faces(parquet)
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.with_suffix(".part").open("wb") as file:
            np.savez(file, **faces.__dict__)
        cache.with_suffix(".part").replace(cache)
    with np.load(cache) as stored:
        return Faces(**{name: stored[name] for name in stored.files})


def read_faces(parquet: Path) -> Faces:
    """Decode the pictures, run the detector on them, and turn teacher scores into targets."""
    table = pd.read_parquet(parquet)
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
    shapes = sorted({strip_side(c) for c in table if c.startswith("bs_")} - set(ONE_SIDED) - set(SILENT))
    scores = np.stack([blendshape(table, name) for name in shapes], axis=1)
    development = is_development(table)
    pose = table[["yaw", "pitch"]].to_numpy(np.float32)
    return Faces(
        *(images, sizes, points, found, landmarks),
        *(targets.labels, targets.soft, scores, pose, development),
    )


def is_development(table: pd.DataFrame) -> NDArray[np.bool_]:
    """[n] True for the tenth of the identities that is kept aside to choose by."""
    return np.asarray(pd.util.hash_array(table["identity"].to_numpy(object)) % 10 == 0)


def strip_side(column: str) -> str:
    """'bs_browDownLeft' -> 'browDown'; 'bs_mouthLeft' stays whole, its side is its meaning."""
    name = column.removeprefix("bs_")
    return name if name in ONE_SIDED else name.removesuffix("Left").removesuffix("Right")


def detector_points(
    detector: FaceDetector, image: NDArray[np.uint8], teacher: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The points of the detection next to the teacher's face; the teacher's own when there is none."""
    border = max(image.shape[:2]) // 4  # the faces fill their pictures; the detector wants some room
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT)
    eyes = float(np.linalg.norm(teacher[1] - teacher[0]))
    best, best_error = teacher, 0.5 * eyes
    for detection in detector(padded):
        error = float(np.linalg.norm(detection.points - border - teacher, axis=1).mean())
        if error < best_error:
            best, best_error = detection.points - border, error
    return best


def mirrored_landmarks(landmarks: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which landmark each of the 478 becomes in a mirrored face, read off the mean aligned face."""
    mean = landmarks.mean(axis=0)  # [478, 2]
    flipped = mean * [-1, 1] + [2 * mean[:, 0].mean(), 0]
    distance = np.linalg.norm(mean[:, None] - flipped[None], axis=-1)
    return np.asarray(linear_sum_assignment(distance)[1], dtype=np.intp)


@dataclass(frozen=True)
class FaceBatch:
    """One step's worth of crops and targets."""

    crops: NDArray[np.uint8]
    """[b, 112, 112]."""
    labels: NDArray[np.int8]
    soft: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    """[b, K]; NaN, as all that follows, where unknown."""
    landmarks: NDArray[np.float32]
    """[b, 478, 2] in crop px, as is the next."""
    points: NDArray[np.float32]
    """[b, 5, 2]."""
    pose: NDArray[np.float32]
    """[b, 2] yaw and pitch, degrees."""
    covered: NDArray[np.float32]
    """[b] share of the face that something lies over, 0 to 1."""


class FaceBatches:
    """Endless supply of training batches; the same seed and epoch give the same batches.

    rendered, share: rendered faces and their share of each batch.  frames, frame_share: the same of frames of
    clips.  These come last in it; an epoch is still one pass over the real faces.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        seed: int,
        rendered: Rendered | None = None,
        share: float = 0.0,
        frames: Frames | None = None,
        frame_share: float = 0.0,
    ) -> None:
        self.faces, self.rendered, self.frames = faces, rendered, frames
        self.made = 0 if rendered is None else round(size * share)
        self.filmed = 0 if frames is None else round(size * frame_share)
        self.size = size - self.made - self.filmed
        self.seed = seed
        self.rows = np.flatnonzero(~faces.development)
        aligned = [
            to_crop(faces.landmarks[i], crop_transform(faces.teacher_points[i])) for i in self.rows[:2000]
        ]
        self.mirror = mirrored_landmarks(np.stack(aligned))

    def __len__(self) -> int:
        return len(self.rows) // self.size

    def epoch(self, number: int) -> Iterator[FaceBatch]:
        """The batches of one epoch; the next batch is cut while the current one is learned from."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows)
        picks = [order[i * self.size : (i + 1) * self.size] for i in range(len(self))]
        seeds = rng.integers(2**32, size=len(picks))
        with ThreadPoolExecutor(1) as worker:
            jobs = [worker.submit(self.cut, picks[0], int(seeds[0]))]
            for step in range(len(picks)):
                if step + 1 < len(picks):
                    jobs.append(worker.submit(self.cut, picks[step + 1], int(seeds[step + 1])))
                yield jobs.pop(0).result()

    def cut(self, rows: NDArray[np.intp], seed: int) -> FaceBatch:
        """Cut, mirror and spoil the crops of some rows, of some rendered faces, and of some frames."""
        rng = np.random.default_rng(seed)
        parts, shapes = [self.cut_real(rows, rng)], self.faces.blendshapes.shape[1]
        if self.rendered is not None and self.made:
            picks = rng.choice(len(self.rendered.images), self.made, replace=False)
            parts.append(cut_rendered(self.rendered, picks, shapes, rng))
        if self.frames is not None and self.filmed:
            picks = rng.choice(len(self.frames.crops), self.filmed, replace=False, p=self.frames.chances)
            parts.append(cut_frames(self.frames, picks, shapes, rng))
        names = FaceBatch.__dataclass_fields__
        return FaceBatch(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def cut_real(self, rows: NDArray[np.intp], rng: np.random.Generator) -> FaceBatch:
        """Crops of real faces."""
        faces = self.faces
        crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
        landmarks = np.empty((len(rows), 478, 2), dtype=np.float32)
        points = np.empty((len(rows), 5, 2), dtype=np.float32)
        pose, covered = faces.pose[rows], np.empty(len(rows), dtype=np.float32)
        for i, row in enumerate(rows):
            seen = faces.detector_points[row] if rng.random() < 0.7 else faces.teacher_points[row]
            seen = shake_points(seen, rng)
            transform = crop_transform(seen)
            crops[i] = crop_face(faces.images[row], seen)
            if rng.random() < 0.6:
                inside = crop_face(np.full(faces.sizes[row], 255, dtype=np.uint8), seen)
                crops[i] = surround(crops[i], inside, rng)
            landmarks[i] = to_crop(faces.landmarks[row], transform)
            points[i] = to_crop(faces.teacher_points[row], transform)
            if rng.random() < 0.5:
                crops[i] = crops[i][:, ::-1]
                landmarks[i] = (landmarks[i] * [-1, 1] + [SIDE - 1, 0])[self.mirror]
                points[i] = (points[i] * [-1, 1] + [SIDE - 1, 0])[list(MIRRORED)]
                pose[i, 0] *= -1
            crops[i], hidden = spoil(crops[i], rng)
            covered[i] = covered_share(hidden, landmarks[i])
        return FaceBatch(
            *(crops, faces.labels[rows], faces.soft[rows], faces.blendshapes[rows]),
            *(landmarks, points, pose, covered),
        )


def cut_rendered(
    faces: Rendered, rows: NDArray[np.intp], blendshapes: int, rng: np.random.Generator
) -> FaceBatch:
    """Crops of rendered faces, cut, mirrored and spoilt as real ones are."""
    crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    points, pose = np.empty((len(rows), 5, 2), dtype=np.float32), faces.pose[rows]
    covered = np.empty(len(rows), dtype=np.float32)
    for i, row in enumerate(rows):
        seen = faces.detector_points[row] if rng.random() < 0.7 else faces.true_points[row]
        seen = shake_points(seen, rng)
        transform = crop_transform(seen)
        crop = crop_face(faces.images[row], seen)
        points[i], outline = (
            to_crop(faces.true_points[row], transform),
            to_crop(faces.outline[row], transform),
        )
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
            points[i] = (points[i] * [-1, 1] + [SIDE - 1, 0])[list(MIRRORED)]
            outline = outline * [-1, 1] + [SIDE - 1, 0]
            pose[i, 0] *= -1
        crops[i], hidden = spoil(crop, rng)
        # The picture's own cover and the pasted one are taken to lie apart as chance has it.
        covered[i] = 1 - (1 - faces.covered[row]) * (1 - covered_share(hidden, outline))
    unknown = np.full((len(rows), blendshapes), np.nan, np.float32)
    landmarks = np.full((len(rows), 478, 2), np.nan, np.float32)
    return FaceBatch(crops, faces.labels[rows], faces.soft[rows], unknown, landmarks, points, pose, covered)


def cut_frames(
    frames: Frames, rows: NDArray[np.intp], blendshapes: int, rng: np.random.Generator
) -> FaceBatch:
    """Crops of frames of clips, cut once more as the tracker might have, mirrored and spoilt."""
    crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    for i, row in enumerate(rows):
        crop = crop_face(frames.crops[row], shake_points(TEMPLATE, rng))
        crops[i], _ = spoil(crop[:, ::-1] if rng.random() < 0.5 else crop, rng)

    def unknown(*shape: int) -> NDArray[np.float32]:
        return np.full((len(rows), *shape), np.nan, np.float32)

    return FaceBatch(
        *(crops, frames.labels[rows], frames.soft[rows], unknown(blendshapes)),
        *(unknown(478, 2), unknown(5, 2), unknown(2), unknown()),
    )


def development_crops(faces: Faces) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Clean crops [m, 112, 112] by the detector's points and labels [m, 12] of the development identities."""
    rows = np.flatnonzero(faces.development)
    crops = np.stack([crop_face(faces.images[row], faces.detector_points[row]) for row in rows])
    return crops, faces.labels[rows]
