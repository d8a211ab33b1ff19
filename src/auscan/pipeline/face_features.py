"""Cut the tracked faces out of decoded frames and encode their crops.

    crop_faces     frame by frame: aligned crops and image quality
    FaceEncoder    many frames at once: the crops of all faces together

Inputs: frames in order with their tracked faces. Returns: the features of each face, frame by frame.
See also: detect.py, live.py (threads and storage), inference/score_track.py (temporal stage).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_face, crop_transform, measure_quality, to_frame
from auscan.faces.tracking import TrackedFace, TrackerConfig
from auscan.inference.engine import FaceAttributions, InferenceEngine
from auscan.media.video import Frame
from auscan.results.table import MIN_QUALITY, check_quality

MAX_GAP_S = TrackerConfig().max_gap_s
"""Seconds after which an unseen face is dropped; if it returns, it is given a new face_id."""

MOUTH_AUS = ("AU25", "AU26")
"""AUs whose gates tell how far the mouth can be seen."""
HIDDEN_GATE, VISIBLE_GATE = 0.5, 0.8
"""Mean of these gates at which the mouth counts as hidden and as visible; linear between them."""


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """Aligned crop of one face."""

    face: TrackedFace
    """Box, points and face_id in the frame."""
    pixels: NDArray[np.uint8]
    """Crop [S, S, 3] RGB."""
    transform: NDArray[np.float32]
    """Affine transform [2, 3] from frame px to crop px."""
    image_quality: NDArray[np.float32]
    """Size, sharpness, brightness, contrast: [4]."""


@dataclass(frozen=True, slots=True)
class FrameCrops:
    """Crops of a frame, without its image."""

    index: int
    """Frame number."""
    time_s: float
    """Time of the frame, seconds."""
    crops: list[FaceCrop]
    """One crop for each face."""


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """Features of one face in one frame."""

    face: TrackedFace
    """Box, points and face_id in the frame."""
    points: NDArray[np.float32]
    """Landmarks [5, 2], frame px, refined by the network."""
    embedding: NDArray[np.float32]
    """Frame embedding [d]."""
    au_tokens: NDArray[np.float32]
    """AU tokens [A, da]."""
    quality_features: NDArray[np.float32]
    """Quality features [P], in the order of `results.quality.QUALITY_FEATURE_COLUMNS`."""
    mouth_visible: float
    """How far the mouth can be seen, 0 to 1: none in a face that is not scored."""
    face_count: int
    """Number of faces in the frame."""
    attributions: FaceAttributions | None = None
    """Attention maps and gates, B = 1; None unless requested."""


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Features of the faces of a frame."""

    index: int
    """Frame number."""
    time_s: float
    """Time of the frame, seconds."""
    faces: list[FaceFeatures]
    """Features of each face."""


def crop_faces(frame: Frame, faces: Sequence[TrackedFace], side: int) -> FrameCrops:
    """Cut the aligned crops of a frame's faces, side x side px, and measure their image quality."""
    crops = []
    for face in faces:
        pixels, transform = crop_face(frame.image, face.points, side), crop_transform(face.points, side)
        # Quality is measured on a crop of one size, so that its values do not depend on the network.
        aligned = pixels if side == SIDE else crop_face(frame.image, face.points)
        image_quality = measure_quality(aligned, transform * (SIDE / side))
        crops.append(FaceCrop(face, pixels, transform, image_quality))
    return FrameCrops(frame.index, frame.time_s, crops)


def batch_frames(frames: Iterable[FrameCrops], crops: int) -> Iterator[list[FrameCrops]]:
    """Group frames into batches of at least `crops` crops or that many frames; the last may be smaller."""
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
    """Visual encoder of consecutive frames; carries the last patches of each face from call to call."""

    def __init__(self, engine: InferenceEngine, attributions: bool = False) -> None:
        """Create the encoder.

        attributions: also return attention maps and gates.
        """
        self._engine, self._attributions = engine, attributions
        self._previous_patches: dict[int, NDArray[np.float32]] = {}

    def __call__(self, frames: Sequence[FrameCrops]) -> list[FrameFeatures]:
        """Encode the crops of consecutive frames, all faces together."""
        crops = [crop for frame in frames for crop in frame.crops]
        counts = [len(frame.crops) for frame in frames for _ in frame.crops]
        faces = iter(self._encode(crops, counts) if crops else [])
        return [FrameFeatures(f.index, f.time_s, [next(faces) for _ in f.crops]) for f in frames]

    def drop(self, face_id: int) -> None:
        """Release the state of a face that has left."""
        self._previous_patches.pop(face_id, None)

    def _encode(self, crops: Sequence[FaceCrop], counts: Sequence[int]) -> list[FaceFeatures]:
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
        image_quality = np.stack([crop.image_quality for crop in crops])
        quality_features = np.concatenate([image_quality, pose_occlusion], axis=1)  # [B, P]
        visible = mouth_visibility(features.gates, quality_features, self._engine.config.au_names)
        return [
            FaceFeatures(
                crop.face,
                to_frame(features.points[i], crop.transform),
                features.embedding[i],
                features.au_tokens[i],
                quality_features[i],
                float(visible[i]),
                counts[i],
                features.attributions and features.attributions.rows(slice(i, i + 1)),
            )
            for i, crop in enumerate(crops)
        ]


def mouth_visibility(
    gates: NDArray[np.float32] | None, quality_features: NDArray[np.float32], au_names: Sequence[str]
) -> NDArray[np.float64]:
    """Return how far the mouth can be seen: [B] in 0..1.

    gates: [B, A] of `au_names`, None if the checkpoint does not return them    quality_features: [B, P]
    A mouth is visible in a face that is scored, as far as the gates of `MOUTH_AUS` trust what is seen there.
    Without any of these AUs it is visible in each such face.
    """
    quality = check_quality(quality_features)[0].astype(np.float64)
    visible = np.where(quality < MIN_QUALITY, 0.0, quality)
    mouth = [j for j, name in enumerate(au_names) if name in MOUTH_AUS]
    if gates is None or not mouth:
        return visible
    opened = gates[:, mouth].mean(axis=1)
    return np.asarray(visible * np.clip((opened - HIDDEN_GATE) / (VISIBLE_GATE - HIDDEN_GATE), 0.0, 1.0))
