"""The score equals that of the challenge, to the last digit."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from auscan.core.errors import AuscanError
from auscan.training.metrics import (
    Counts,
    bootstrap,
    calibration_error,
    count,
    count_by,
    interval,
    label_mask,
    ranking,
)

PUBLISHED_RATES = (
    *(0.1182, 0.0498, 0.1540, 0.2661, 0.3970, 0.3444),
    *(0.2449, 0.0281, 0.0314, 0.0256, 0.6266, 0.0743),
)
LABELS = arrays(np.int8, st.tuples(st.integers(1, 30), st.just(12)), elements=st.integers(-1, 1))


def brute_force(labels: NDArray[np.int8], predictions: NDArray[np.bool_], official: bool) -> float:
    """Compute Aff-Wild2's score frame by frame; AUs without any label are left out of the mean."""
    f1 = []
    for au in range(12):
        tp = fp = fn = counted = 0
        for truth, predicted in zip(labels, predictions, strict=True):
            if truth[au] == -1 or (official and -1 in truth):
                continue
            counted += 1
            tp += truth[au] == 1 and predicted[au]
            fp += truth[au] == 0 and predicted[au]
            fn += truth[au] == 1 and not predicted[au]
        if counted:
            f1.append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0)
    return sum(f1) / len(f1) if f1 else float("nan")


def almost_equal(one: float, other: float) -> bool:
    return one == pytest.approx(other, nan_ok=True, abs=1e-12)


def test_the_example_of_the_specification_scores_as_stated() -> None:
    labels, predictions = np.zeros((4, 12), np.int8), np.zeros((4, 12), bool)
    labels[:, 0], predictions[:, 0] = [1, 1, 0, 0], [True, False, True, False]
    labels[:, 10], predictions[:, 10] = [1, 1, 1, 0], True
    counts = count(labels, predictions)
    assert counts.f1()[0] == 0.5
    assert counts.f1()[10] == pytest.approx(6 / 7)
    assert round(counts.score(), 6) == 0.113095


@given(LABELS, st.integers(0, 2**32 - 1))
def test_random_cases_score_as_when_counted_by_hand(labels: NDArray[np.int8], seed: int) -> None:
    predictions = np.random.default_rng(seed).random(labels.shape) < 0.5
    assert almost_equal(count(labels, predictions).score(), brute_force(labels, predictions, official=True))
    assert almost_equal(
        count(labels, predictions, "element").score(), brute_force(labels, predictions, official=False)
    )


def test_the_score_is_scikit_learns_macro_f1_over_the_twelve_columns() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((500, 12)) < PUBLISHED_RATES).astype(np.int8)
    predictions = random.random((500, 12)) < 0.4
    assert count(labels, predictions).score() == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_always_predicting_active_scores_as_the_published_base_rates_imply() -> None:
    rates = np.array(PUBLISHED_RATES)
    frames = 10_000
    labels = (np.arange(frames)[:, None] < np.round(rates * frames)).astype(np.int8)
    counts = count(labels, np.ones((frames, 12), bool))
    np.testing.assert_allclose(counts.f1(), 2 * rates / (1 + rates))
    assert round(counts.score(), 3) == 0.295


@given(LABELS, st.integers(0, 2**32 - 1))
def test_a_prediction_whose_label_is_missing_never_counts(labels: NDArray[np.int8], seed: int) -> None:
    random = np.random.default_rng(seed)
    predictions = random.random(labels.shape) < 0.5
    changed = np.where(labels == -1, random.random(labels.shape) < 0.5, predictions)
    one, other = (count(labels, predicted, "element") for predicted in (predictions, changed))
    for kind in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(getattr(one, kind), getattr(other, kind))
    np.testing.assert_array_equal(one.labelled(), (labels >= 0).sum(axis=0))
    whole = (labels >= 0).all(axis=1)
    assert (count(labels, predictions).labelled() == whole.sum()).all()


def test_one_missing_label_removes_its_frame_from_the_official_score_only() -> None:
    labels, predictions = np.ones((2, 12), np.int8), np.ones((2, 12), bool)
    labels[1, 3] = -1
    assert count(labels, predictions).tp.tolist() == [1] * 12
    assert count(labels, predictions, "element").tp.tolist() == [2, 2, 2, 1] + [2] * 8


def test_aus_that_a_data_set_never_codes_do_not_remove_its_frames() -> None:
    labels = np.zeros((3, 12), np.int8)
    labels[:, 9], labels[2, 0] = -1, -1
    coded = (labels >= 0).any(axis=0)
    assert not label_mask(labels).any()
    assert label_mask(labels, coded=coded).any(axis=1).tolist() == [True, True, False]
    assert not label_mask(labels, coded=coded)[:, 9].any()


