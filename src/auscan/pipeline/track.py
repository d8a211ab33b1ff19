"""Store the features of one face on disk until it has left, then score its track.

A face has about two kilobytes of features a frame, half a gigabyte in two hours; on disk, memory does not
grow with the length of the video. Rows are written once and read a chunk at a time, so a plain temporary file
is enough; a memory-mapped one would count as memory while in use. Short arrays stay in memory.

Inputs: the features of a face, frame after frame. Returns: TrackScores, and Attributions in parts.
See also: face_features.py (visual stage), inference/score_track.py (scoring), results/attributions.py (file).
"""

import math
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from auscan.core.chunking import chunk_slices
from auscan.inference.engine import FaceAttributions, InferenceEngine
from auscan.inference.score_track import AudioTokenSource, audio_gates, probabilities, score_track
from auscan.pipeline.face_features import FaceFeatures
from auscan.results.attributions import ROW_GROUP_SIZE, Attributions, to_bytes, to_nonzero_bytes
from auscan.results.table import TrackScores

IN_MEMORY_BYTES = 2**21
"""Size in bytes above which an array is moved to disk."""


class SpooledArray:
    """Growing array [n, ...] in a temporary file (an `inference.score_track.RowStorage`)."""

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        """Create an array without rows; `row_shape` is the shape of each row."""
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._row_bytes = self._dtype.itemsize * math.prod(row_shape)
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="auscan-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # closed with the array, which outlives any `with` block

    @classmethod
    def allocate(cls, shape: tuple[int, ...]) -> Self:
        """Return a float32 array of zeros (an `inference.score_track.Allocate`)."""
        rows = cls(shape[1:])
        rows._count, size = shape[0], shape[0] * rows._row_bytes
        rows._file.truncate(size)  # moves a long array to disk, but does not lengthen a short one
        if size:
            rows._file.seek(size - 1)
            rows._file.write(b"\0")
        return rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a row."""
        return (self._count, *self._row_shape)

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows [m, ...]."""
        self._count += len(rows)
        self[self._count - len(rows) : self._count] = rows

    def __getitem__(self, part: slice) -> NDArray[Any]:
        start, stop, _ = part.indices(self._count)
        self._file.seek(start * self._row_bytes)
        stored = self._file.read(max(0, stop - start) * self._row_bytes)
        return np.frombuffer(stored, self._dtype).reshape(-1, *self._row_shape).copy()

    def __setitem__(self, part: slice, rows: NDArray[Any] | float) -> None:
        start, stop, _ = part.indices(self._count)
        self._file.seek(start * self._row_bytes)
        block = np.broadcast_to(np.asarray(rows, self._dtype), (stop - start, *self._row_shape))
        self._file.write(block.tobytes())


class AttributionBuffer:
    """Attributions of one face, stored on disk until it has left."""

    def __init__(self, first: FaceAttributions) -> None:
        """Create an empty buffer; `first` states the shapes."""
        self._points = SpooledArray((5, 2))
        self._patches = SpooledArray(first.patch_weights.shape[1:], np.uint8)
        self._attention = SpooledArray(first.attention.shape[1:], np.uint8)
        self._gates = SpooledArray(first.gates.shape[1:], np.uint8)

    def add(self, features: FaceFeatures) -> None:
        """Append the attributions of the next frame."""
        assert features.attributions is not None
        self._points.append(features.face.points[None].astype(np.float32))
        self._patches.append(to_nonzero_bytes(features.attributions.patch_weights))
        self._attention.append(to_bytes(features.attributions.attention))
        self._gates.append(to_bytes(features.attributions.gates))

    def chunks(
        self,
        face_id: int,
        frames: Sequence[int],
        times_s: Sequence[float],
        embeddings: SpooledArray,
        engine: InferenceEngine,
        audio: AudioTokenSource | None,
    ) -> Iterator[Attributions]:
        """Yield the attributions of the track, ROW_GROUP_SIZE frames at a time; compute the audio gates.

        frames, times_s: [T]    embeddings: [T, d]    audio: all tokens within reach of the track
        """
        for chunk in chunk_slices(len(frames), ROW_GROUP_SIZE):
            numbers = np.asarray(frames[chunk], np.int64)
            gates = audio_gates(engine, embeddings[chunk], np.asarray(times_s[chunk], np.float64), audio)
            yield Attributions(
                engine.config.network.visual.crop_size,
                numbers,
                np.full(len(numbers), face_id, np.int64),
                self._points[chunk],
                self._patches[chunk],
                self._attention[chunk],
                self._gates[chunk],
                to_nonzero_bytes(gates),
            )


GEOMETRY_WIDTH = 15
"""Numbers for box (4), score (1) and five points (10); the quality features follow them in a row."""


class FaceTrack:
    """Track of one face while its video is processed."""

    def __init__(self, face_id: int, first: FaceFeatures) -> None:
        """Create an empty track; `first` states the shapes."""
        self.face_id = face_id
        """Number of the face within the video."""
        self.frames: list[int] = []
        """Numbers of the frames with this face."""
        self.times_s: list[float] = []
        """Times of these frames, seconds."""
        self._geometry = SpooledArray((GEOMETRY_WIDTH + len(first.quality_features),))
        self._embeddings = SpooledArray(first.embedding.shape)
        self._au_tokens = SpooledArray(first.au_tokens.shape)
        self._attributions = None if first.attributions is None else AttributionBuffer(first.attributions)

    def add(self, frame: int, time_s: float, features: FaceFeatures) -> None:
        """Append the features of the next frame."""
        self.frames.append(frame)
        self.times_s.append(time_s)
        row = np.concatenate(
            [features.face.box, [features.face.score], features.points.ravel(), features.quality_features]
        )
        self._geometry.append(row[None].astype(np.float32))
        self._embeddings.append(features.embedding[None])
        self._au_tokens.append(features.au_tokens[None])
        if self._attributions is not None:
            self._attributions.add(features)

    def attributions(self, engine: InferenceEngine, audio: AudioTokenSource | None) -> Iterator[Attributions]:
        """Yield the attributions in parts; none unless they were requested."""
        if self._attributions is not None:
            track = self.face_id, self.frames, self.times_s, self._embeddings
            yield from self._attributions.chunks(*track, engine, audio)

    def score(self, engine: InferenceEngine, audio: AudioTokenSource | None) -> TrackScores:
        """Score the whole track with the temporal stage."""
        logits = score_track(
            engine,
            self._embeddings,
            self._au_tokens,
            np.asarray(self.times_s, dtype=np.float64),
            audio,
            allocate=SpooledArray.allocate,
        )
        geometry = self._geometry[:]  # [T, 15 + P]
        return TrackScores(
            face_id=self.face_id,
            frames=np.asarray(self.frames, dtype=np.int64),
            boxes=geometry[:, :4],
            points=geometry[:, 5:GEOMETRY_WIDTH].reshape(-1, 5, 2),
            scores=geometry[:, 4],
            quality_features=geometry[:, GEOMETRY_WIDTH:],
            probabilities=probabilities(logits, engine.config),
        )
