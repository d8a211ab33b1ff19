"""Resample AUC and average precision over source videos (or people), without sorting frames again.

The frames of an AU are counted once by video and by level of their score. A level is one value of the score;
if there are more than `LEVELS` values, it is a range with about as many frames as the others, in which scores
count as equal. The counts of a draw are sums of the counts of its videos.

Inputs: labels [R], scores [R] and the number of the video [R]. Returns: AUC and average precision of D draws.
See also: metrics.py (exact values, draws of F1), compare.py (paired differences).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.environment import chunk_slices
from auscan.training.metrics import DRAWS, draw_sources, percentile_ends

LEVELS: Final[int] = 1024
"""Most levels of the scores of an AU."""
CHUNK_DRAWS: Final[int] = 250
"""Draws computed together; bounds the memory, does not change results."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """Frames of one AU by video and by level K of the score, ascending."""

    positives: Floats
    """[V, K]."""
    negatives: Floats
    """[V, K]."""


def count_levels(
    labels: NDArray[np.integer], scores: NDArray[np.floating], source: NDArray[np.integer], sources: int
) -> LevelCounts:
    """Count the frames of one AU; labels of -1 and scores of NaN are left out.

    source: [R] number of each frame's video, V = `sources`
    """
    kept = (labels >= 0) & ~np.isnan(scores)
    _, level, frames = np.unique(scores[kept], return_inverse=True, return_counts=True)
    if len(frames) > LEVELS:
        level = ((np.cumsum(frames) - 1) * LEVELS // frames.sum())[level]
    width = int(level.max(initial=-1)) + 1
    cell, positive = source[kept].astype(np.int64) * width + level, labels[kept] == 1
    by_label = (
        np.bincount(cell[chosen], minlength=sources * width).reshape(sources, width).astype(np.float64)
        for chosen in (positive, ~positive)
    )
    return LevelCounts(*by_label)


def ranking_draws(counts: LevelCounts, draws: int = DRAWS, seed: int = 0) -> tuple[Floats, Floats]:
    """AUC [D] and average precision [D] of D draws of V videos, the same as `metrics.bootstrap` draws.

    NaN for a draw without positives, and for the AUC without negatives.
    """
    times = draw_sources(len(counts.positives), draws, seed).astype(np.float64)  # [D, V]
    parts = [
        _ranking(times[part] @ counts.positives, times[part] @ counts.negatives)
        for part in chunk_slices(draws, CHUNK_DRAWS)
    ]
    auc, precision = (np.concatenate(each) for each in zip(*parts, strict=True))
    return auc, precision


def ranking_ends(counts: LevelCounts, draws: int = DRAWS, seed: int = 0) -> tuple[Floats, Floats]:
    """Ends [2] of the intervals of AUC and of average precision; NaN for a single video."""
    if len(counts.positives) < 2:
        return np.full(2, np.nan), np.full(2, np.nan)
    auc, precision = ranking_draws(counts, draws, seed)
    return percentile_ends(auc), percentile_ends(precision)


def _ranking(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """AUC [D] and average precision [D] of counts [D, K] by ascending level."""
    p, n = positives.sum(1), negatives.sum(1)
    below = np.cumsum(negatives, axis=1) - negatives / 2  # a tie counts half
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (positives * below).sum(1) / (p * n)
        reached = np.cumsum(positives[:, ::-1], axis=1)  # frames at or above each level, from the highest
        predicted = reached + np.cumsum(negatives[:, ::-1], axis=1)
        precision = np.where(predicted > 0, reached / predicted, 0.0)
        return auc, (positives[:, ::-1] * precision).sum(1) / p
