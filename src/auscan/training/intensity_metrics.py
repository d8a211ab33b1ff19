"""Evaluate intensities against those of the labels: ICC(3,1), Pearson's r and the mean absolute error.

Every frame with a known intensity counts, also those without a detected face, whose estimates are filled in
as in smoothing.py. Intervals come from draws of source videos (or people), as those of F1.

Inputs: labels and scores as tables with columns such as AU01_r (scores.py). Returns: `IntensityMetrics`.
See also: results/agreement/measures.py (ICC), evaluation.py (presence).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.results.agreement.measures import AgreementSums, sum_units
from auscan.results.table import intensity_columns
from auscan.training.metrics import draw_sources, percentile_ends, with_mean
from auscan.training.smoothing import final_scores

INTENSITY_MEASURES: Final[tuple[str, ...]] = ("icc", "r", "mae")
"""Keys of the measures: ICC(3,1), Pearson's r, mean absolute error."""

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
    sums = [
        _IntensitySums.of(truth[:, j], estimates[:, j], source, len(sources)) for j in range(len(columns))
    ]
    whole = np.ones((1, len(sources)))
    times = draw_sources(len(sources)).astype(np.float64) if len(sources) > 1 else None
    values, ends = {}, {}
    for measure in INTENSITY_MEASURES:
        values[measure] = with_mean(np.stack([each.measure(measure, whole) for each in sums], axis=-1))[0]
        ends[measure] = np.full((2, len(sums) + 1), np.nan)
        if times is not None:
            drawn = np.stack([each.measure(measure, times) for each in sums], axis=-1)  # [D, A]
            ends[measure] = percentile_ends(with_mean(drawn))
    return IntensityMetrics(tuple(columns), tuple(each.frames for each in sums), values, ends)


@dataclass(frozen=True, eq=False)
class _IntensitySums:
    """Sums of one AU by source video [V]."""

    agreement: AgreementSums
    error: Floats
    """Absolute error."""

    @classmethod
    def of(
        cls, truth: Floats, estimates: NDArray[np.float32], source: NDArray[np.integer], sources: int
    ) -> "_IntensitySums":
        known = ~np.isnan(truth) & ~np.isnan(estimates)
        a, b, at = truth[known], estimates[known].astype(np.float64), source[known]
        inactive = np.zeros(len(a), bool)
        error = np.bincount(at, np.abs(a - b), sources).astype(np.float64)
        return cls(sum_units(at, sources, inactive, inactive, a, b), error)

    @property
    def frames(self) -> int:
        return int(self.agreement.units.sum())

    def measure(self, name: str, times: Floats) -> Floats:
        """Return a measure [D] of D draws; times [D, V]: how often each video is drawn."""
        sums = self.agreement.weighted(times)
        if name == "icc":
            return sums.icc()
        with np.errstate(invalid="ignore", divide="ignore"):
            if name == "mae":
                return np.asarray(times @ self.error / sums.units)
            shared = sums.ab - sums.a * sums.b / sums.units
            variances = (sums.aa - sums.a**2 / sums.units) * (sums.bb - sums.b**2 / sums.units)
            return np.asarray(np.where(variances > 0, shared / np.sqrt(variances), np.nan))
