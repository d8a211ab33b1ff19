"""Store the features of each face on disk until it has left, score its track, and build the table.

A face has about two kilobytes of features a frame, half a gigabyte in two hours; on disk, memory does not
grow with the length of the video. Rows are written once and read a chunk at a time, so a plain temporary
file is enough; a memory-mapped one would count as memory while in use. Short arrays stay in memory.

`TableBuilder` passes on rows as soon as they are final: once all faces of their frame are scored. A face is
scored after it has left, because the network also scans backward; a face that stays to the end is therefore
written at the end. The baseline of a face is computed from the whole track, so it is subtracted here, too.

Inputs: the features of a face, frame after frame; frame times [F] s.
Returns: TrackScores, Attributions in parts; the table, also in consecutive parts.
See also: face_features.py (visual stage), inference/score_track.py (scoring), results/attributions.py
(file), results/table.py (columns and files), results/events.py (baseline).
"""

import math
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.environment import chunk_slices
from auscan.inference.engine import FaceAttributions, InferenceEngine
from auscan.inference.score_track import (
    AudioTokenSource,
    audio_gates,
    predict_opening,
    probabilities,
    score_track,
    trained_intensities,
)
from auscan.inference.synchrony import HeardOpening, MouthFrames, follow_voice
from auscan.pipeline.face_features import FaceFeatures
from auscan.results.attributions import ROW_GROUP_SIZE, Attributions, to_bytes, to_nonzero_bytes
from auscan.results.events import Baseline, add_baseline_columns, resting_level
from auscan.results.table import TrackScores, build_table, check_quality

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
                engine.config.au_names,
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


class TrackOpening(NamedTuple):
    """Opening of the mouth over a track."""

    mouth: MouthFrames
    """What is seen."""
    heard: HeardOpening
    """What is heard around the track, as recorded."""


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
        self._visibility = SpooledArray((2,))  # of the mouth, and the number of faces in the frame
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
        self._visibility.append(np.array([[features.mouth_visible, features.face_count]], np.float32))
        if self._attributions is not None:
            self._attributions.add(features)

    def attributions(self, engine: InferenceEngine, audio: AudioTokenSource | None) -> Iterator[Attributions]:
        """Yield the attributions in parts; none unless they were requested."""
        if self._attributions is not None:
            track = self.face_id, self.frames, self.times_s, self._embeddings
            yield from self._attributions.chunks(*track, engine, audio)

    def opening(self, engine: InferenceEngine, audio: AudioTokenSource | None) -> TrackOpening | None:
        """Return the opening of the mouth; None without sound and for a checkpoint that cannot predict it."""
        times_s = np.asarray(self.times_s, dtype=np.float64)
        predicted = predict_opening(engine, self._embeddings, times_s, audio)
        if predicted is None:
            return None
        seen, heard = predicted
        visible, faces = self._visibility[:].T
        return TrackOpening(MouthFrames(times_s, seen, visible, faces.astype(np.int64)), heard)

    def score(
        self,
        engine: InferenceEngine,
        audio: AudioTokenSource | None,
        opening: TrackOpening | None = None,
        offset_s: float = 0.0,
    ) -> TrackScores:
        """Score the whole track with the temporal stage.

        audio: tokens around the track, shifted by the offset of the sound
        opening: decides how far the sound belongs to the face; None: fully
        offset_s: seconds by which the sound was late
        """
        voice = None if opening is None else follow_voice(opening.mouth, opening.heard.shifted(offset_s))[0]
        scores = score_track(
            engine,
            self._embeddings,
            self._au_tokens,
            np.asarray(self.times_s, dtype=np.float64),
            audio,
            allocate=SpooledArray.allocate,
            trust=None if voice is None else voice.trust,
        )
        geometry = self._geometry[:]  # [T, 15 + P]
        return TrackScores(
            face_id=self.face_id,
            frames=np.asarray(self.frames, dtype=np.int64),
            boxes=geometry[:, :4],
            points=geometry[:, 5:GEOMETRY_WIDTH].reshape(-1, 5, 2),
            scores=geometry[:, 4],
            quality_features=geometry[:, GEOMETRY_WIDTH:],
            probabilities=probabilities(scores.logits, engine.config),
            speaking=None if voice is None else voice.speaking,
            intensities=trained_intensities(scores.intensity, engine.config),
        )


