"""Compute the score of Aff-Wild2: binary F1 of every AU over all frames pooled, and the mean of all AUs.

Integer counts are exact and can be added over shards, batches and videos in any order. Confidence intervals
follow from resampling the counts of videos, without reading frames again.

Inputs: labels [R, A] of 1, 0 and -1, and predictions [R, A] bool. Returns: counts, F1, mean F1, intervals.
A label of -1 never counts. The rule selects the rows that count:

    frame    as in the official score: a frame counts if all of its labels are known, else not at all
    element  every known label counts; for data sets that are combined

See also: smoothing.py, thresholds.py (from scores to predictions).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import AuscanError
from auscan.results.agreement.measures import cohen_kappa

Rule = Literal["frame", "element"]

DRAWS: Final[int] = 2000
"""Bootstrap draws."""
LEVEL: Final[float] = 0.95
"""Confidence level of an interval."""
BINS: Final[int] = 15
"""Bins of probability for the calibration error."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Confusion counts of each AU: [A], or [V, A] for V videos. Add them to merge."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]

    def __add__(self, other: Self) -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    def pooled(self) -> "Counts":
        """Sum over all videos: [V, A] -> [A]."""
        return Counts(self.tp.sum(0), self.fp.sum(0), self.fn.sum(0), self.tn.sum(0))

    def labelled(self) -> NDArray[np.int64]:
        """Number of labels that counted, shape of the counts."""
        return self.tp + self.fp + self.fn + self.tn

    def positives(self) -> NDArray[np.int64]:
        """Number of positive labels, shape of the counts."""
        return self.tp + self.fn

    def f1(self) -> NDArray[np.float64]:
        """F1 of each AU: 2 TP / (2 TP + FP + FN), 0 for 0 / 0; NaN for an AU without a label."""
        return _f1(self.tp, self.fp, self.fn, self.tn)

    def kappa(self) -> NDArray[np.float64]:
        """Cohen's kappa of labels and predictions of each AU; NaN if both are constant and equal."""
        counts = self.labelled(), self.positives(), self.tp + self.fp, self.tp
        return cohen_kappa(*(each.astype(np.float64) for each in counts))

    def score(self) -> float:
        """Mean F1 of the AUs that have a label (all of them under the rule `frame`); NaN without any."""
        return float(_mean_of_known(self.f1()))


