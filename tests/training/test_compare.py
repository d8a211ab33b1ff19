"""The difference of two sets of scores, and its interval, equal those of a bootstrap made by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training.compare import Comparison, compare
from auscan.training.ranking_draws import count_levels, ranking_draws
from auscan.training.thresholds import Decision

Make = Callable[..., pd.DataFrame]
TRACKS = {"v1": 40, "v2": 50, "v3": 60, "v4": 30, "v5": 45}
FEW = 40
"""Draws, so that the loop by hand takes seconds."""
DECISIONS = (Decision(AFFWILD2_AUS, (0.4,) * 12), Decision(AFFWILD2_AUS, (0.6,) * 12))


@pytest.fixture
def tables(make_scores: Make, make_labels: Make) -> tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]]:
    """Labels, and two tables of scores of which the second follows them more closely."""
    a, noise = make_scores(TRACKS), make_scores(TRACKS, seed=1)
    random = np.random.default_rng(5)
    aus = list(AFFWILD2_AUS)
    truth = (a[aus].to_numpy() + random.normal(0, 0.5, (len(a), 12)) > 0.6).astype(np.int8)
    truth[random.random(len(truth)) < 0.1] = -1
    b = a.copy()
    b[aus] = np.clip(0.5 * a[aus] + 0.3 * truth.clip(0) + 0.2 * noise[aus], 0, 1).astype(np.float32)
    return make_labels(a, truth), (a, b)


@pytest.fixture
def comparison(tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]]) -> Comparison:
    return compare(*tables, DECISIONS)


def by_hand(
    tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]],
    measure: Callable[[NDArray[np.int8], NDArray[np.float32], int], float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference [A + 1] and its interval [2, A + 1], from the frames of the videos of each draw."""
    labels, scores = tables
    aus = list(AFFWILD2_AUS)
    kept = (labels[aus] >= 0).all(axis=1).to_numpy()
    truth = labels.loc[kept, aus].to_numpy()
    values = [table.loc[kept, aus].to_numpy(np.float32) for table in scores]
    rows_of = [np.flatnonzero(labels.loc[kept, "source_video"] == video) for video in TRACKS]

    def differences(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        a, b = (
            [measure(truth[rows, j], each[rows, j], number) for j in range(12)]
            for number, each in enumerate(values)
        )
        return np.append(np.subtract(b, a), np.mean(b) - np.mean(a))

    random = np.random.default_rng(0)
    times = random.multinomial(len(TRACKS), [1 / len(TRACKS)] * len(TRACKS), size=FEW)
    drawn = [
        differences(np.concatenate([np.tile(rows, count) for rows, count in zip(rows_of, each, strict=True)]))
        for each in times
    ]
    return differences(np.arange(len(truth))), np.percentile(drawn, (2.5, 97.5), axis=0)


def test_the_difference_of_f1_equals_a_bootstrap_by_hand(
    tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    difference, ends = by_hand(
        tables, lambda truth, scores, number: f1_score(truth, scores >= np.float32((0.4, 0.6)[number]))
    )
    f1 = compare(*tables, DECISIONS, draws=FEW).f1
    np.testing.assert_allclose(f1.difference, difference)
    np.testing.assert_allclose(f1.ends, ends)


def test_the_difference_of_auc_equals_a_bootstrap_by_hand(
    tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    difference, ends = by_hand(tables, lambda truth, scores, number: roc_auc_score(truth, scores))
    auc = compare(*tables, DECISIONS, draws=FEW).auc
    np.testing.assert_allclose(auc.difference, difference)
    np.testing.assert_allclose(auc.ends, ends)


def test_equal_scores_differ_by_exactly_0(
    tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    """Unpaired intervals would be as wide as those of one set of scores."""
    labels, (a, _) = tables
    same = compare(labels, (a, a.copy()))
    for each in (same.f1, same.auc):
        assert (each.difference == 0).all()
        assert (each.ends == 0).all()


def test_the_better_scores_have_an_interval_above_0(comparison: Comparison) -> None:
    assert comparison.auc.ends[0, -1] > 0
    report = comparison.to_dict()
    assert report["auc"]["mean"]["interval"][0] > 0
    assert report["sources"] == 5
    assert list(report["f1"]) == [*AFFWILD2_AUS, "mean"]


def test_only_aus_of_labels_and_both_scores_are_compared(
    tables: tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    labels, (a, b) = tables
    kept = labels.drop(columns="AU01"), (a.drop(columns="AU02"), b.rename(columns={"AU04": "AU45"}))
    picked = compare(*kept, rule="element")
    assert picked.au_names == AFFWILD2_AUS[3:]
    assert picked.left_out == ("AU01", "AU02", "AU04", "AU45")
    assert picked.auc.a[0] == compare(labels, (a, b), rule="element").auc.a[3]
    with pytest.raises(InputError, match="no AU in common"):
        compare(labels, (a.drop(columns=list(AFFWILD2_AUS[1:])), b.rename(columns={"AU01": "AU45"})))


@pytest.mark.parametrize("levels", [None, 5])
def test_auc_and_average_precision_of_a_draw_are_those_of_scikit_learn(levels: int | None) -> None:
    """With ties, and with more values than levels (nearly)."""
    random = np.random.default_rng(0)
    source = np.repeat(np.arange(4), 400)
    scores = random.random(1600).astype(np.float32)
    scores = scores if levels is None else np.floor(scores * levels) / levels
    labels = (random.random(1600) < scores).astype(np.int8)
    labels[random.random(1600) < 0.1] = -1
    auc, precision = ranking_draws(count_levels(labels, scores, source, 4), draws=3, seed=7)
    times = np.random.default_rng(7).multinomial(4, [0.25] * 4, size=3)
    tolerance = 2e-3 if levels is None else 1e-9
    for d in range(3):
        rows = np.concatenate(
            [np.tile(np.flatnonzero((source == v) & (labels >= 0)), n) for v, n in enumerate(times[d])]
        )
        assert auc[d] == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=tolerance)
        assert precision[d] == pytest.approx(
            average_precision_score(labels[rows], scores[rows]), abs=tolerance
        )
