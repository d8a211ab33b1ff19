"""From a file to its table: the only place from media to results; read it from top to bottom.

    read_frames -> follow_faces -> crop_face -> look      while the video is decoded
    read_waveform -> listen                               afterwards, the sound as a whole
    follow -> build_table                                 track by track

Memory: a few frames and one chunk of crops; beyond them only what the table and the tracks need.
In: a video, a picture or a folder of numbered pictures.  Out: a Result.
Not here: writing files (results/), drawing (render.py), the engines (inference/).
"""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.config import CheckpointConfig
from auscan.core.version import versions
from auscan.faces.align import crop_face, crop_transform, to_frame
from auscan.faces.detector import FaceDetector
from auscan.faces.follow import follow_faces
from auscan.faces.tracker import TrackedFace
from auscan.inference.follow import follow
from auscan.inference.stages import AudioTokens, Stages, listen, load
from auscan.media.audio import read_waveform
from auscan.media.video import probe, read_frames
from auscan.results.table import Result, RunInfo, TrackScores, build_table, frame_durations_s

CHUNK = 32
"""Crops of one face that are encoded together."""

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the number there will be, where the container tells."""


class Track:
    """One face while its video is being read: crops wait for the encoder, features pile up."""

    def __init__(self, face_id: int) -> None:
        self.face_id = face_id
        self.frames: list[int] = []
        self.boxes: list[NDArray[np.float32]] = []
        self.scores: list[float] = []
        self.points: list[NDArray[np.float32]] = []
        self.embeddings: list[NDArray[np.float32]] = []
        self.au_tokens: list[NDArray[np.float32]] = []
        self._crops: list[NDArray[np.uint8]] = []
        self._transforms: list[NDArray[np.float32]] = []
        self._previous: dict[int, NDArray[np.float32]] = {}

    def add(self, frame: int, image: NDArray[np.uint8], face: TrackedFace, side: int) -> int:
        """Put one sighting on the pile; returns how many crops wait."""
        self.frames.append(frame)
        self.boxes.append(face.box)
        self.scores.append(face.score)
        self._crops.append(crop_face(image, face.points, side))
        self._transforms.append(crop_transform(face.points, side))
        return len(self._crops)

    def look(self, stages: Stages) -> None:
        """Encode the waiting crops."""
        if not self._crops:
            return
        features = stages.look(np.stack(self._crops), [self.face_id] * len(self._crops), self._previous)
        self._previous = features.last_patches
        self.embeddings.append(features.embedding)
        self.au_tokens.append(features.au_tokens)
        refined = zip(features.points, self._transforms, strict=True)
        self.points += [to_frame(points, transform) for points, transform in refined]
        self._crops, self._transforms = [], []

    def score(self, stages: Stages, times_s: NDArray[np.float64], sound: AudioTokens | None) -> TrackScores:
        """Read the whole track; times_s [F] are those of all frames of the video."""
        frames = np.asarray(self.frames, dtype=np.int64)
        logits = follow(
            stages, np.concatenate(self.embeddings), np.concatenate(self.au_tokens), times_s[frames], sound
        )
        return TrackScores(
            face_id=self.face_id,
            frames=frames,
            boxes=np.stack(self.boxes).astype(np.float32),
            points=np.stack(self.points),
            scores=np.asarray(self.scores, dtype=np.float32),
            probabilities=_probabilities(logits, stages.config),
        )


def detect(
    source: str | Path,
    *,
    model: str | Path | Stages = "nano",
    folder_rate_hz: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """Find the action units in every frame and every face of `source`.

    source: a video, a picture, or a folder of numbered pictures with `folder_rate_hz` pictures a second
    model: a shipped name, a checkpoint folder, or stages that are already loaded

    Raises MediaError where the source cannot be read to its end, CheckpointError where the model cannot.
    """
    began_s, source = time.monotonic(), Path(source)
    stages = load(model) if isinstance(model, str | Path) else model
    times_s, tracks = _watch(source, stages, folder_rate_hz, progress)
    chunks = read_waveform(source)
    sound = None if chunks is None else listen(stages, chunks)
    scored = [track.score(stages, times_s, sound) for track in tracks]
    info = RunInfo(
        source=source.name,
        duration_s=float(np.sum(frame_durations_s(times_s))),
        frames=len(times_s),
        has_audio=sound is not None,
        seconds=time.monotonic() - began_s,
        model=stages.config.name,
        thresholds=stages.config.thresholds,
        untaught=stages.config.untaught,
        command=shlex.join(["auscan", "detect", str(source)]),
        versions=versions(),
    )
    return Result(build_table(times_s, scored, stages.config.thresholds), tuple(scored), info)


def _watch(
    source: Path, stages: Stages, folder_rate_hz: float | None, progress: Progress | None
) -> tuple[NDArray[np.float64], list[Track]]:
    """Decode, find, follow, crop and encode: times [F] s of all frames, and the tracks, not yet scored."""
    expected = probe(source, folder_rate_hz).frames
    side = stages.config.network.visual.crop_size
    times_s: list[float] = []
    tracks: dict[int, Track] = {}
    for frame, faces in follow_faces(read_frames(source, folder_rate_hz), FaceDetector()):
        times_s.append(frame.time_s)
        for face in faces:
            track = tracks.setdefault(face.face_id, Track(face.face_id))
            if track.add(frame.index, frame.image, face, side) >= CHUNK:
                track.look(stages)
        if progress is not None:
            progress(len(times_s), expected)
    for track in tracks.values():
        track.look(stages)
    return np.asarray(times_s, dtype=np.float64), [tracks[face_id] for face_id in sorted(tracks)]


def _probabilities(logits: NDArray[np.float32], config: CheckpointConfig) -> NDArray[np.float32]:
    """Sigmoid; NaN for AUs that the checkpoint was never taught: [T, A]."""
    probabilities = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    probabilities[:, [AU_NAMES.index(name) for name in config.untaught]] = np.nan
    return probabilities.astype(np.float32)
