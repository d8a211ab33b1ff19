"""Build the table from scored tracks, and pass on its rows as soon as they are final.

A row is final once all faces of its frame are scored. A face is scored after it has left, because the network
also scans backward; a face that stays to the end is therefore written at the end. The baseline of a face is
computed from the whole track, so it is subtracted here, too.

Inputs: frame times [F] s, scored tracks, and the frame before which all tracks are complete.
Returns: the table, also in consecutive parts.
See also: results/table.py (columns and files), results/baseline.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.results.baseline import Baseline, add_baseline_columns, resting_level
from auscan.results.quality import check_quality
from auscan.results.table import TrackScores, build_table

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
    ) -> None:
        """Create an empty table.

        thresholds: one for each AU    rows: called with the parts of the table
        keep_all: also score low-quality faces    baseline: baseline to subtract; None for none
        """
        self.times_s: list[float] = []
        """Times of the frames so far, seconds; the caller appends to it."""
        self.tracks: list[TrackScores] = []
        """Tracks added so far."""
        self._open_tracks: list[TrackScores] = []  # tracks with rows that are not flushed yet
        self._thresholds, self._rows, self._keep_all = thresholds, rows, keep_all
        self._baseline = baseline
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
        chunk = build_table(times_s, tracks, self._thresholds, self._keep_all)
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
    )
