"""Keep a long series of numbers on the disk, so that memory does not grow with the length of a video.

A face leaves about two kilobytes in every frame, half a gigabyte in two hours. They are written once and read
a stretch at a time, so a plain temporary file does; a mapped one would count as memory while it is in use.

In: rows of float32, or of bytes.  Out: any stretch of them.  A short series never touches the disk.

What the network went by for one face, kept on the disk until the face is gone, then passed on in pieces.

In: the face in frame after frame.  Out: Evidence.
Not here: its file (results/attributions.py), reading it out of the network (inference/).

One face over the whole of a video: its features pile up on the disk until it is gone, then it is scored.

In: the face in frame after frame.  Out: TrackScores.
Not here: the visual stage (face_features.py), scoring (inference/score_track.py).
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
"""A series goes to the disk when it is longer."""


class SpooledArray:
    """An array [n, ...] that grows, float32 unless told otherwise; a `RowStorage`."""

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._row_bytes = self._dtype.itemsize * math.prod(row_shape)
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="auscan-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # the rows live as long as they are used, not as a block

    @classmethod
    def allocate(cls, shape: tuple[int, ...]) -> Self:
        """Return an array of zeros of a shape (an `inference.score_track.Allocate`)."""
        rows = cls(shape[1:])
        rows._count, size = shape[0], shape[0] * rows._row_bytes
        rows._file.truncate(size)  # a long one goes to the disk here; a short one does not grow by it
        if size:
            rows._file.seek(size - 1)
            rows._file.write(b"\0")
        return rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows so far, and the shape of each."""
        return (self._count, *self._row_shape)

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows [m, ...] at the end."""
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
    """One face while its video is being read."""

    def __init__(self, first: FaceAttributions) -> None:
        self._points = SpooledArray((5, 2))
        self._patches = SpooledArray(first.patch_weights.shape[1:], np.uint8)
        self._attention = SpooledArray(first.attention.shape[1:], np.uint8)
        self._gates = SpooledArray(first.gates.shape[1:], np.uint8)

    def add(self, features: FaceFeatures) -> None:
        """The face in one more frame."""
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
        sound: AudioTokenSource | None,
    ) -> Iterator[Attributions]:
        """The whole track, ROWS frames at a time; its voice is asked for here, as it was not heard before.

        frames, times_s: [T]    embeddings: [T, d]    sound: all that the track can hear
        """
        for chunk in chunk_slices(len(frames), ROW_GROUP_SIZE):
            numbers = np.asarray(frames[chunk], np.int64)
            gates = audio_gates(engine, embeddings[chunk], np.asarray(times_s[chunk], np.float64), sound)
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
"""Numbers that say where a face is: box, score, five points; the parts of its quality follow."""


class FaceTrack:
    """One face while its video is being read."""

    def __init__(self, face_id: int, first: FaceFeatures) -> None:
        self.face_id = face_id
        self.frames: list[int] = []
        self.times_s: list[float] = []
        self._geometry = SpooledArray((GEOMETRY_WIDTH + len(first.quality_features),))
        self._embeddings = SpooledArray(first.embedding.shape)
        self._au_tokens = SpooledArray(first.au_tokens.shape)
        self._attributions = None if first.attributions is None else AttributionBuffer(first.attributions)

    def add(self, frame: int, time_s: float, features: FaceFeatures) -> None:
        """The face in one more frame."""
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

    def attributions(self, engine: InferenceEngine, sound: AudioTokenSource | None) -> Iterator[Attributions]:
        """What the network went by, a piece at a time; nothing where it was not asked for."""
        if self._attributions is not None:
            track = self.face_id, self.frames, self.times_s, self._embeddings
            yield from self._attributions.chunks(*track, engine, sound)

    def score(self, engine: InferenceEngine, sound: AudioTokenSource | None) -> TrackScores:
        """Read the whole track over time."""
        logits = score_track(
            engine,
            self._embeddings,
            self._au_tokens,
            np.asarray(self.times_s, dtype=np.float64),
            sound,
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
