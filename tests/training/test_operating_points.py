"""Calibration recovers the true parameters, keeps the order of frames, and its benefit is measured by
cross-fitting.

The thresholds of each operating point reach its goal and are ordered by the cost of a miss.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import fbeta_score, precision_score, recall_score

from auscan.core.config import OperatingPoint
from auscan.inference.score_track import calibrate
from auscan.training.metrics import calibration_error
from auscan.training.operating_points import (
    MAX_THRESHOLD,
    MIN_SCALE,
    MIN_THRESHOLD,
    POINTS,
    TOLERANCE,
    choose_threshold,
    cross_fit_thresholds,
    fit_calibrated_thresholds,
    fit_calibration,
)


def draw_labels(
    rows: int, scale: float, shift: float, seed: int = 0
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Draw labels [R, 12] with probability sigmoid(scale z + shift), and logits z [R, 12]."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (rows, 12))
    return (random.random((rows, 12)) < expit(scale * logits + shift)).astype(np.int8), logits


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.4, -1.0), (2.0, 0.5)])
def test_fitting_recovers_the_scale_and_shift_of_the_labels(scale: float, shift: float) -> None:
    found = fit_calibration(*draw_labels(20_000, scale, shift))
    np.testing.assert_allclose(found.scale, scale, rtol=0.1)
    np.testing.assert_allclose(found.shift, shift, atol=0.1)


def test_the_calibration_error_of_overconfident_scores_falls_on_new_data() -> None:
    labels, logits = draw_labels(5_000, 0.4, -1.0)
    others = draw_labels(5_000, 0.4, -1.0, seed=1)
    calibration = fit_calibration(*others)
    before = [calibration_error(labels[:, j], calibrate(logits, None)[:, j]) for j in range(12)]
    after = [calibration_error(labels[:, j], calibrate(logits, calibration)[:, j]) for j in range(12)]
    assert min(before) > 0.15
    assert max(after) < 0.03


def test_missing_labels_and_logits_do_not_count() -> None:
    labels, logits = draw_labels(500, 0.5, 0.0)
    expected = fit_calibration(labels, logits)
    nonsense = np.random.default_rng(1).normal(0, 50, (100, 12))
    more = np.concatenate([labels, np.full((100, 12), -1, np.int8), np.ones((100, 12), np.int8)])
    found = fit_calibration(more, np.concatenate([logits, nonsense, np.full((100, 12), np.nan)]))
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-4)
    np.testing.assert_allclose(found.shift, expected.shift, atol=1e-4)


@pytest.mark.parametrize("label", [0, 1, -1])
def test_an_au_without_positives_or_negatives_keeps_its_logits(label: int) -> None:
    labels, logits = draw_labels(50, 1.0, 0.0)
    labels[:, 3] = label
    found = fit_calibration(labels, logits)
    assert (found.scale[3], found.shift[3]) == (1.0, 0.0)
    assert found.scale[4] != 1.0


def test_the_scale_stays_finite_for_a_perfectly_separated_au() -> None:
    logits = np.tile(np.linspace(-3, 3, 100)[:, None], (1, 12))
    found = fit_calibration((logits > 0).astype(np.int8), logits)
    assert np.isfinite(found.scale).all()
    assert calibrate(logits, found).max() < 1.0


@given(st.lists(st.tuples(st.integers(-1, 1), st.floats(-20, 20)), min_size=2, max_size=30))
def test_calibration_never_reverses_the_order_of_frames(case: list[tuple[int, float]]) -> None:
    labels = np.tile(np.array([[y] for y, _ in case], np.int8), (1, 12))
    logits = np.tile(np.array([[z] for _, z in case]), (1, 12))
    assert min(fit_calibration(labels, logits).scale) >= MIN_SCALE


Objective = Callable[[NDArray[np.integer], NDArray[np.bool_]], float]


def f_beta(beta: float) -> Objective:
    return lambda truth, predicted: float(fbeta_score(truth, predicted, beta=beta))


def balance(truth: NDArray[np.integer], predicted: NDArray[np.bool_]) -> float:
    return float(-abs(predicted.sum() - truth.sum()) / truth.sum())


OBJECTIVES: dict[OperatingPoint, Objective] = {
    "default": f_beta(1),
    "balanced": balance,
    "precise": f_beta(0.5),
    "sensitive": f_beta(2),
}


def draw_faces(
    rows: int = 600, rate: float = -1.5, seed: int = 0
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Labels [R, 12] and correlated logits [R, 12]; some labels are missing."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (rows, 12))
    labels = (random.random((rows, 12)) < expit(0.7 * logits + rate)).astype(np.int8)
    labels[random.random((rows, 12)) < 0.1] = -1
    return labels, logits


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("rate", [-3.0, 0.5])
def test_no_threshold_has_a_clearly_better_objective(point: OperatingPoint, rate: float) -> None:
    labels, logits = draw_faces(rate=rate)
    kept = labels[:, 0] >= 0
    truth, scores = labels[kept, 0], expit(logits[kept, 0]).astype(np.float32)
    chosen = choose_threshold(labels[:, 0], expit(logits[:, 0]), point)
    objective = OBJECTIVES[point]
    tried = np.clip(np.concatenate([scores, np.linspace(0, 1, 101)]), MIN_THRESHOLD, MAX_THRESHOLD)
    best = max(objective(truth, scores >= np.float32(t)) for t in tried)
    assert objective(truth, scores >= np.float32(chosen)) >= best - TOLERANCE - 1e-9


def test_the_threshold_falls_with_the_weight_of_a_miss() -> None:
    fitted = fit_calibrated_thresholds(*draw_faces(3000))
    precise, default, balanced, sensitive = (
        np.asarray(fitted.at(point)) for point in ("precise", "default", "balanced", "sensitive")
    )
    assert (precise > np.maximum(default, balanced)).all()
    assert (sensitive < np.minimum(default, balanced)).all()


@pytest.mark.parametrize("rate", [-4.0, 0.0])
def test_a_balanced_threshold_marks_as_many_frames_as_are_active(rate: float) -> None:
    """Also for rare AUs, so that the total active time is unbiased."""
    labels, logits = draw_faces(5_000, rate)
    fitted = fit_calibrated_thresholds(labels, logits)
    active = calibrate(logits, fitted.calibration) >= np.asarray(fitted.operating_points.balanced)
    for j in range(12):
        truth, predicted = labels[labels[:, j] >= 0, j], active[labels[:, j] >= 0, j]
        assert predicted.sum() == pytest.approx(truth.sum(), rel=0.01)
        assert precision_score(truth, predicted) == pytest.approx(recall_score(truth, predicted), rel=0.02)


def test_thresholds_are_for_probabilities_after_the_calibration() -> None:
    labels, logits = draw_faces()
    fitted = fit_calibrated_thresholds(labels, logits)
    assert fitted.calibration == fit_calibration(labels, logits)
    predicted = calibrate(logits, fitted.calibration)
    for point in POINTS:
        assert fitted.at(point)[5] == choose_threshold(labels[:, 5], predicted[:, 5], point)


@pytest.mark.parametrize("label", [0, 1, -1])
def test_an_au_without_positives_or_negatives_keeps_a_threshold_of_one_half(label: int) -> None:
    labels, logits = draw_faces()
    labels[:, 2] = label
    fitted = fit_calibrated_thresholds(labels, logits)
    assert {fitted.at(point)[2] for point in POINTS} == {0.5}


def test_cross_fit_predictions_of_a_person_depend_only_on_others() -> None:
    """Each person's labels are drawn with a separate shift, which the data of others does not contain."""
    labels, logits = draw_faces(200)
    source = np.repeat([0, 1], 100)
    predicted = cross_fit_thresholds(labels, logits, source)
    for held_out, other in ((0, 1), (1, 0)):
        fitted = fit_calibrated_thresholds(labels[source == other], logits[source == other])
        expected = calibrate(logits[source == held_out], fitted.calibration)
        np.testing.assert_array_equal(predicted.probabilities[source == held_out], expected)
        for point in POINTS:
            active = expected >= np.asarray(fitted.at(point))
            np.testing.assert_array_equal(predicted.active[point][source == held_out], active)
