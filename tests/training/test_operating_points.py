"""A fitted calibration finds the truth it was made from, never turns an order round, and tells its worth.

The thresholds of a point do what the point promises, in the right order, and are told honestly.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import fbeta_score, precision_score, recall_score

from auscan.core.config import UNCALIBRATED, OperatingPoint
from auscan.inference.score_track import calibrate
from auscan.training.metrics import calibration_error
from auscan.training.operating_points import (
    FLAT,
    HIGHEST,
    LEAST_SCALE,
    LOWEST,
    POINTS,
    choose_threshold,
    fit_calibration,
    fit_readout,
    read_by_others,
)


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


Merit = Callable[[NDArray[np.integer], NDArray[np.bool_]], float]


def f_beta(beta: float) -> Merit:
    return lambda truth, said: float(fbeta_score(truth, said, beta=beta))


def evenness(truth: NDArray[np.integer], said: NDArray[np.bool_]) -> float:
    return float(-abs(said.sum() - truth.sum()) / truth.sum())


MERITS: dict[OperatingPoint, Merit] = {
    "default": f_beta(1),
    "balanced": evenness,
    "precise": f_beta(0.5),
    "sensitive": f_beta(2),
}


def faces(rows: int = 600, rate: float = -1.5, seed: int = 0) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Labels [R, 12] and logits [R, 12] that know a good deal of them; some labels are missing."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (rows, 12))
    labels = (random.random((rows, 12)) < expit(0.7 * logits + rate)).astype(np.int8)
    labels[random.random((rows, 12)) < 0.1] = -1
    return labels, logits


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("rate", [-3.0, 0.5])
def test_no_threshold_serves_a_points_goal_clearly_better(point: OperatingPoint, rate: float) -> None:
    labels, logits = faces(rate=rate)
    kept = labels[:, 0] >= 0
    truth, scores = labels[kept, 0], expit(logits[kept, 0]).astype(np.float32)
    chosen = choose_threshold(labels[:, 0], expit(logits[:, 0]), point)
    merit = MERITS[point]
    tried = np.clip(np.concatenate([scores, np.linspace(0, 1, 101)]), LOWEST, HIGHEST)
    best = max(merit(truth, scores >= np.float32(t)) for t in tried)
    assert merit(truth, scores >= np.float32(chosen)) >= best - FLAT - 1e-9


def test_the_more_a_miss_weighs_the_lower_the_threshold() -> None:
    readout = fit_readout(*faces(3000))
    precise, default, balanced, sensitive = (
        np.asarray(readout.at(point)) for point in ("precise", "default", "balanced", "sensitive")
    )
    assert (precise > np.maximum(default, balanced)).all()
    assert (sensitive < np.minimum(default, balanced)).all()


@pytest.mark.parametrize("rate", [-4.0, 0.0])
def test_a_balanced_threshold_marks_as_many_frames_as_are_active(rate: float) -> None:
    """However rare the AU, so that how long it was active in all is not biased."""
    labels, logits = faces(5_000, rate)
    readout = fit_readout(labels, logits)
    active = calibrate(logits, readout.calibration) >= np.asarray(readout.operating_points.balanced)
    for j in range(12):
        truth, said = labels[labels[:, j] >= 0, j], active[labels[:, j] >= 0, j]
        assert said.sum() == pytest.approx(truth.sum(), rel=0.01)
        assert precision_score(truth, said) == pytest.approx(recall_score(truth, said), rel=0.02)


def test_thresholds_are_for_probabilities_after_the_calibration() -> None:
    labels, logits = faces()
    readout = fit_readout(labels, logits)
    assert readout.calibration == fit_calibration(labels, logits)
    said = calibrate(logits, readout.calibration)
    for point in POINTS:
        assert readout.at(point)[5] == choose_threshold(labels[:, 5], said[:, 5], point)


@pytest.mark.parametrize("label", [0, 1, -1])
def test_an_au_without_a_yes_or_without_a_no_keeps_a_half(label: int) -> None:
    labels, logits = faces()
    labels[:, 2] = label
    readout = fit_readout(labels, logits)
    assert {readout.at(point)[2] for point in POINTS} == {0.5}


def test_what_is_said_of_a_person_rests_on_others_alone() -> None:
    """Each person's labels are drawn with a shift of their own, which the others cannot know."""
    labels, logits = faces(200)
    source = np.repeat([0, 1], 100)
    said = read_by_others(labels, logits, source)
    for held, other in ((0, 1), (1, 0)):
        readout = fit_readout(labels[source == other], logits[source == other])
        expected = calibrate(logits[source == held], readout.calibration)
        np.testing.assert_array_equal(said.probabilities[source == held], expected)
        for point in POINTS:
            active = expected >= np.asarray(readout.at(point))
            np.testing.assert_array_equal(said.active[point][source == held], active)
