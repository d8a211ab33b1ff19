"""Smooth scores over time and fill in missing ones, in the same way for validation and for submissions.

Thresholds are valid only for the smoothing and filling they were tuned after, so there is one implementation.

First each AU's scores are replaced by the mean or the median of the frames around, leaving out missing ones.
Then frames without a score are interpolated linearly between the nearest frames that have one; before the
first and after the last of these the value is held. A track without any score keeps NaN, which later counts
as inactive.

Inputs: the scores of a track, NaN for missing ones. Returns: a score for every requested row.
See also: thresholds.py (search of the smoothing).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import au_columns, canonical_name
from auscan.core.errors import InputError
from auscan.training.scores import TIME_COLUMN


@dataclass(frozen=True)
class Smoothing:
    """Smoothing of one AU's scores over a centred window."""

    length: float = 1
    """Length of the window; an odd number of frames, so that it can be centred, or seconds."""
    unit: Literal["frames", "s"] = "frames"
    kind: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        """Raise InputError for a length that cannot be used."""
        if self.unit == "frames" and (self.length < 1 or self.length % 2 != 1):
            raise InputError(
                f"The smoothing window is {self.length:g} frames. Give an odd number: 1, 3, 5, ..."
            )
        if self.unit == "s" and not 0 < self.length < 3600:
            raise InputError(f"The smoothing window is {self.length:g} s. Give a length above 0 s.")

    def __str__(self) -> str:
        """Return the form that `parse` reads, such as 7, 0.5s or median:0.5s."""
        text = f"{self.length:g}{'s' if self.unit == 's' else ''}"
        return text if self.kind == "mean" else f"{self.kind}:{text}"

    @classmethod
    def parse(cls, text: str) -> "Smoothing":
        """Parse 7, 0.5s, median:7 or median:0.5s. Raises InputError for any other text."""
        found = re.fullmatch(r"\s*(?:(mean|median):)?(\d+(?:\.\d+)?)\s*(s?)\s*", text)
        if found is None:
            raise InputError(
                f"{text!r} is not a smoothing window. Give frames or seconds, as in 7, 0.5s or median:0.5s."
            )
        kind: Literal["mean", "median"] = "median" if found[1] == "median" else "mean"
        return cls(float(found[2]), "s" if found[3] else "frames", kind)

    def frames(self, rate_hz: float) -> int:
        """Return the odd number of frames of the window at a frame rate."""
        if self.unit == "frames":
            return int(self.length)
        return 2 * max(0, round((self.length * rate_hz - 1) / 2)) + 1


NO_SMOOTHING: Final = Smoothing()
"""A window of one frame."""


def parse_windows(text: str, au_names: Sequence[str]) -> tuple[Smoothing, ...]:
    """Parse windows [A] from '7', or from '0.5s,AU06=15,AU23=median:1s': one for all, then exceptions.

    AUs that are not named have the plain window, or no smoothing if there is none.
    Raises InputError for a window that cannot be used or a name that is not one of the AUs.
    """
    windows = dict.fromkeys(au_names, NO_SMOOTHING)
    for position, part in enumerate(text.split(",")):
        name, equals, window = part.rpartition("=")
        if position > 0 and not equals:
            raise InputError(f"{text!r} is not a smoothing window. Give frames as in 7 or 7,AU06=15,AU23=1.")
        if equals:
            au_name = canonical_name(name)
            if au_name not in windows:
                raise InputError(f"{text!r} smooths {au_name}, which is not one of {', '.join(au_names)}.")
            windows[au_name] = Smoothing.parse(window)
        else:
            windows = dict.fromkeys(au_names, Smoothing.parse(window))
    return tuple(windows.values())


def smooth(
    scores: NDArray[np.float32], windows: Sequence[Smoothing], rate_hz: float = np.nan
) -> NDArray[np.float32]:
    """Smooth scores [T, A] over windows [A]. NaN stays NaN and has no weight.

    rate_hz: frame rate, used for windows in seconds. At either end the window is shortened, not padded.
    """
    smoothed = scores.copy()
    for j, window in enumerate(windows):
        frames = window.frames(rate_hz)
        if frames > 1:
            average = _moving_average if window.kind == "mean" else _moving_median
            smoothed[:, j] = average(scores[:, j], frames)
    return smoothed


