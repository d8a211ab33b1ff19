"""A fitted calibration finds the truth it was made from, never turns an order round, and tells its worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from auscan.core.config import UNCALIBRATED
from auscan.inference.probabilities import calibrate
from auscan.training.calibration import LEAST_SCALE, fit_calibration
from auscan.training.metrics import calibration_error


def drawn(
    rows: int, scale: float, shift: float, seed: int = 0
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Labels [R, 12] that are active as often as sigmoid(scale z + shift) says, and logits z [R, 12]."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (rows, 12))
    return (random.random((rows, 12)) < expit(scale * logits + shift)).astype(np.int8), logits


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.4, -1.0), (2.0, 0.5)])
def test_the_scale_and_shift_that_labels_were_drawn_with_are_found(scale: float, shift: float) -> None:
    found = fit_calibration(*drawn(20_000, scale, shift))
    np.testing.assert_allclose(found.scale, scale, rtol=0.1)
    np.testing.assert_allclose(found.shift, shift, atol=0.1)


def test_the_error_of_scores_that_are_too_sure_goes_down_on_other_data() -> None:
    labels, logits = drawn(5_000, 0.4, -1.0)
    others = drawn(5_000, 0.4, -1.0, seed=1)
    calibration = fit_calibration(*others)
    before = [calibration_error(labels[:, j], calibrate(logits, UNCALIBRATED)[:, j]) for j in range(12)]
    after = [calibration_error(labels[:, j], calibrate(logits, calibration)[:, j]) for j in range(12)]
    assert min(before) > 0.15
    assert max(after) < 0.03


def test_labels_and_logits_that_are_missing_do_not_count() -> None:
    labels, logits = drawn(500, 0.5, 0.0)
    expected = fit_calibration(labels, logits)
    nonsense = np.random.default_rng(1).normal(0, 50, (100, 12))
    more = np.concatenate([labels, np.full((100, 12), -1, np.int8), np.ones((100, 12), np.int8)])
    found = fit_calibration(more, np.concatenate([logits, nonsense, np.full((100, 12), np.nan)]))
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-4)
    np.testing.assert_allclose(found.shift, expected.shift, atol=1e-4)


@pytest.mark.parametrize("label", [0, 1, -1])
def test_an_au_without_a_yes_or_without_a_no_keeps_its_logits(label: int) -> None:
    labels, logits = drawn(50, 1.0, 0.0)
    labels[:, 3] = label
    found = fit_calibration(labels, logits)
    assert (found.scale[3], found.shift[3]) == (1.0, 0.0)
    assert found.scale[4] != 1.0


def test_an_au_that_is_told_perfectly_does_not_become_endlessly_sure() -> None:
    logits = np.tile(np.linspace(-3, 3, 100)[:, None], (1, 12))
    found = fit_calibration((logits > 0).astype(np.int8), logits)
    assert np.isfinite(found.scale).all()
    assert calibrate(logits, found).max() < 1.0


@given(st.lists(st.tuples(st.integers(-1, 1), st.floats(-20, 20)), min_size=2, max_size=30))
def test_no_data_turns_the_order_of_frames_round(case: list[tuple[int, float]]) -> None:
    labels = np.tile(np.array([[y] for y, _ in case], np.int8), (1, 12))
    logits = np.tile(np.array([[z] for _, z in case]), (1, 12))
    assert min(fit_calibration(labels, logits).scale) >= LEAST_SCALE
