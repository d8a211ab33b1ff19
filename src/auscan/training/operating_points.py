"""Make probabilities mean what they say: of the frames that are given 0.8, eight in ten should be active.

Platt scaling (Platt, Probabilistic outputs for support vector machines, 1999): sigmoid(scale * logit + shift)
with two numbers for each AU. The order of frames stays, and with it AUC and the best F1.

Fit on data that the network was not trained on, where it is surer than it should be. What comes out holds for
data in which the AU is about as frequent as there.

In: labels [R, A] of 1, 0 and -1, logits [R, A].  Out: a `Calibration` for a checkpoint.
Not here: applying it (inference/score_track.py), the error (metrics.py), thresholds (below).

Choose the thresholds of a checkpoint for stated goals, on probabilities that are calibrated first.

    default    best F1, for Aff-Wild2's score and most papers
    balanced   as many misses as false marks, so as many frames marked as are active: precision equals recall
    precise    best F0.5: precision weighs twice as much as recall
    sensitive  best F2: recall weighs twice as much as precision

Such curves are flat near their top and their very peak is chance, so the middle is taken of the thresholds
that come within `TOLERANCE` of it.

In: labels [R, A] of 1, 0 and -1, and logits [R, A], of data that the network was not trained on.
Out: `CalibratedThresholds`, or what it would say of data it was not chosen on.
Not here: what a user makes of a point (core/config.py), thresholds of a submission (thresholds.py).
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
"""How many times as much as precision recall weighs."""
TOLERANCE: Final[float] = 0.005
"""This much less than the best is as good."""
MIN_THRESHOLD: Final[float] = 0.01
MAX_THRESHOLD: Final[float] = 0.99
"""Thresholds stay between these; that of a rare AU may well lie at a few hundredths."""
MIN_SCALE: Final[float] = 0.01
"""Logits that say nothing, or the opposite, still keep their order."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CalibratedThresholds:
    """How a checkpoint turns logits into yes and no; the fields are those of CheckpointConfig."""

    calibration: Calibration
    thresholds: tuple[float, ...]
    operating_points: OperatingPoints

    def at(self, point: OperatingPoint) -> tuple[float, ...]:
        """[A] thresholds on calibrated probabilities."""
        chosen: tuple[float, ...] = (
            self.thresholds if point == "default" else getattr(self.operating_points, point)
        )
        return chosen


@dataclass(frozen=True, eq=False)
class CrossFitPredictions:
    """What readouts say of rows that they were not fitted on."""

    probabilities: NDArray[np.float64]
    """[R, A], calibrated."""
    active: dict[OperatingPoint, NDArray[np.bool_]]
    """[R, A] at each point."""


def fit_calibrated_thresholds(
    labels: NDArray[np.integer], logits: NDArray[np.floating]
) -> CalibratedThresholds:
    """Calibrate, then choose all thresholds; an AU without a yes or without a no keeps logits and 0.5."""
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
    """What a readout that was fitted on other people or videos says of each row.

    source: [R] from 0, whose each row is; needs two or more. The honest figure: on its own data every
    calibration looks calibrated.
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
    """The Platt scaling of each AU; labels of -1 and logits of NaN are left out.

    An AU without a yes or without a no keeps its logits.
    """
    pairs = [_fit_platt(labels[:, j], logits[:, j]) for j in range(labels.shape[1])]
    return Calibration(scale=tuple(scale for scale, _ in pairs), shift=tuple(shift for _, shift in pairs))


def _fit_platt(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> tuple[float, float]:
    """Scale and shift of one AU, labels [R] and logits [R]."""
    known = (labels >= 0) & ~np.isnan(logits)
    truth, z = labels[known] == 1, logits[known].astype(np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    # Platt's targets, a little inside 0 and 1: else an AU that is told perfectly would have no end of scale.
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
    """The threshold for the goal of a point, labels [R] of 1, 0 and -1, scores [R]."""
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
    """What the point makes as great as it can, for each number of hits and of false alarms."""
    if point == "balanced":
        return np.asarray(-np.abs(hits + false_alarms - positives) / positives)
    weight = BETA[point] ** 2
    return np.asarray((1 + weight) * hits / (weight * positives + hits + false_alarms))
