"""What is seen: from decoded frames to the features of every face in them.

    follow_faces -> crop_face      frame by frame, with what can be measured of each face
    look                           the crops of all faces together, many frames at once

In: frames in order.  Out: for each frame its faces, each with what the visual stage made of it.
Not here: threads and what is kept (detect.py, live.py), everything over time (inference/).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_face, crop_transform, to_frame
from auscan.faces.quality import measure
from auscan.faces.tracker import TrackedFace, TrackerConfig
from auscan.inference.engine import FaceEvidence, Stages
from auscan.media.video import Frame

GONE_S = TrackerConfig().max_gap_s
"""A face unseen for longer does not come back under its number."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One face cut out of its frame."""

    face: TrackedFace
    pixels: NDArray[np.uint8]
    """[S, S, 3] RGB."""
    transform: NDArray[np.float32]
    """[2, 3] frame px -> crop px."""
    measured: NDArray[np.float32]
    """[4] size, sharpness, brightness, contrast."""


@dataclass(frozen=True, slots=True)
class CutFrame:
    """A frame of which only the faces are left."""

    index: int
    time_s: float
    crops: list[Crop]


@dataclass(frozen=True, slots=True)
class SeenFace:
    """One face in one frame, looked at."""

    face: TrackedFace
    points: NDArray[np.float32]
    """[5, 2] frame px, refined by the network."""
    embedding: NDArray[np.float32]
    """[d]."""
    au_tokens: NDArray[np.float32]
    """[A, da]."""
    parts: NDArray[np.float32]
    """[P] what its quality is made of, in the order of `results.quality.PART_COLUMNS`."""
    evidence: FaceEvidence | None = None
    """What the network went by, B = 1; None unless asked for."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame after it was looked at."""

    index: int
    time_s: float
    faces: list[SeenFace]


def cut_out(frame: Frame, faces: Sequence[TrackedFace], side: int) -> CutFrame:
    """The aligned crops of a frame's faces, side x side px."""
    crops = []
    for face in faces:
        pixels, transform = crop_face(frame.image, face.points, side), crop_transform(face.points, side)
        # Measured on a crop of one size, whatever the network takes, so that figures mean the same.
        aligned = pixels if side == SIDE else crop_face(frame.image, face.points)
        measured = measure(aligned, transform * (SIDE / side))
        crops.append(Crop(face, pixels, transform, measured))
    return CutFrame(frame.index, frame.time_s, crops)


def in_batches(frames: Iterable[CutFrame], crops: int) -> Iterator[list[CutFrame]]:
    """Frames with at least `crops` crops together, or as many frames; the last batch is what remains."""
    batch: list[CutFrame] = []
    waiting = 0
    for frame in frames:
        batch.append(frame)
        waiting += len(frame.crops)
        if max(waiting, len(batch)) >= crops:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch


class Looker:
    """Runs the visual stage; remembers of each face what the next call needs to know of it."""

    def __init__(self, stages: Stages, evidence: bool = False) -> None:
        """evidence: also keep what the network goes by."""
        self._stages, self._evidence = stages, evidence
        self._previous: dict[int, NDArray[np.float32]] = {}

    def __call__(self, frames: Sequence[CutFrame]) -> list[SeenFrame]:
        """Look at the crops of frames in order, all faces together."""
        crops = [crop for frame in frames for crop in frame.crops]
        faces = iter(self._look(crops) if crops else [])
        return [SeenFrame(f.index, f.time_s, [next(faces) for _ in f.crops]) for f in frames]

    def forget(self, face_id: int) -> None:
        """The face will not come back."""
        self._previous.pop(face_id, None)

    def _look(self, crops: Sequence[Crop]) -> list[SeenFace]:
        pixels = np.stack([crop.pixels for crop in crops])  # [B, S, S, 3]
        faces = [crop.face.face_id for crop in crops]
        features = self._stages.look(pixels, faces, self._previous, evidence=self._evidence)
        self._previous.update(features.last_patches)
        sight = features.sight if self._stages.config.sight else np.full_like(features.sight, np.nan)
        return [
            SeenFace(
                crop.face,
                to_frame(features.points[i], crop.transform),
                features.embedding[i],
                features.au_tokens[i],
                np.concatenate([crop.measured, sight[i]]),
                features.evidence and features.evidence.rows(slice(i, i + 1)),
            )
            for i, crop in enumerate(crops)
        ]
