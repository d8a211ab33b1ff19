"""Turn scored tracks into rows as soon as nothing can change them any more.

A row is final when every face of its frame is scored; a face is scored when it is gone, because its memory is
also read backward. Whoever sits before the camera to the end is therefore written at the end.

What is usual for a face is known once the face is gone, so its baseline, too, is taken off on the way.

In: frame times, scored tracks, and up to where all tracks are in.  Out: the table, piece by piece.
Not here: what a row holds (results/table.py), files (results/writer.py).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.results.baseline import Baseline, resting_level, with_levels
from auscan.results.quality import judge
from auscan.results.table import TrackScores, build_table

PIECE = 4096
"""Frames of a piece of the table; the last one is what remains."""

Rows = Callable[[pd.DataFrame], None]
"""Called with the pieces of the table in order."""


class Ledger:
    """The table while it grows."""

    def __init__(
        self,
        thresholds: Sequence[float],
        rows: Rows | None,
        keep_all: bool = False,
        baseline: Baseline | None = None,
    ) -> None:
        self.times_s: list[float] = []
        self.tracks: list[TrackScores] = []
        self._open: list[TrackScores] = []  # those with rows still to come
        self._thresholds, self._rows, self._keep_all = thresholds, rows, keep_all
        self._baseline = baseline
        self._levels: dict[int, NDArray[np.float64]] = {}  # what is usual for each face
        self._pieces: list[pd.DataFrame] = []
        self._settled = 0

    def add_track(self, track: TrackScores) -> None:
        """A face that is gone."""
        self.tracks.append(track)
        self._open.append(track)
        if self._baseline is not None:
            times_s = np.array([self.times_s[frame] for frame in track.frames], np.float64)
            judged = (judge(track.parts)[1] == "") | self._keep_all
            level = resting_level(track.probabilities, times_s, judged, self._baseline)
            self._levels[track.face_id] = level

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
        return pd.concat(self._pieces or [self._piece(np.empty(0), [])], ignore_index=True)

    def _pass_on(self, until: int) -> None:
        first = self._settled
        times = np.asarray(self.times_s[first:until], np.float64)
        tracks = [_between(t, first, until) for t in self._open]
        piece = self._piece(times, tracks)
        piece["frame"] += first
        self._pieces.append(piece)
        if self._rows is not None:
            self._rows(piece)
        self._settled = until
        self._open = [track for track in self._open if track.frames[-1] >= until]

    def _piece(self, times_s: NDArray[np.float64], tracks: Sequence[TrackScores]) -> pd.DataFrame:
        piece = build_table(times_s, tracks, self._thresholds, self._keep_all)
        if self._baseline is None:
            return piece
        return with_levels(piece, self._levels, self._thresholds, self._keep_all)


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
