"""Run the inference of `auscan detect` on pictures and clips in memory.

Pictures and audio can be changed between two steps, and faces found once can be scored by several
checkpoints.

Inputs: frames [H, W, 3] RGB.
Returns: crops [n, S, S, 3], and logits [n, A] or [T, A].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.score_track import score_track
from auscan.media.video import Frame
from auscan.pipeline.face_features import FaceEncoder, FrameCrops, batch_frames, crop_faces

BATCH = 32
"""Crops in a batch."""


@dataclass(frozen=True)
class FaceCrops:
    """The most confident face of each of n pictures."""

    crops: NDArray[np.uint8]
    """[f, S, S, 3] RGB of the f faces found."""
    rows: NDArray[np.int64]
    """[f] index of the picture of each face."""
    pictures: int
    """Number of pictures, n."""


def crop_pictures(images: Iterable[NDArray[np.uint8]], side: int) -> FaceCrops:
    """Detect, align and crop the most confident face of each picture, as `auscan detect` does."""
    crops, rows, number, detector = [], [], 0, FaceDetector()
    for image in images:
        _, faces = next(track_faces([Frame(0, 0.0, image)], detector))
        if faces:
            best = max(faces, key=lambda face: face.score)
            crops.append(crop_face(image, best.points, side))
            rows.append(number)
        number += 1
    empty = np.empty((0, side, side, 3), np.uint8)
    return FaceCrops(np.stack(crops) if crops else empty, np.asarray(rows, np.int64), number)


def score_pictures(engine: InferenceEngine, crops: FaceCrops) -> NDArray[np.float32]:
    """Compute logits [n, A], each face as a clip of one frame without audio; NaN if no face was found."""
    logits = np.full((crops.pictures, len(engine.config.au_names)), np.nan, np.float32)
    logits[crops.rows] = score_crops(engine, crops.crops)
    return logits


def score_crops(engine: InferenceEngine, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute logits [f, A] of independent crops [f, S, S, 3] RGB."""
    logits = np.empty((len(crops), len(engine.config.au_names)), np.float32)
    time_s = np.zeros(1)
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        features = engine.encode_faces(part, range(len(part)), {})
        for i in range(len(part)):
            one = slice(i, i + 1)
            logits[start + i] = score_track(
                engine, features.embedding[one], features.au_tokens[one], time_s, None
            ).logits[0]
    return logits


@dataclass
class EncodedTrack:
    """Features of one face of a clip, before the temporal stage."""

    frames: list[int] = field(default_factory=list)
    """Frame numbers [T]."""
    times_s: list[float] = field(default_factory=list)
    """[T] seconds."""
    points: list[NDArray[np.float32]] = field(default_factory=list)
    """[5, 2] frame px, refined by the network."""
    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    """[d] of each frame."""
    au_tokens: list[NDArray[np.float32]] = field(default_factory=list)
    """[A, da] of each frame."""

    def score(self, engine: InferenceEngine, sound: AudioTokens | None) -> NDArray[np.float32]:
        """Run the temporal stage with or without audio. Return logits [T, A]."""
        times_s = np.asarray(self.times_s, np.float64)
        return score_track(engine, np.stack(self.embedding), np.stack(self.au_tokens), times_s, sound).logits


def crop_clip(frames: Iterable[Frame], side: int) -> list[FrameCrops]:
    """Detect, track and crop the faces of a clip."""
    return [crop_faces(frame, faces, side) for frame, faces in track_faces(frames, FaceDetector())]


def encode_clip(engine: InferenceEngine, crops: Sequence[FrameCrops]) -> dict[int, EncodedTrack]:
    """Encode the crops of a clip. Return its tracks by face_id."""
    encoder, tracks = FaceEncoder(engine), dict[int, EncodedTrack]()
    for batch in batch_frames(crops, BATCH):
        for frame in encoder(batch):
            for face in frame.faces:
                track = tracks.setdefault(face.face.face_id, EncodedTrack())
                track.frames.append(frame.index)
                track.times_s.append(frame.time_s)
                track.points.append(face.points)
                track.embedding.append(face.embedding)
                track.au_tokens.append(face.au_tokens)
    return tracks
