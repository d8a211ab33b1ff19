"""Turn scored tracks into rows as soon as nothing can change them any more.

A row is final when every face of its frame is scored; a face is scored when it is gone, because its memory is
also read backward. Whoever sits before the camera to the end is therefore written at the end.

What is usual for a face is known once the face is gone, so its baseline, too, is taken off on the way.

In: frame times, scored tracks, and up to where all tracks are in.  Out: the table, piece by piece.
Not here: what a row holds and its file (results/table.py).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.results.baseline import Baseline, add_baseline_columns, resting_level
from auscan.results.quality import check_quality
from auscan.results.table import TrackScores, build_table

CHUNK_FRAMES = 4096
"""Frames of a piece of the table; the last one is what remains."""

RowsCallback = Callable[[pd.DataFrame], None]
"""Called with the pieces of the table in order."""


class TableBuilder:
    """The table while it grows."""

    def __init__(
        self,
        thresholds: Sequence[float],
        rows: RowsCallback | None,
        keep_all: bool = False,
        baseline: Baseline | None = None,
    ) -> None:
        self.times_s: list[float] = []
        self.tracks: list[TrackScores] = []
        self._open_tracks: list[TrackScores] = []  # those with rows still to come
        self._thresholds, self._rows, self._keep_all = thresholds, rows, keep_all
        self._baseline = baseline
        self._baseline_levels: dict[int, NDArray[np.float64]] = {}  # what is usual for each face
        self._chunks: list[pd.DataFrame] = []
        self._flushed = 0

    def add_track(self, track: TrackScores) -> None:
        """A face that is gone."""
        self.tracks.append(track)
        self._open_tracks.append(track)
        if self._baseline is not None:
            times_s = np.array([self.times_s[frame] for frame in track.frames], np.float64)
            scored = (check_quality(track.quality_features)[1] == "") | self._keep_all
            level = resting_level(track.probabilities, times_s, scored, self._baseline)
            self._baseline_levels[track.face_id] = level

    def flush(self, until: int) -> None:
        """All faces of the frames before `until` are in: pass on what makes whole pieces."""
        while until - self._flushed >= CHUNK_FRAMES:
            self._flush_chunk(self._flushed + CHUNK_FRAMES)

    def finish(self) -> pd.DataFrame:
        """Pass on what remains; the whole table."""
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
        chunk = build_table(times_s, tracks, self._thresholds, self._keep_all)
        if self._baseline is None:
            return chunk
        return add_baseline_columns(chunk, self._baseline_levels, self._thresholds, self._keep_all)


def _slice_track(track: TrackScores, first: int, until: int) -> TrackScores:
    """The track's frames from `first` to before `until`, counted from `first`."""
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
    )
