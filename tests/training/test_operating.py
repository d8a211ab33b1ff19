"""The thresholds of a point do what the point promises, in the right order, and are told honestly."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import fbeta_score, precision_score, recall_score

from auscan.core.operating import OperatingPoint
from auscan.inference.probabilities import calibrate
from auscan.training.calibration import fit_calibration
from auscan.training.operating import (
    FLAT,
    HIGHEST,
    LOWEST,
    POINTS,
    choose_threshold,
    fit_readout,
    read_by_others,
)

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
