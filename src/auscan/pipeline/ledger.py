"""Turn scored tracks into rows as soon as nothing can change them any more.

A row is final when every face of its frame is scored; a face is scored when it is gone, because its memory is
also read backward. Whoever sits before the camera to the end is therefore written at the end.

In: frame times, scored tracks, and up to where all tracks are in.  Out: the table, piece by piece.
Not here: what a row holds (results/table.py), files (results/writer.py).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from auscan.results.table import COLUMNS, TrackScores, build_table

PIECE = 4096
"""Frames of a piece of the table; the last one is what remains."""

Rows = Callable[[pd.DataFrame], None]
"""Called with the pieces of the table in order."""


class Ledger:
    """The table while it grows."""

    def __init__(self, thresholds: Sequence[float], rows: Rows | None, keep_all: bool = False) -> None:
        self.times_s: list[float] = []
        self.tracks: list[TrackScores] = []
        self._open: list[TrackScores] = []  # those with rows still to come
        self._thresholds, self._rows, self._keep_all = thresholds, rows, keep_all
        self._pieces: list[pd.DataFrame] = []
        self._settled = 0

    def add_track(self, track: TrackScores) -> None:
        """A face that is gone."""
        self.tracks.append(track)
        self._open.append(track)

    def settle(self, until: int) -> None:
        """All faces of the frames before `until` are in: pass on what makes whole pieces."""
        while until - self._settled >= PIECE:
            self._pass_on(self._settled + PIECE)

    def finish(self) -> pd.DataFrame:
        """Pass on what remains; the whole table."""
        self.settle(len(self.times_s))
        if self._settled < len(self.times_s):
            self._pass_on(len(self.times_s))
        self.tracks.sort(key=lambda track: track.face_id)
        empty = build_table(np.empty(0), [], self._thresholds)
        return pd.concat(self._pieces, ignore_index=True) if self._pieces else empty[list(COLUMNS)]

    def _pass_on(self, until: int) -> None:
        first = self._settled
        times = np.asarray(self.times_s[first:until], np.float64)
        tracks = [_between(t, first, until) for t in self._open]
        piece = build_table(times, tracks, self._thresholds, self._keep_all)
        piece["frame"] += first
        self._pieces.append(piece)
        if self._rows is not None:
            self._rows(piece)
        self._settled = until
        self._open = [track for track in self._open if track.frames[-1] >= until]


def _between(track: TrackScores, first: int, until: int) -> TrackScores:
    """The track's frames from `first` to before `until`, counted from `first`."""
    start, stop = np.searchsorted(track.frames, [first, until])
    part = slice(start, stop)
    return TrackScores(
        track.face_id,
        track.frames[part] - first,
        track.boxes[part],
        track.points[part],
        track.scores[part],
        track.parts[part],
        track.probabilities[part],
    )
