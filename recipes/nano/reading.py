"""What the product says of pictures and clips that lie in memory, stage by stage.

`auscan detect` reads files. Here the same functions are run on arrays, so that a picture or a sound can be
changed in between, and faces that were found once can be shown to several checkpoints.

In: frames [H, W, 3] RGB.  Out: crops; logits [n, 12] and [T, 12].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT
from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.follow import follow_faces
from auscan.inference.follow import follow
from auscan.inference.stages import AudioTokens, Stages
from auscan.media.video import Frame
from auscan.pipeline.watch import CutFrame, Looker, cut_out, in_batches

BATCH = 32
"""Crops that are looked at together."""


@dataclass(frozen=True)
class Cut:
    """The surest face of each of n pictures."""

    crops: NDArray[np.uint8]
    """[f, S, S, 3] RGB of the f faces that were found."""
    rows: NDArray[np.int64]
    """[f] of which picture each is."""
    pictures: int
    """n."""


def cut_pictures(images: Iterable[NDArray[np.uint8]], side: int) -> Cut:
    """Find, align and cut out the surest face of each picture, as `auscan detect` does."""
    crops, rows, number, detector = [], [], 0, FaceDetector()
    for image in images:
        _, faces = next(follow_faces([Frame(0, 0.0, image)], detector))
        if faces:
            best = max(faces, key=lambda face: face.score)
            crops.append(crop_face(image, best.points, side))
            rows.append(number)
        number += 1
    empty = np.empty((0, side, side, 3), np.uint8)
    return Cut(np.stack(crops) if crops else empty, np.asarray(rows, np.int64), number)


def read_pictures(stages: Stages, cut: Cut) -> NDArray[np.float32]:
    """Logits [n, 12], each face a clip of one frame without sound; NaN where there is none."""
    logits = np.full((cut.pictures, AU_COUNT), np.nan, np.float32)
    logits[cut.rows] = read_crops(stages, cut.crops)
    return logits


def read_crops(stages: Stages, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits [f, 12] of crops [f, S, S, 3] RGB, none of which has to do with another."""
    logits = np.empty((len(crops), AU_COUNT), np.float32)
    moment = np.zeros(1)
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        seen = stages.look(part, range(len(part)), {})
        for i in range(len(part)):
            one = slice(i, i + 1)
            logits[start + i] = follow(stages, seen.embedding[one], seen.au_tokens[one], moment, None)[0]
    return logits


@dataclass
class SeenTrack:
    """One face of a clip, looked at but not yet read over time."""

    frames: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    points: list[NDArray[np.float32]] = field(default_factory=list)
    """[5, 2] frame px, refined by the network."""
    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    au_tokens: list[NDArray[np.float32]] = field(default_factory=list)

    def read(self, stages: Stages, sound: AudioTokens | None) -> NDArray[np.float32]:
        """Logits [T, 12] with a sound, or with none."""
        times_s = np.asarray(self.times_s, np.float64)
        return follow(stages, np.stack(self.embedding), np.stack(self.au_tokens), times_s, sound)


def cut_clip(frames: Iterable[Frame], side: int) -> list[CutFrame]:
    """Find and follow the faces of a clip; only their crops are kept."""
    return [cut_out(frame, faces, side) for frame, faces in follow_faces(frames, FaceDetector())]


def look_at_clip(stages: Stages, cut: Sequence[CutFrame]) -> dict[int, SeenTrack]:
    """The tracks of a clip by face_id."""
    looker, tracks = Looker(stages), dict[int, SeenTrack]()
    for batch in in_batches(cut, BATCH):
        for frame in looker(batch):
            for face in frame.faces:
                track = tracks.setdefault(face.face.face_id, SeenTrack())
                track.frames.append(frame.index)
                track.times_s.append(frame.time_s)
                track.points.append(face.points)
                track.embedding.append(face.embedding)
                track.au_tokens.append(face.au_tokens)
    return tracks
