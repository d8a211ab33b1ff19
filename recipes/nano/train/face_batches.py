"""Cut, mirror and augment training batches of single faces: real, rendered, and frames of clips.

Faces are cropped as in `auscan detect`, by the detector's or the teacher's points, then mirrored and
augmented (augment.py). The same seed and epoch give the same batches.

Inputs: `Faces`, `RenderedArrays`, `Frames`. Returns: a `FaceBatch` a step.
See also: ../data/real_faces.py, ../data/real_clips.py, ../render/rendered_faces.py (pictures).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from auscan.core.config import MAX_INTENSITY
from auscan.faces.align import SIDE, TEMPLATE, crop_face, crop_transform, to_crop
from recipes.nano.data.real_clips import Frames
from recipes.nano.data.real_faces import Faces
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.occluders import covered_share, region_covers
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.augment import MIRRORED, augment_crop, fill_border, jitter_points

BLANK = 0.02
"""Share of blank crops."""


def mirrored_landmarks(landmarks: NDArray[np.float32]) -> NDArray[np.intp]:
    """Match each of the 478 landmarks with its mirrored counterpart, by the mean aligned face: [478]."""
    mean = landmarks.mean(axis=0)  # [478, 2]
    flipped = mean * [-1, 1] + [2 * mean[:, 0].mean(), 0]
    distance = np.linalg.norm(mean[:, None] - flipped[None], axis=-1)
    return np.asarray(linear_sum_assignment(distance)[1], dtype=np.intp)


@dataclass(frozen=True)
class FaceBatch:
    """b crops and their targets, for one step."""

    crops: NDArray[np.uint8]
    """[b, 112, 112] grey."""
    labels: NDArray[np.int8]
    """[b, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[b, A] soft targets, 0 to 1."""
    intensities: NDArray[np.float32]
    """[b, A] 0 to 5; NaN if unknown, as in all following fields."""
    covers: NDArray[np.int8]
    """[b, A]: 1 region covered, 0 visible, -1 unknown."""
    blendshapes: NDArray[np.float32]
    """[b, K]."""
    landmarks: NDArray[np.float32]
    """[b, 478, 2] crop px."""
    points: NDArray[np.float32]
    """[b, 5, 2] crop px."""
    pose: NDArray[np.float32]
    """[b, 2] yaw and pitch, degrees."""
    covered: NDArray[np.float32]
    """[b] occluded share of the face, 0 to 1."""


class FaceBatches:
    """Training batches by epoch; the same seed and epoch give the same batches.

    rendered, share: rendered faces and their share of a batch.
    frames, frame_share: frames of clips and their share of a batch.
    A batch holds real faces, then rendered faces, then frames. An epoch is one pass over the real faces.
    A few crops are blank: nothing is known of them but that every region is covered.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        seed: int,
        rendered: RenderedArrays | None = None,
        share: float = 0.0,
        frames: Frames | None = None,
        frame_share: float = 0.0,
    ) -> None:
        self.faces, self.rendered, self.frames = faces, rendered, frames
        self.rendered_count = 0 if rendered is None else round(size * share)
        self.frame_count = 0 if frames is None else round(size * frame_share)
        self.size = size - self.rendered_count - self.frame_count
        self.seed = seed
        self.rows = np.flatnonzero(~faces.development)
        aligned = [
            to_crop(faces.landmarks[i], crop_transform(faces.teacher_points[i])) for i in self.rows[:2000]
        ]
        self.mirror = mirrored_landmarks(np.stack(aligned))

    def __len__(self) -> int:
        return len(self.rows) // self.size

    def epoch(self, number: int) -> Iterator[FaceBatch]:
        """Yield the batches of one epoch; a thread prepares the next batch."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows)
        picks = [order[i * self.size : (i + 1) * self.size] for i in range(len(self))]
        seeds = rng.integers(2**32, size=len(picks))
        with ThreadPoolExecutor(1) as worker:
            jobs = [worker.submit(self.make_batch, picks[0], int(seeds[0]))]
            for step in range(len(picks)):
                if step + 1 < len(picks):
                    jobs.append(worker.submit(self.make_batch, picks[step + 1], int(seeds[step + 1])))
                yield jobs.pop(0).result()

    def make_batch(self, rows: NDArray[np.intp], seed: int) -> FaceBatch:
        """Crop, mirror and augment some real faces, rendered faces and frames."""
        rng = np.random.default_rng(seed)
        parts, shapes = [self.crop_real(rows, rng)], self.faces.blendshapes.shape[1]
        if self.rendered is not None and self.rendered_count:
            picks = rng.choice(len(self.rendered.images), self.rendered_count, replace=False)
            parts.append(crop_rendered(self.rendered, picks, shapes, rng))
        if self.frames is not None and self.frame_count:
            picks = rng.choice(
                len(self.frames.crops), self.frame_count, replace=False, p=self.frames.sampling_weights
            )
            parts.append(crop_frames(self.frames, picks, shapes, rng))
        names = FaceBatch.__dataclass_fields__
        batch = FaceBatch(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        blank(batch, np.flatnonzero(rng.random(len(batch.crops)) < BLANK), rng)
        return batch

    def crop_real(self, rows: NDArray[np.intp], rng: np.random.Generator) -> FaceBatch:
        """Crop, mirror and augment real faces."""
        faces = self.faces
        crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
        landmarks = np.empty((len(rows), 478, 2), dtype=np.float32)
        points = np.empty((len(rows), 5, 2), dtype=np.float32)
        pose, covered = faces.pose[rows], np.empty(len(rows), dtype=np.float32)
        covers = np.empty((len(rows), len(NANO_AUS)), np.int8)
        for i, row in enumerate(rows):
            points_used = faces.detector_points[row] if rng.random() < 0.7 else faces.teacher_points[row]
            points_used = jitter_points(points_used, rng)
            transform = crop_transform(points_used)
            crops[i] = crop_face(faces.images[row], points_used)
            if rng.random() < 0.6:
                inside = crop_face(np.full(faces.sizes[row], 255, dtype=np.uint8), points_used)
                crops[i] = fill_border(crops[i], inside, rng)
            landmarks[i] = to_crop(faces.landmarks[row], transform)
            points[i] = to_crop(faces.teacher_points[row], transform)
            if rng.random() < 0.5:
                crops[i] = crops[i][:, ::-1]
                landmarks[i] = (landmarks[i] * [-1, 1] + [SIDE - 1, 0])[self.mirror]
                points[i] = (points[i] * [-1, 1] + [SIDE - 1, 0])[list(MIRRORED)]
                pose[i, 0] *= -1
            crops[i], hidden = augment_crop(crops[i], rng)
            covered[i], covers[i] = covered_share(hidden, landmarks[i]), region_covers(hidden)
        return FaceBatch(
            *(crops, faces.labels[rows], faces.soft[rows], faces.intensities[rows], covers),
            *(faces.blendshapes[rows], landmarks, points, pose, covered),
        )


def crop_rendered(
    faces: RenderedArrays, rows: NDArray[np.intp], blendshapes: int, rng: np.random.Generator
) -> FaceBatch:
    """Crop, mirror and augment rendered faces."""
    crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    points, pose = np.empty((len(rows), 5, 2), dtype=np.float32), faces.pose[rows]
    covered, covers = np.empty(len(rows), dtype=np.float32), np.empty((len(rows), len(NANO_AUS)), np.int8)
    for i, row in enumerate(rows):
        points_used = faces.detector_points[row] if rng.random() < 0.7 else faces.true_points[row]
        points_used = jitter_points(points_used, rng)
        transform = crop_transform(points_used)
        crop = crop_face(faces.images[row], points_used)
        behind = crop_face(255 * np.unpackbits(faces.hidden[row], axis=1), points_used) > 127
        points[i], outline = (
            to_crop(faces.true_points[row], transform),
            to_crop(faces.outline[row], transform),
        )
        if rng.random() < 0.5:
            crop, behind = crop[:, ::-1], behind[:, ::-1]
            points[i] = (points[i] * [-1, 1] + [SIDE - 1, 0])[list(MIRRORED)]
            outline = outline * [-1, 1] + [SIDE - 1, 0]
            pose[i, 0] *= -1
        crops[i], hidden = augment_crop(crop, rng)
        hidden = hidden | behind
        covered[i], covers[i] = covered_share(hidden, outline), region_covers(hidden)
    unknown = np.full((len(rows), blendshapes), np.nan, np.float32)
    landmarks = np.full((len(rows), 478, 2), np.nan, np.float32)
    intensities = np.clip(MAX_INTENSITY * faces.intensities[rows], 0, MAX_INTENSITY)
    return FaceBatch(
        *(crops, faces.labels[rows], faces.soft[rows], intensities, covers),
        *(unknown, landmarks, points, pose, covered),
    )


def crop_frames(
    frames: Frames, rows: NDArray[np.intp], blendshapes: int, rng: np.random.Generator
) -> FaceBatch:
    """Crop frames of clips again with jittered points, mirror and augment them."""
    crops = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    covers = np.empty((len(rows), len(NANO_AUS)), np.int8)
    for i, row in enumerate(rows):
        crop = crop_face(frames.crops[row], jitter_points(TEMPLATE, rng))
        crops[i], hidden = augment_crop(crop[:, ::-1] if rng.random() < 0.5 else crop, rng)
        covers[i] = region_covers(hidden)

    def unknown(*shape: int) -> NDArray[np.float32]:
        return np.full((len(rows), *shape), np.nan, np.float32)

    return FaceBatch(
        *(crops, frames.labels[rows], frames.soft[rows], frames.intensities[rows], covers),
        *(unknown(blendshapes), unknown(478, 2), unknown(5, 2), unknown(2), unknown()),
    )


def blank(batch: FaceBatch, rows: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Replace some crops by smooth or noisy grey, in place; their targets are unknown."""
    for row in rows:
        coarse = rng.uniform(0, 255) + rng.normal(0, rng.uniform(0, 40), (4, 4)).astype(np.float32)
        smooth = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, rng.uniform(0, 25), (SIDE, SIDE))
        batch.crops[row] = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        batch.labels[row], batch.covers[row] = -1, 1
        for target in (batch.intensities, batch.blendshapes, batch.landmarks, batch.points, batch.pose):
            target[row] = np.nan
        batch.covered[row] = 1


def development_crops(faces: Faces) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Crop the development identities by the detector's points: crops [m, 112, 112], labels [m, A]."""
    rows = np.flatnonzero(faces.development)
    crops = np.stack([crop_face(faces.images[row], faces.detector_points[row]) for row in rows])
    return crops, faces.labels[rows]
