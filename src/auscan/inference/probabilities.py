"""From logits to what is written into tables: calibrated probabilities, NaN where nothing was taught.

In: logits [..., A], the checkpoint's answers.  Out: probabilities [..., A].
Not here: fitting a calibration (training/calibration.py), thresholds (core/operating.py).
"""

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.config import Calibration, CheckpointConfig

FAR = 700.0
"""Beyond this a logit would overflow, and its probability is 0 or 1 anyhow."""
SURE = 1e-7
"""Probabilities are kept this far from 0 and 1 where they are turned back into logits."""


def probabilities(logits: NDArray[np.floating], config: CheckpointConfig) -> NDArray[np.float32]:
    """Calibrated; NaN for AUs that the checkpoint was never taught: [T, A]."""
    shares = calibrate(logits, config.calibration)
    shares[..., [AU_NAMES.index(name) for name in config.untaught]] = np.nan
    return shares.astype(np.float32)


def calibrate(logits: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float64]:
    """sigmoid(scale * logit + shift), AU by AU: [..., A]."""
    scale, shift = np.asarray(calibration.scale), np.asarray(calibration.shift)
    u = np.clip(scale * logits.astype(np.float64) + shift, -FAR, FAR)
    return np.asarray(1.0 / (1.0 + np.exp(-u)))


def logits_of(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits behind uncalibrated probabilities; those of a sheer 0 or 1 end at +-16."""
    shares = np.clip(probabilities.astype(np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(shares / (1.0 - shares)))