CHUNK_FRAMES = 4096
"""Frames of a part of the table; the last part may be smaller."""

RowsCallback = Callable[[pd.DataFrame], None]
"""Called with the parts of the table in order."""


class TableBuilder:
    """Builder of the table of one input."""

    def __init__(
        self,
        thresholds: Sequence[float],
        rows: RowsCallback | None,
        keep_all: bool = False,
        baseline: Baseline | None = None,
        au_names: Sequence[str] = AFFWILD2_AUS,
        intensity: bool = False,
    ) -> None:
        """Create an empty table.

        thresholds: one for each AU of au_names    rows: called with the parts of the table
        keep_all: also score low-quality faces    baseline: baseline to subtract; None for none
        intensity: whether the tracks have intensities
        """
        self.times_s: list[float] = []
        """Times of the frames so far, seconds; the caller appends to it."""
        self.tracks: list[TrackScores] = []
        """Tracks added so far."""
        self._open_tracks: list[TrackScores] = []  # tracks with rows that are not flushed yet
        self._thresholds, self._rows, self._keep_all = thresholds, rows, keep_all
        self._baseline = baseline
        self._au_names, self._intensity = au_names, intensity
        self._baseline_levels: dict[int, NDArray[np.float64]] = {}  # face_id -> [A]
        self._chunks: list[pd.DataFrame] = []
        self._flushed = 0

    def add_track(self, track: TrackScores) -> None:
        """Add the track of a face that has left, and compute its baseline."""
        self.tracks.append(track)
        self._open_tracks.append(track)
        if self._baseline is not None:
            times_s = np.array([self.times_s[frame] for frame in track.frames], np.float64)
            scored = (check_quality(track.quality_features)[1] == "") | self._keep_all
            level = resting_level(track.probabilities, times_s, scored, self._baseline)
            self._baseline_levels[track.face_id] = level

    def flush(self, until: int) -> None:
        """Pass on the complete parts among the frames before `until`, whose tracks have all been added."""
        while until - self._flushed >= CHUNK_FRAMES:
            self._flush_chunk(self._flushed + CHUNK_FRAMES)

    def finish(self) -> pd.DataFrame:
        """Pass on the remaining rows; return the whole table."""
        self.flush(len(self.times_s))
        if self._flushed < len(self.times_s):
            self._flush_chunk(len(self.times_s))
        self.tracks.sort(key=lambda track: track.face_id)
        return pd.concat(self._chunks or [self._build_chunk(np.empty(0), [])], ignore_index=True)

    def _flush_chunk(self, until: int) -> None:
        first = self._flushed
        times = np.asarray(self.times_s[first:until], np.float64)
        tracks = [_slice_track(t, first, until) for t in self._open_tracks]
        chunk = self._build_chunk(times, tracks)
        chunk["frame"] += first
        self._chunks.append(chunk)
        if self._rows is not None:
            self._rows(chunk)
        self._flushed = until
        self._open_tracks = [track for track in self._open_tracks if track.frames[-1] >= until]

    def _build_chunk(self, times_s: NDArray[np.float64], tracks: Sequence[TrackScores]) -> pd.DataFrame:
        chunk = build_table(
            *(times_s, tracks, self._thresholds, self._keep_all), self._au_names, self._intensity
        )
        if self._baseline is None:
            return chunk
        return add_baseline_columns(chunk, self._baseline_levels, self._thresholds, self._keep_all)


def _slice_track(track: TrackScores, first: int, until: int) -> TrackScores:
    """Return frames `first` to `until` (exclusive) of a track, numbered from `first`."""
    start, stop = np.searchsorted(track.frames, [first, until])
    rows = slice(start, stop)
    return TrackScores(
        track.face_id,
        track.frames[rows] - first,
        track.boxes[rows],
        track.points[rows],
        track.scores[rows],
        track.quality_features[rows],
        track.probabilities[rows],
        None if track.speaking is None else track.speaking[rows],
        None if track.intensities is None else track.intensities[rows],
    )
