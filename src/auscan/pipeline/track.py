"""Keep a long series of numbers on the disk, so that memory does not grow with the length of a video.

A face leaves about two kilobytes in every frame, half a gigabyte in two hours. They are written once and read
a stretch at a time, so a plain temporary file does; a mapped one would count as memory while it is in use.

In: rows of float32, or of bytes.  Out: any stretch of them.  A short series never touches the disk.

What the network went by for one face, kept on the disk until the face is gone, then passed on in pieces.

In: the face in frame after frame.  Out: Evidence.
Not here: its file (results/evidence.py), reading it out of the network (inference/).

One face over the whole of a video: its features pile up on the disk until it is gone, then it is scored.

In: the face in frame after frame.  Out: TrackScores.
Not here: seeing (watch.py), reading over time (inference/follow.py).
"""

import math
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from auscan.inference.engine import AudioTokens, FaceEvidence, Stages
from auscan.inference.score_track import audio_gates, follow, probabilities
from auscan.pipeline.face_features import SeenFace
from auscan.results.evidence import ROWS, Evidence, to_bytes, to_open_bytes
from auscan.results.table import TrackScores

IN_MEMORY_BYTES = 2**21
"""A series goes to the disk when it is longer."""


class DiskRows:
    """An array [n, ...] that grows, float32 unless told otherwise; knows of numpy what `follow` asks for."""

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._row_bytes = self._dtype.itemsize * math.prod(row_shape)
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="auscan-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # the rows live as long as they are used, not as a block

    @classmethod
    def room(cls, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Rows of zeros of a shape, to be written to by slices: an `inference.follow.Room`."""
        rows = cls(shape[1:])
        rows._count, size = shape[0], shape[0] * rows._row_bytes
        rows._file.truncate(size)  # a long one goes to the disk here; a short one does not grow by it
        if size:
            rows._file.seek(size - 1)
            rows._file.write(b"\0")
        return rows.as_array()

    def as_array(self) -> NDArray[np.float32]:
        """Itself, for those who ask for an array and only take its shape and slices."""
        return cast(NDArray[np.float32], self)

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


class Trail:
    """One face while its video is being read."""

    def __init__(self, first: FaceEvidence) -> None:
        self._points = DiskRows((5, 2))
        self._patches = DiskRows(first.patch_weights.shape[1:], np.uint8)
        self._attention = DiskRows(first.attention.shape[1:], np.uint8)
        self._gates = DiskRows(first.gates.shape[1:], np.uint8)

    def add(self, seen: SeenFace) -> None:
        """The face in one more frame."""
        assert seen.evidence is not None
        self._points.append(seen.face.points[None].astype(np.float32))
        self._patches.append(to_open_bytes(seen.evidence.patch_weights))
        self._attention.append(to_bytes(seen.evidence.attention))
        self._gates.append(to_bytes(seen.evidence.gates))

    def pieces(
        self,
        face_id: int,
        frames: Sequence[int],
        times_s: Sequence[float],
        embeddings: DiskRows,
        stages: Stages,
        sound: AudioTokens | None,
    ) -> Iterator[Evidence]:
        """The whole track, ROWS frames at a time; its voice is asked for here, as it was not heard before.

        frames, times_s: [T]    embeddings: [T, d]    sound: all that the track can hear
        """
        for start in range(0, len(frames), ROWS):
            part = slice(start, start + ROWS)
            numbers = np.asarray(frames[part], np.int64)
            gates = audio_gates(stages, embeddings[part], np.asarray(times_s[part], np.float64), sound)
            yield Evidence(
                stages.config.network.visual.crop_size,
                numbers,
                np.full(len(numbers), face_id, np.int64),
                self._points[part],
                self._patches[part],
                self._attention[part],
                self._gates[part],
                to_open_bytes(gates),
            )


PLACE = 15
"""Numbers that say where a face is: box, score, five points; the parts of its quality follow."""


class Track:
    """One face while its video is being read."""

    def __init__(self, face_id: int, first: SeenFace) -> None:
        self.face_id = face_id
        self.frames: list[int] = []
        self.times_s: list[float] = []
        self._places = DiskRows((PLACE + len(first.parts),))
        self._embeddings = DiskRows(first.embedding.shape)
        self._au_tokens = DiskRows(first.au_tokens.shape)
        self._trail = None if first.evidence is None else Trail(first.evidence)

    def add(self, frame: int, time_s: float, seen: SeenFace) -> None:
        """The face in one more frame."""
        self.frames.append(frame)
        self.times_s.append(time_s)
        place = np.concatenate([seen.face.box, [seen.face.score], seen.points.ravel(), seen.parts])
        self._places.append(place[None].astype(np.float32))
        self._embeddings.append(seen.embedding[None])
        self._au_tokens.append(seen.au_tokens[None])
        if self._trail is not None:
            self._trail.add(seen)

    def evidence(self, stages: Stages, sound: AudioTokens | None) -> Iterator[Evidence]:
        """What the network went by, a piece at a time; nothing where it was not asked for."""
        if self._trail is not None:
            track = self.face_id, self.frames, self.times_s, self._embeddings
            yield from self._trail.pieces(*track, stages, sound)

    def score(self, stages: Stages, sound: AudioTokens | None) -> TrackScores:
        """Read the whole track over time."""
        logits = follow(
            stages,
            self._embeddings.as_array(),
            self._au_tokens.as_array(),
            np.asarray(self.times_s, dtype=np.float64),
            sound,
            room=DiskRows.room,
        )
        places = self._places[:]  # [T, 15 + P]
        return TrackScores(
            face_id=self.face_id,
            frames=np.asarray(self.frames, dtype=np.int64),
            boxes=places[:, :4],
            points=places[:, 5:PLACE].reshape(-1, 5, 2),
            scores=places[:, 4],
            parts=places[:, PLACE:],
            probabilities=probabilities(logits, stages.config),
        )
