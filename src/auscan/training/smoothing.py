"""Smooth scores over time and fill in missing ones, in the same way for validation and for submissions.

Thresholds are valid only for the smoothing and filling they were tuned after, so there is one implementation.

First each AU's scores are averaged over the frames around, leaving out missing ones. Then frames without a
score are interpolated linearly between the nearest frames that have one; before the first and after the last
of these the value is held. A track without any score keeps NaN, which later counts as inactive.

Inputs: the scores of a track, NaN for missing ones. Returns: a score for every requested row.
See also: thresholds.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT, AU_NAMES, canonical_name
from auscan.core.errors import InputError

NO_SMOOTHING: Final[tuple[int, ...]] = (1,) * AU_COUNT
"""A window of one frame for each AU."""


def parse_windows(text: str) -> tuple[int, ...]:
    """Parse windows [A] in frames from '7', or from '7,AU06=15,AU23=1': one for all, then exceptions.

    AUs that are not named have the plain number, or 1 if there is none.
    Raises InputError for a number that is not odd or a name that is not an AU.
    """
    windows = dict.fromkeys(AU_NAMES, 1)
    for position, part in enumerate(text.split(",")):
        name, equals, number = part.rpartition("=")
        if not re.fullmatch(r"\s*\d+\s*", number) or (position > 0 and not equals):
            raise InputError(f"{text!r} is not a smoothing window. Give frames as in 7 or 7,AU06=15,AU23=1.")
        window = int(number)
        if equals:
            windows[canonical_name(name)] = window
        else:
            windows = dict.fromkeys(AU_NAMES, window)
    chosen = tuple(windows.values())
    check_windows(chosen)
    return chosen


def check_windows(windows: Sequence[int]) -> None:
    """Raise InputError unless each window is an odd number of frames, so that it can be centred."""
    for name, window in zip(AU_NAMES, windows, strict=True):
        if window < 1 or window % 2 == 0:
            raise InputError(
                f"The smoothing window of {name} is {window} frames. Give an odd number: 1, 3, 5, ..."
            )


def smooth(scores: NDArray[np.float32], windows: Sequence[int]) -> NDArray[np.float32]:
    """Centred moving average of scores [T, A] over windows [A] in frames. NaN stays NaN and has no weight.

    At either end the window is shortened, not padded.
    """
    smoothed = scores.copy()
    for j, window in enumerate(windows):
        if window > 1:
            smoothed[:, j] = _moving_average(scores[:, j], window)
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
    scores: pd.DataFrame, rows: pd.DataFrame, windows: Sequence[int] = NO_SMOOTHING
) -> FinalScores:
    """Smooth and fill the scores of each track, and return those at the frames of `rows` (track, frame).

    Frames beyond a track's scores repeat its first or last one; scores of other frames or tracks are ignored.
    Raises InputError if a track of `rows` has no scores at all.
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
    values, faces = scores[list(AU_NAMES)].to_numpy(np.float32), scores["has_face"].to_numpy(bool)
    probabilities = np.empty((len(rows), AU_COUNT), dtype=np.float32)
    has_face = np.zeros(len(rows), dtype=bool)
    for track, outputs in output_rows.items():
        inputs = score_rows[track]
        first, last = frames[inputs].min(), frames[inputs].max()
        # A row for every frame, missing ones included.
        dense = np.full((last - first + 1, AU_COUNT), np.nan, dtype=np.float32)
        dense_face = np.zeros(len(dense), dtype=bool)
        dense[frames[inputs] - first], dense_face[frames[inputs] - first] = values[inputs], faces[inputs]
        wanted = output_frames[outputs]
        at = np.clip(wanted, first, last) - first
        probabilities[outputs] = fill_missing(smooth(dense, windows))[at]
        has_face[outputs] = dense_face[at] & (wanted >= first) & (wanted <= last)
    return FinalScores(probabilities, has_face)


def _moving_average(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    known = ~np.isnan(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0).astype(np.float64))])
    number = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    mean = (total[high] - total[low]) / np.maximum(number[high] - number[low], 1)
    # Round to float32: the last digits of the sums could otherwise move a score across its threshold.
    return np.where(known, mean, np.nan).astype(np.float32)