@given(LABELS, st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_counts_of_shards_add_up_to_the_counts_of_the_whole(
    labels: NDArray[np.int8], seed: int, shards: int
) -> None:
    random = np.random.default_rng(seed)
    predictions, group = random.random(labels.shape) < 0.5, random.integers(shards, size=len(labels))
    whole = count(labels, predictions)
    by_group = count_by(group, shards, labels, predictions).pooled()
    nothing = np.zeros(12, np.int64)
    merged = Counts(nothing, nothing, nothing, nothing)
    for shard in range(shards):
        merged += count(labels[group == shard], predictions[group == shard])
    for kind in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(getattr(merged, kind), getattr(whole, kind))
        np.testing.assert_array_equal(getattr(by_group, kind), getattr(whole, kind))


def test_an_au_that_is_neither_active_nor_predicted_has_f1_0_and_one_without_labels_has_none() -> None:
    labels = np.zeros((3, 12), np.int8)
    labels[:, 1] = -1
    f1 = count(labels, np.zeros((3, 12), bool), "element").f1()
    assert f1[0] == 0
    assert np.isnan(f1[1])
    assert np.isnan(count(labels[:0], np.zeros((0, 12), bool)).score())


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        (np.zeros((2, 12), np.int8), np.zeros((3, 12), bool)),
        (np.zeros((2, 12), np.int8), np.zeros((2, 12))),
        (np.full((2, 12), -5, np.int8), np.zeros((2, 12), bool)),
        (np.full((2, 12), 2, np.int8), np.zeros((2, 12), bool)),
    ],
)
def test_invalid_labels_and_predictions_are_refused(
    labels: NDArray[np.int8], predictions: NDArray[np.bool_]
) -> None:
    """-5 marks missing labels of another challenge track; a float prediction would count as active from 0.001
    on.
    """
    with pytest.raises(ValueError, match="should be"):
        count(labels, predictions)


def counts_of_videos(videos: int) -> Counts:
    random = np.random.default_rng(1)
    labels = (random.random((videos * 20, 12)) < 0.4).astype(np.int8)
    predictions = (random.random(labels.shape) < 0.7) == labels
    return count_by(np.repeat(np.arange(videos), 20), videos, labels, predictions)


def test_the_vectorised_bootstrap_equals_drawing_videos_one_by_one() -> None:
    counts = counts_of_videos(5)
    f1, score = bootstrap(counts, draws=20, seed=3)
    times = np.random.default_rng(3).multinomial(5, np.full(5, 0.2), size=20)
    for draw, number in enumerate(times):
        drawn = np.repeat(np.arange(5), number)
        one = Counts(*(getattr(counts, kind)[drawn] for kind in ("tp", "fp", "fn", "tn"))).pooled()
        np.testing.assert_allclose(f1[draw], one.f1())
        assert score[draw] == pytest.approx(one.score())


def test_the_interval_contains_the_score_and_narrows_with_more_videos() -> None:
    few, many = counts_of_videos(4), counts_of_videos(100)
    for counts in (few, many):
        low, high = interval(counts).score
        assert low < counts.pooled().score() < high
    assert np.ptp(interval(many).score) < np.ptp(interval(few).score) / 2


def test_identical_videos_have_an_interval_of_width_0() -> None:
    one = counts_of_videos(1)
    alike = Counts(*(np.repeat(getattr(one, kind), 9, axis=0) for kind in ("tp", "fp", "fn", "tn")))
    np.testing.assert_allclose(interval(alike).score, one.pooled().score())


def test_a_single_video_has_no_interval() -> None:
    alone = interval(counts_of_videos(1))
    assert np.isnan(alone.score).all()
    assert np.isnan(alone.f1).all()


def kappa(labels: NDArray[np.int8], predictions: list[bool] | NDArray[np.bool_]) -> float:
    """Kappa of one AU from its counts."""
    counts = count(labels[:, None], np.asarray(predictions)[:, None], "element")
    return float(counts.kappa()[0])


def test_ranking_and_kappa_leave_out_missing_labels_and_scores() -> None:
    labels = np.array([1, 0, 1, 0, -1, 1], np.int8)
    scores = np.array([0.9, 0.1, 0.8, 0.3, 1.0, np.nan], np.float32)
    assert ranking(labels, scores).auc == 1.0
    assert ranking(labels, scores).average_precision == 1.0
    assert kappa(labels, [True, False, True, False, True, True]) == 1.0
    assert kappa(labels, [True, True, False, False, True, True]) == pytest.approx(1 / 6)


def test_undefined_metrics_are_nan_without_a_warning() -> None:
    nothing, scores = np.zeros(3, np.int8), np.array([0.1, 0.2, 0.3], np.float32)
    assert np.isnan(ranking(nothing, scores).auc)
    assert np.isnan(ranking(nothing, scores).average_precision)
    assert np.isnan(ranking(nothing + 1, scores).auc)
    assert np.isnan(kappa(nothing, np.zeros(3, bool)))
    assert np.isnan(kappa(nothing - 1, np.zeros(3, bool)))


def test_without_scikit_learn_one_line_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(AuscanError, match=r"pip install 'auscan\[train\]'") as caught:
        ranking(np.zeros(1, np.int8), np.zeros(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5], 0.0),  # probability 0.5, half of the frames active
        ([1, 1, 1, 1], [0.8, 0.8, 0.8, 0.8], 0.2),
        ([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], 0.1),
        ([0, 1, 1, 1], [0.9, 0.9, 0.1, 0.1], (0.5 * 0.4 + 0.5 * 0.9)),
        ([1, 1, 1, 0], [0.0, 1.0, 1.0, 0.0], 0.25),  # bin of probability 0: one of two frames active
        ([1, 0, -1, -1], [0.5, 0.5, 0.9, 0.1], 0.0),
        ([1, 0, 1, 1], [0.5, 0.5, np.nan, np.nan], 0.0),
    ],
)
def test_the_calibration_error_agrees_with_values_computed_by_hand(
    labels: list[int], probabilities: list[float], expected: float
) -> None:
    assert calibration_error(np.array(labels), np.array(probabilities)) == pytest.approx(expected)


def test_calibrated_scores_have_almost_no_calibration_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(200_000)
    labels = (random.random(200_000) < probabilities).astype(np.int8)
    assert calibration_error(labels, probabilities) < 0.01
    assert calibration_error(labels, probabilities**2) == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_without_labels_there_is_no_calibration_error() -> None:
    assert np.isnan(calibration_error(np.array([-1, -1]), np.array([0.2, 0.3])))
