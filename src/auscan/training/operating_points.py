"""Calibrate probabilities and choose the thresholds of a checkpoint for stated goals.

Calibration is Platt scaling (Platt, Probabilistic outputs for support vector machines, 1999): sigmoid(scale *
logit + shift) with two numbers for each AU. The order of frames stays, and with it AUC and the best F1. Of
the frames with a calibrated probability of 0.8, eight in ten should be active. Fit it on data that the
network was not trained on, because the network is overconfident on its training data. It holds for data in
which the AU is about as frequent.

Thresholds are chosen on calibrated probabilities:

    default    best F1, for Aff-Wild2's score and most papers
    balanced   as many misses as false alarms, so as many frames marked as are active: precision equals recall
    precise    best F0.5: precision weighs twice as much as recall
    sensitive  best F2: recall weighs twice as much as precision

These curves are flat near their maximum and the exact maximum is noise, so the middle is chosen of the
thresholds within `TOLERANCE` of it.

Inputs: labels [R, A] of 1, 0 and -1, and logits [R, A], of data that the network was not trained on.
Returns: `CalibratedThresholds`, or their cross-fitted predictions.
See also: inference/score_track.py (applies a calibration), metrics.py (calibration error), core/config.py
(operating points), thresholds.py (thresholds of a submission).
"""

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from auscan.core.config import Calibration, OperatingPoint, OperatingPoints
from auscan.inference.score_track import calibrate
from auscan.training.thresholds import DEFAULT, candidate_thresholds, held_out_rows

POINTS: Final[tuple[OperatingPoint, ...]] = get_args(OperatingPoint)
BETA: Final[dict[OperatingPoint, float]] = {"default": 1.0, "precise": 0.5, "sensitive": 2.0}
"""Beta of the F-score of each point: weight of recall relative to precision."""
TOLERANCE: Final[float] = 0.005
"""Distance from the best value within which thresholds count as equally good."""
MIN_THRESHOLD: Final[float] = 0.01
MAX_THRESHOLD: Final[float] = 0.99
"""Range of the thresholds; the threshold of a rare AU may be a few hundredths."""
MIN_SCALE: Final[float] = 0.01
"""Lower bound of the scale: uninformative or inverted logits keep their order."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CalibratedThresholds:
    """Calibration and thresholds of a checkpoint; the fields are those of CheckpointConfig."""

    calibration: Calibration
    thresholds: tuple[float, ...]
    operating_points: OperatingPoints

    def at(self, point: OperatingPoint) -> tuple[float, ...]:
        """Return the thresholds [A] of a point, on calibrated probabilities."""
        chosen: tuple[float, ...] = (
            self.thresholds if point == "default" else getattr(self.operating_points, point)
        )
        return chosen


@dataclass(frozen=True, eq=False)
class CrossFitPredictions:
    """Predictions for rows that the calibration and thresholds were not fitted on."""

    probabilities: NDArray[np.float64]
    """[R, A], calibrated."""
    active: dict[OperatingPoint, NDArray[np.bool_]]
    """[R, A] bool at each point."""


def fit_calibrated_thresholds(
    labels: NDArray[np.integer], logits: NDArray[np.floating]
) -> CalibratedThresholds:
    """Calibrate, then choose thresholds. An AU without positives or negatives keeps its logits and 0.5."""
    calibration = fit_calibration(labels, logits)
    probabilities = calibrate(logits, calibration)
    chosen = {
        point: tuple(
            choose_threshold(labels[:, j], probabilities[:, j], point) for j in range(labels.shape[1])
        )
        for point in POINTS
    }
    default = chosen.pop("default")
    return CalibratedThresholds(calibration, default, OperatingPoints(**chosen))


def cross_fit_thresholds(
    labels: NDArray[np.integer], logits: NDArray[np.floating], source: NDArray[np.integer]
) -> CrossFitPredictions:
    """Predict each row with a calibration and thresholds fitted on other people or videos.

    source: [R] number of the person or video of each row, from 0; needs two or more. Calibration must be
    evaluated in this way, because every calibration fits its own data well.
    """
    probabilities = np.full(logits.shape, np.nan)
    active = {point: np.zeros(logits.shape, dtype=bool) for point in POINTS}
    for held_out in held_out_rows(source):
        fitted = fit_calibrated_thresholds(labels[~held_out], logits[~held_out])
        probabilities[held_out] = calibrate(logits[held_out], fitted.calibration)
        for point in POINTS:
            active[point][held_out] = probabilities[held_out] >= np.asarray(fitted.at(point))
    return CrossFitPredictions(probabilities, active)


def fit_calibration(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> Calibration:
    """Fit the Platt scaling of each AU; labels of -1 and logits of NaN are left out.

    An AU without positives or without negatives keeps its logits.
    """
    pairs = [_fit_platt(labels[:, j], logits[:, j]) for j in range(labels.shape[1])]
    return Calibration(scale=tuple(scale for scale, _ in pairs), shift=tuple(shift for _, shift in pairs))


def _fit_platt(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> tuple[float, float]:
    """Scale and shift of one AU, from labels [R] and logits [R]."""
    known = (labels >= 0) & ~np.isnan(logits)
    truth, z = labels[known] == 1, logits[known].astype(np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    # Platt's targets lie inside 0 and 1: otherwise a perfectly separated AU would have an infinite scale.
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(pair: Array) -> tuple[float, Array]:
        u = pair[0] * z + pair[1]
        error = expit(u) - target
        return float(np.mean(np.logaddexp(0, u) - target * u)), np.asarray([np.mean(error * z), error.mean()])

    start = np.asarray([1.0, 0.0])
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(MIN_SCALE, None), (None, None)])
    return float(result.x[0]), float(result.x[1])


def choose_threshold(
    labels: NDArray[np.integer], scores: NDArray[np.floating], point: OperatingPoint
) -> float:
    """Choose the threshold for the goal of a point, from labels [R] of 1, 0 and -1 and scores [R]."""
    known = (labels >= 0) & ~np.isnan(scores)
    order = np.argsort(scores[known], kind="stable")
    ascending, truth = scores[known][order].astype(np.float32), labels[known][order] == 1
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        return DEFAULT
    candidates = np.unique(np.clip(candidate_thresholds(np.unique(ascending)), MIN_THRESHOLD, MAX_THRESHOLD))
    first = np.searchsorted(ascending, candidates, side="left")  # first score that reaches the candidate
    hits_before = np.concatenate([[0], np.cumsum(truth)])
    hits = positives - hits_before[first]
    false_alarms = len(ascending) - first - hits
    objective = _objective(point, hits, false_alarms, positives)
    best = candidates[objective >= objective.max() - TOLERANCE]
    middle = (best[0] + best[-1]) / 2
    return float(best[np.argmin(np.abs(best - middle))])


def _objective(
    point: OperatingPoint,
    hits: NDArray[np.integer],
    false_alarms: NDArray[np.integer],
    positives: int,
) -> NDArray[np.float64]:
    """Return the objective that the point maximises, for each number of hits and of false alarms."""
    if point == "balanced":
        return np.asarray(-np.abs(hits + false_alarms - positives) / positives)
    weight = BETA[point] ** 2
    return np.asarray((1 + weight) * hits / (weight * positives + hits + false_alarms))
