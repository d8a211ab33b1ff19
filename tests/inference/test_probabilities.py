"""Calibrated probabilities keep the order of frames; what was not taught stays unknown."""

import numpy as np
import pytest
from scipy.special import expit

from auscan.core.config import UNCALIBRATED, Calibration, CheckpointConfig, nano
from auscan.inference.probabilities import calibrate, logits_of, probabilities

LOGITS = np.sort(np.random.default_rng(0).normal(0, 4, (50, 12)), axis=0).astype(np.float32)
CALIBRATION = Calibration(
    scale=tuple(np.linspace(0.2, 3, 12).tolist()), shift=tuple(np.linspace(-2, 2, 12).tolist())
)


def test_without_a_calibration_probabilities_are_the_sigmoid() -> None:
    np.testing.assert_allclose(calibrate(LOGITS, UNCALIBRATED), expit(LOGITS.astype(float)))


def test_calibrated_probabilities_are_those_of_the_definition_and_rise_with_the_logits() -> None:
    said = calibrate(LOGITS, CALIBRATION)
    for j in range(12):
        expected = expit(CALIBRATION.scale[j] * LOGITS[:, j].astype(float) + CALIBRATION.shift[j])
        np.testing.assert_allclose(said[:, j], expected)
    assert (np.diff(said, axis=0) > 0).all()


def test_an_untaught_au_is_unknown_whatever_its_calibration() -> None:
    config = CheckpointConfig(
        name="a", untaught=("AU23",), calibration=CALIBRATION, auscan_version="0", network=nano()
    )
    said = probabilities(LOGITS, config)
    assert said.dtype == np.float32
    assert np.isnan(said[:, 8]).all()
    assert not np.isnan(np.delete(said, 8, axis=1)).any()


def test_probabilities_lead_back_to_their_logits() -> None:
    near = np.clip(LOGITS, -12, 12)
    np.testing.assert_allclose(logits_of(calibrate(near, UNCALIBRATED)), near, atol=1e-6)
    assert np.abs(logits_of(np.array([0.0, 1.0]))).max() == pytest.approx(16.1, abs=0.1)
    assert np.isnan(logits_of(np.array([np.nan]))).all()