def label_mask(
    labels: NDArray[np.integer], rule: Rule = "frame", coded: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Mask of the labels [R, A] that count: bool [R, A].

    coded: [A] AUs that the data set labels at all, which the rule `frame` requires; None requires every AU.
    Raises ValueError for a label other than 1, 0 and -1.
    """
    if labels.size and (labels.min() < -1 or labels.max() > 1):
        raise ValueError("Labels should be 1, 0 or -1.")
    known = labels >= 0
    if rule == "element":
        return known
    required = known if coded is None else known[:, coded]
    return known & required.all(axis=1, keepdims=True)


def count(labels: NDArray[np.integer], predictions: NDArray[np.bool_], rule: Rule = "frame") -> Counts:
    """Count predictions [R, A] against labels [R, A] of 1, 0 and -1; returns counts [A]."""
    one_group = np.zeros(len(labels), dtype=np.int64)
    return count_by(one_group, 1, labels, predictions, rule).pooled()


def count_by(
    group: NDArray[np.integer],
    groups: int,
    labels: NDArray[np.integer],
    predictions: NDArray[np.bool_],
    rule: Rule = "frame",
) -> Counts:
    """Count each group apart: [V, A]. group [R] is the number of the video of each row, V = `groups`.

    Raises ValueError if shapes differ or predictions are not bool, as -1 or NaN would count as active.
    """
    if labels.shape != predictions.shape or labels.ndim != 2 or len(group) != len(labels):
        shapes = f"labels {labels.shape}, predictions {predictions.shape}, group {group.shape}"
        raise ValueError(f"{shapes} should be [R, A], [R, A] and [R].")
    if predictions.dtype != np.bool_:
        raise ValueError(f"predictions should be bool, got {predictions.dtype}.")
    mask = label_mask(labels, rule)
    cells = np.zeros((groups, 4, labels.shape[1]), dtype=np.int64)  # 0 TN, 1 FP, 2 FN, 3 TP
    for j in range(labels.shape[1]):
        kept = mask[:, j]
        cell = 4 * group[kept].astype(np.int64) + 2 * labels[kept, j] + predictions[kept, j]
        cells[:, :, j] = np.bincount(cell, minlength=4 * groups).reshape(groups, 4)
    return Counts(tp=cells[:, 3], fp=cells[:, 1], fn=cells[:, 2], tn=cells[:, 0])


@dataclass(frozen=True, eq=False)
class Interval:
    """Bootstrap confidence intervals over videos; NaN for a single video."""

    f1: NDArray[np.float64]
    """[2, A] lower and upper end for the F1 of each AU."""
    kappa: NDArray[np.float64]
    """[2, A] for Cohen's kappa of each AU."""
    score: NDArray[np.float64]
    """[2] lower and upper end for the mean F1."""


def draw_sources(sources: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Draw V sources with replacement, D times: how often each is drawn [D, V]. Deterministic."""
    return np.random.default_rng(seed).multinomial(sources, np.full(sources, 1 / sources), size=draws)


def percentile_ends(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends [2, ...] of the percentile interval at `LEVEL` of draws [D, ...]; NaN draws are left out.

    NaN where all draws are NaN.
    """
    ends = np.full((2, *values.shape[1:]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    ends[:, known] = np.nanpercentile(values[:, known], (50 * (1 - LEVEL), 50 * (1 + LEVEL)), axis=0)
    return ends


def bootstrap(
    counts: Counts, draws: int = DRAWS, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F1 [D, A] and mean F1 [D] of D draws of V videos with replacement from counts [V, A].

    Videos are resampled, not frames, because adjacent frames are nearly equal. The same V and seed draw the
    same videos, so two systems can be compared by the differences of their draws.
    """
    f1 = _f1(*_drawn_counts(counts, draws, seed))  # [D, A]
    return f1, _mean_of_known(f1)


def _drawn_counts(counts: Counts, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield TP, FP, FN and TN [D, A] of the draws."""
    times = draw_sources(len(counts.tp), draws, seed)  # [D, V]
    # Products in float64, for which numpy calls BLAS; exact as long as counts stay below 2^53.
    yield from (times.astype(np.float64) @ each for each in (counts.tp, counts.fp, counts.fn, counts.tn))


def interval(counts: Counts, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Percentile interval at `LEVEL` of counts [V, A] by `bootstrap` over the V videos."""
    if len(counts.tp) < 2:
        unknown = np.full((2, counts.tp.shape[1]), np.nan)
        return Interval(unknown, unknown, np.full(2, np.nan))
    tp, fp, fn, tn = _drawn_counts(counts, draws, seed)
    f1 = _f1(tp, fp, fn, tn)
    kappa = cohen_kappa(tp + fp + fn + tn, tp + fn, tp + fp, tp)
    return Interval(percentile_ends(f1), percentile_ends(kappa), percentile_ends(_mean_of_known(f1)))


@dataclass(frozen=True)
class Ranking:
    """Threshold-free metrics of one AU's scores; NaN if undefined."""

    auc: float
    average_precision: float


def ranking(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Ranking:
    """ROC-AUC and average precision of scores [R] for labels [R].

    Rows with a label of -1 or a score of NaN are left out. Raises AuscanError if scikit-learn is not
    installed.
    """
    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError as error:
        raise _missing_scikit_learn(error) from error
    kept = (labels >= 0) & ~np.isnan(scores)
    truth, values = labels[kept], scores[kept]
    if not truth.any():
        return Ranking(float("nan"), float("nan"))
    auc = float("nan") if truth.all() else float(roc_auc_score(truth, values))
    return Ranking(auc, float(average_precision_score(truth, values)))


def calibration_error(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS
) -> float:
    """Expected calibration error of one AU.

    labels: [R] of 1, 0 and -1    probabilities: [R] of being active
    Frames are put into equal-width bins by probability. The distance between the mean probability and the
    share of active frames of each bin is averaged, weighted by the frames of the bin (Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017, for the probability of the positive class). Rows with a
    label of -1 or a score of NaN are left out; NaN if none remains. With few rows the error is biased
    upwards.
    """
    kept = (labels >= 0) & ~np.isnan(probabilities)
    if not kept.any():
        return float("nan")
    truth, predicted = labels[kept].astype(np.float64), probabilities[kept].astype(np.float64)
    bin_number = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(
        bin_number, weights=predicted - truth, minlength=bins
    )  # frames of the bin times its distance
    return float(np.abs(gaps).sum() / len(truth))


def _f1(
    tp: NDArray[np.number], fp: NDArray[np.number], fn: NDArray[np.number], tn: NDArray[np.number]
) -> NDArray[np.float64]:
    denominator = (2 * tp + fp + fn).astype(np.float64)
    f1 = np.divide(2 * tp, denominator, out=np.zeros_like(denominator), where=denominator > 0)
    return np.where(tp + fp + fn + tn > 0, f1, np.nan)


def with_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the mean over the last axis, without NaN: [..., A] -> [..., A + 1]; NaN if all are NaN."""
    return np.concatenate([values, _mean_of_known(values)[..., None]], axis=-1)


def _mean_of_known(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis, without NaN; NaN if all values are NaN."""
    known = ~np.isnan(f1)
    number = known.sum(axis=-1)
    total = np.where(known, f1, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0))


def _missing_scikit_learn(error: ImportError) -> AuscanError:
    return AuscanError(f"Evaluation needs scikit-learn ({error}). Run: pip install 'auscan[train]'")
