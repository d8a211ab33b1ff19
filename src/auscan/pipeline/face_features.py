"""What is seen: from decoded frames to the features of every face in them.

    track_faces -> crop_faces     frame by frame, with what can be measured of each face
    FaceEncoder                   the crops of all faces together, many frames at once

In: frames in order.  Out: for each frame its faces, each with what the visual stage made of it.
Not here: threads and what is kept (detect.py, live.py), everything over time (inference/).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_face, crop_transform, to_frame
from auscan.faces.quality import measure_quality
from auscan.faces.tracker import TrackedFace, TrackerConfig
from auscan.inference.engine import FaceAttributions, InferenceEngine
from auscan.media.video import Frame

MAX_GAP_S = TrackerConfig().max_gap_s
"""A face unseen for longer does not come back under its number."""


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """One face cut out of its frame."""

    face: TrackedFace
    pixels: NDArray[np.uint8]
    """[S, S, 3] RGB."""
    transform: NDArray[np.float32]
    """[2, 3] frame px -> crop px."""
    image_quality: NDArray[np.float32]
    """[4] size, sharpness, brightness, contrast."""


@dataclass(frozen=True, slots=True)
class FrameCrops:
    """A frame of which only the faces are left."""

    index: int
    time_s: float
    crops: list[FaceCrop]


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """One face in one frame, looked at."""

    face: TrackedFace
    points: NDArray[np.float32]
    """[5, 2] frame px, refined by the network."""
    embedding: NDArray[np.float32]
    """[d]."""
    au_tokens: NDArray[np.float32]
    """[A, da]."""
    quality_features: NDArray[np.float32]
    """[P] what its quality is made of, in the order of `results.quality.QUALITY_FEATURE_COLUMNS`."""
    attributions: FaceAttributions | None = None
    """What the network went by, B = 1; None unless asked for."""


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """A frame after it was looked at."""

    index: int
    time_s: float
    faces: list[FaceFeatures]


def crop_faces(frame: Frame, faces: Sequence[TrackedFace], side: int) -> FrameCrops:
    """The aligned crops of a frame's faces, side x side px."""
    crops = []
    for face in faces:
        pixels, transform = crop_face(frame.image, face.points, side), crop_transform(face.points, side)
        # Measured on a crop of one size, whatever the network takes, so that figures mean the same.
        aligned = pixels if side == SIDE else crop_face(frame.image, face.points)
        image_quality = measure_quality(aligned, transform * (SIDE / side))
        crops.append(FaceCrop(face, pixels, transform, image_quality))
    return FrameCrops(frame.index, frame.time_s, crops)


def batch_frames(frames: Iterable[FrameCrops], crops: int) -> Iterator[list[FrameCrops]]:
    """Frames with at least `crops` crops together, or as many frames; the last batch is what remains."""
    batch: list[FrameCrops] = []
    count = 0
    for frame in frames:
        batch.append(frame)
        count += len(frame.crops)
        if max(count, len(batch)) >= crops:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


class FaceEncoder:
    """Runs the visual stage; remembers of each face what the next call needs to know of it."""

    def __init__(self, engine: InferenceEngine, attributions: bool = False) -> None:
        """attributions: also keep what the network goes by."""
        self._engine, self._attributions = engine, attributions
        self._previous_patches: dict[int, NDArray[np.float32]] = {}

    def __call__(self, frames: Sequence[FrameCrops]) -> list[FrameFeatures]:
        """Look at the crops of frames in order, all faces together."""
        crops = [crop for frame in frames for crop in frame.crops]
        faces = iter(self._encode(crops) if crops else [])
        return [FrameFeatures(f.index, f.time_s, [next(faces) for _ in f.crops]) for f in frames]

    def drop(self, face_id: int) -> None:
        """The face will not come back."""
        self._previous_patches.pop(face_id, None)

    def _encode(self, crops: Sequence[FaceCrop]) -> list[FaceFeatures]:
        pixels = np.stack([crop.pixels for crop in crops])  # [B, S, S, 3]
        faces = [crop.face.face_id for crop in crops]
        features = self._engine.encode_faces(
            pixels, faces, self._previous_patches, attributions=self._attributions
        )
        self._previous_patches.update(features.last_patches)
        pose_occlusion = (
            features.pose_occlusion
            if self._engine.config.has_pose_occlusion
            else np.full_like(features.pose_occlusion, np.nan)
        )
        return [
            FaceFeatures(
                crop.face,
                to_frame(features.points[i], crop.transform),
                features.embedding[i],
                features.au_tokens[i],
                np.concatenate([crop.image_quality, pose_occlusion[i]]),
                features.attributions and features.attributions.rows(slice(i, i + 1)),
            )
            for i, crop in enumerate(crops)
        ]
