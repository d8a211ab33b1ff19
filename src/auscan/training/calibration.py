"""Make probabilities mean what they say: of the frames that are given 0.8, eight in ten should be active.

Platt scaling (Platt, Probabilistic outputs for support vector machines, 1999): sigmoid(scale * logit + shift)
with two numbers for each AU. The order of frames stays, and with it AUC and the best F1.

Fit on data that the network was not trained on, where it is surer than it should be. What comes out holds for
data in which the AU is about as frequent as there.

In: labels [R, A] of 1, 0 and -1, logits [R, A].  Out: a `Calibration` for a checkpoint.
Not here: applying it (inference/probabilities.py), the error (metrics.py), thresholds (operating.py).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from auscan.core.config import Calibration

LEAST_SCALE: Final[float] = 0.01
"""Logits that say nothing, or the opposite, still keep their order."""

Array = NDArray[np.float64]


def fit_calibration(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> Calibration:
    """The Platt scaling of each AU; labels of -1 and logits of NaN are left out.

    An AU without a yes or without a no keeps its logits.
    """
    pairs = [_fit(labels[:, j], logits[:, j]) for j in range(labels.shape[1])]
    return Calibration(scale=tuple(scale for scale, _ in pairs), shift=tuple(shift for _, shift in pairs))


def _fit(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> tuple[float, float]:
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
        wrong = expit(u) - target
        return float(np.mean(np.logaddexp(0, u) - target * u)), np.asarray([np.mean(wrong * z), wrong.mean()])

    start = np.asarray([1.0, 0.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(LEAST_SCALE, None), (None, None)])
    return float(found.x[0]), float(found.x[1])
