"""Evaluate intensities against those of the labels: ICC(3,1), Pearson's r and the mean absolute error.

Every frame with a known intensity counts, also those without a detected face, whose estimates are filled in
as in smoothing.py. Intervals come from draws of source videos (or people), as those of F1.

Inputs: labels and scores as tables with columns such as AU01_r (scores.py). Returns: `IntensityMetrics`.
See also: results/agreement/measures.py (the measures), evaluation.py (presence).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.results.agreement.measures import INTENSITY_MEASURES, AgreementSums, sum_units
from auscan.results.table import intensity_columns
from auscan.training.metrics import draw_sources, percentile_ends, with_mean
from auscan.training.smoothing import final_scores

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IntensityMetrics:
    """Measures of the AUs that have intensities in labels and scores."""

    au_names: tuple[str, ...]
    frames: tuple[int, ...]
    """[A] frames with a known intensity."""
    values: dict[str, Floats]
    """[A + 1] of each measure: of the AUs, and last their mean; NaN if undefined."""
    ends: dict[str, Floats]
    """[2, A + 1] ends of the intervals; NaN for a single source video."""


def evaluate_intensities(
    labels: pd.DataFrame, scores: pd.DataFrame, au_names: Sequence[str]
) -> IntensityMetrics | None:
    """Evaluate the intensities of some AUs; None if none has intensities in both tables."""
    pairs = zip(au_names, intensity_columns(au_names), strict=True)
    columns = {
        name: column
        for name, column in pairs
        if column in labels and column in scores and labels[column].notna().any()
    }
    if not columns:
        return None
    table = scores[["track", "frame", "has_face", *columns.values()]]
    table = table.rename(columns={column: name for name, column in columns.items()})
    estimates = final_scores(table, labels).probabilities  # [R, A]
    truth = labels[list(columns.values())].to_numpy(np.float64)
    source, sources = pd.factorize(labels["source_video"])
    sums = [_sums(truth[:, j], estimates[:, j], source, len(sources)) for j in range(len(columns))]
    whole = np.ones((1, len(sources)))
    times = draw_sources(len(sources)).astype(np.float64) if len(sources) > 1 else None
    values, ends = {}, {}
    for measure in INTENSITY_MEASURES:
        values[measure] = with_mean(
            np.stack([each.weighted(whole).measure(measure) for each in sums], axis=-1)
        )[0]
        ends[measure] = np.full((2, len(sums) + 1), np.nan)
        if times is not None:
            drawn = np.stack([each.weighted(times).measure(measure) for each in sums], axis=-1)  # [D, A]
            ends[measure] = percentile_ends(with_mean(drawn))
    return IntensityMetrics(tuple(columns), tuple(int(each.units.sum()) for each in sums), values, ends)


def _sums(
    truth: Floats, estimates: NDArray[np.float32], source: NDArray[np.integer], sources: int
) -> AgreementSums:
    """Return the sums of one AU by source video [V]; activity is not used."""
    known = ~np.isnan(truth) & ~np.isnan(estimates)
    inactive = np.zeros(int(known.sum()), bool)
    return sum_units(source[known], sources, inactive, inactive, truth[known], estimates[known])