def fill_missing(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate NaN in scores [T, A] linearly in time; the values at the ends are held.

    A column that is all NaN stays NaN.
    """
    filled = scores.copy()
    frames = np.arange(len(scores))
    for j in range(scores.shape[1]):
        known = ~np.isnan(scores[:, j])
        if known.any() and not known.all():
            filled[~known, j] = np.interp(frames[~known], frames[known], scores[known, j])
    return filled


@dataclass(frozen=True, eq=False)
class FinalScores:
    """Smoothed and filled scores, one row for each of the R requested rows."""

    probabilities: NDArray[np.float32]
    """[R, A] smoothed and filled; NaN only if the whole track has no score of that AU."""
    has_face: NDArray[np.bool_]
    """[R] whether that frame has a detected face."""


def final_scores(
    scores: pd.DataFrame, rows: pd.DataFrame, windows: Sequence[Smoothing] | None = None
) -> FinalScores:
    """Smooth and fill the scores of each track, and return those at the frames of `rows` (track, frame).

    windows: smoothing of each AU, in the order of the columns of the scores; None: no smoothing
    Frames beyond a track's scores repeat its first or last one; scores of other frames or tracks are ignored.
    Raises InputError if a track of `rows` has no scores at all, or if windows are in seconds and the scores
    have no times.
    """
    score_rows = scores.groupby("track", sort=False).indices
    output_rows = rows.groupby("track", sort=False).indices
    absent = sorted(str(track) for track in output_rows if track not in score_rows)
    if absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise InputError(
            f"The scores lack {len(absent)} of {len(output_rows)} tracks: {shown}. Score these tracks first."
        )
    frames, output_frames = scores["frame"].to_numpy(np.int64), rows["frame"].to_numpy(np.int64)
    au_names = au_columns(scores.columns)
    windows = (NO_SMOOTHING,) * len(au_names) if windows is None else windows
    values, faces = scores[list(au_names)].to_numpy(np.float32), scores["has_face"].to_numpy(bool)
    in_seconds = any(window.unit == "s" for window in windows)
    times_s = _frame_times(scores) if in_seconds else None
    probabilities = np.empty((len(rows), len(au_names)), dtype=np.float32)
    has_face = np.zeros(len(rows), dtype=bool)
    for track, outputs in output_rows.items():
        inputs = score_rows[track]
        first, last = frames[inputs].min(), frames[inputs].max()
        # A row for every frame, missing ones included.
        dense = np.full((last - first + 1, len(au_names)), np.nan, dtype=np.float32)
        dense_face = np.zeros(len(dense), dtype=bool)
        dense[frames[inputs] - first], dense_face[frames[inputs] - first] = values[inputs], faces[inputs]
        wanted = output_frames[outputs]
        at = np.clip(wanted, first, last) - first
        rate_hz = np.nan if times_s is None else _frame_rate(frames[inputs], times_s[inputs])
        probabilities[outputs] = fill_missing(smooth(dense, windows, rate_hz))[at]
        has_face[outputs] = dense_face[at] & (wanted >= first) & (wanted <= last)
    return FinalScores(probabilities, has_face)


def _frame_times(scores: pd.DataFrame) -> NDArray[np.float64]:
    """Return the time of each row in seconds. Raises InputError if a row has none."""
    if TIME_COLUMN not in scores or scores[TIME_COLUMN].isna().any():
        raise InputError(
            f"Smoothing windows in seconds need the time of each frame, but the column {TIME_COLUMN} of the "
            "scores is absent or incomplete. Write the scores again with this version of auscan, or give "
            "windows in frames."
        )
    return scores[TIME_COLUMN].to_numpy(np.float64)


def _frame_rate(frames: NDArray[np.int64], times_s: NDArray[np.float64]) -> float:
    """Return the frame rate of a track in Hz: the median over adjacent rows; 1 for a single row."""
    order = np.argsort(frames)
    steps, gaps_s = np.diff(frames[order]), np.diff(times_s[order])
    return float(np.median(steps / np.maximum(gaps_s, 1e-6))) if len(steps) else 1.0


def _moving_median(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    median = pd.Series(values, dtype=np.float64).rolling(window, center=True, min_periods=1).median()
    return np.where(np.isnan(values), np.nan, median.to_numpy()).astype(np.float32)


def _moving_average(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    known = ~np.isnan(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0).astype(np.float64))])
    number = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    mean = (total[high] - total[low]) / np.maximum(number[high] - number[low], 1)
    # Round to float32: the last digits of the sums could otherwise move a score across its threshold.
    return np.where(known, mean, np.nan).astype(np.float32)
