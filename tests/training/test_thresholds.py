"""A tuned threshold has the best F1, and is stored with the smoothing it was tuned after."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import Calibration, OperatingPoints
from auscan.core.errors import InputError
from auscan.training.metrics import count
from auscan.training.smoothing import NO_SMOOTHING, Smoothing, final_scores
from auscan.training.thresholds import (
    MAX_THRESHOLD,
    MIN_THRESHOLD,
    Decision,
    best_threshold,
    cross_fit_predictions,
    predict_active,
    read_decision,
    search_smoothing,
    tune_thresholds,
)

CASES = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 1, width=32) | st.just(float("nan"))), min_size=1, max_size=30
)


def f1_at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    predicted = scores >= np.float32(threshold)
    below = (
        2 * (predicted & (labels == 1)).sum()
        + (predicted & (labels == 0)).sum()
        + (~predicted & (labels == 1)).sum()
    )
    return 2 * (predicted & (labels == 1)).sum() / below if below else 0.0


@given(CASES)
def test_no_threshold_within_the_bounds_has_a_better_f1(case: list[tuple[int, float]]) -> None:
    labels, scores = np.array([y for y, _ in case]), np.array([p for _, p in case], np.float32)
    chosen = best_threshold(labels, scores)
    assert np.float32(MIN_THRESHOLD) <= chosen <= np.float32(MAX_THRESHOLD)
    tried = np.clip(
        np.concatenate([scores[~np.isnan(scores)], np.linspace(0, 1, 201)]), MIN_THRESHOLD, MAX_THRESHOLD
    )
    assert f1_at(labels, scores, chosen) == pytest.approx(max(f1_at(labels, scores, t) for t in tried))


def test_the_threshold_lies_half_way_between_the_scores_it_separates() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.4, 0.9], np.float32)
    assert best_threshold(labels, scores) == pytest.approx(0.3)


def test_a_threshold_of_one_half_is_kept_if_none_is_better() -> None:
    assert best_threshold(np.array([0, 1]), np.array([0.2, 0.9], np.float32)) == 0.5
    assert best_threshold(np.array([0, 0]), np.array([0.2, 0.9], np.float32)) == 0.5
    assert best_threshold(np.array([1, 0]), np.full(2, np.nan, np.float32)) == 0.5


def test_the_threshold_of_a_rare_au_stays_within_bounds() -> None:
    labels, scores = np.array([1, 0]), np.array([0.01, 0.001], np.float32)
    assert best_threshold(labels, scores) == pytest.approx(0.5)  # F1 is 0 at every threshold that is allowed
    assert best_threshold(np.array([1, 1]), np.array([0.06, 0.01], np.float32)) == pytest.approx(
        MIN_THRESHOLD
    )
    assert best_threshold(np.array([0, 1]), np.array([0.98, 0.99], np.float32)) <= np.float32(MAX_THRESHOLD)


def test_each_au_is_tuned_separately_on_the_labels_that_count() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random((400, 12)).astype(np.float32)
    cut = np.linspace(0.2, 0.8, 12)
    labels = (probabilities >= cut).astype(np.int8)
    labels[::2, 5] = -1  # removes half of the frames
    noisy = probabilities.copy()
    noisy[::2] = random.random((200, 12))
    decision = Decision(AFFWILD2_AUS, tune_thresholds(labels, noisy))
    np.testing.assert_allclose(decision.thresholds, cut, atol=0.05)
    assert count(labels, decision.predict(noisy)).score() == 1


def test_thresholds_of_a_video_are_tuned_on_the_other_videos_only() -> None:
    """The scores of each video have a separate best threshold, which the other videos do not contain."""
    source = np.repeat([0, 1], 50)
    scores = np.random.default_rng(0).random((100, 12)).astype(np.float32)
    cut = np.where(source == 0, 0.3, 0.7)[:, None]
    labels = (scores >= cut).astype(np.int8)
    predictions = cross_fit_predictions(labels, scores, source)
    for video, other in ((0, 1), (1, 0)):
        thresholds = tune_thresholds(labels[source == other], scores[source == other])
        expected = predict_active(scores[source == video], thresholds)
        np.testing.assert_array_equal(predictions[source == video], expected)


@pytest.mark.parametrize("videos", [2, 5, 13])
def test_every_frame_is_predicted_once_for_any_number_of_videos(videos: int) -> None:
    source = np.repeat(np.arange(videos), 3)
    everything = np.ones((3 * videos, 12))
    predictions = cross_fit_predictions(everything.astype(np.int8), everything.astype(np.float32), source)
    assert predictions.all()


def test_a_score_equal_to_its_threshold_is_active_and_a_missing_one_inactive() -> None:
    decision = Decision(AFFWILD2_AUS, (0.7,) * 12)
    scores = np.array([[0.7] * 12, [0.69] * 12, [np.nan] * 12], np.float32)
    assert decision.predict(scores)[:, 0].tolist() == [True, False, False]


def test_a_decision_is_read_as_it_was_saved(tmp_path: Path) -> None:
    decision = Decision(
        AFFWILD2_AUS,
        tuple(float(t) for t in np.float32(np.linspace(0.1, 0.9, 12))),
        (Smoothing(7),) * 11 + (Smoothing(),),
    )
    decision.save(tmp_path / "thresholds.json")
    assert read_decision(tmp_path / "thresholds.json") == decision


def test_a_decision_stores_calibration_and_operating_points(tmp_path: Path) -> None:
    rising = tuple(np.linspace(0.1, 0.9, 12).tolist())
    decision = Decision(
        AFFWILD2_AUS,
        rising,
        calibration=Calibration(scale=rising, shift=rising),
        operating_points=OperatingPoints(balanced=(0.3,) * 12, precise=rising, sensitive=(0.1,) * 12),
    )
    decision.save(tmp_path / "thresholds.json")
    assert read_decision(tmp_path / "thresholds.json") == decision


@pytest.mark.parametrize(
    "more",
    [
        {"calibration": {"scale": dict.fromkeys(AFFWILD2_AUS, 0.0)}},
        {"calibration": {"scales": dict.fromkeys(AFFWILD2_AUS, 1.0)}},
        {"operating_points": {"precise": dict.fromkeys(AFFWILD2_AUS, 0.5)}},
        {"operating_points": 3},
    ],
)
def test_invalid_calibration_or_points_are_refused_in_one_line(tmp_path: Path, more: object) -> None:
    path = tmp_path / "thresholds.json"
    Decision(AFFWILD2_AUS).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | more))  # type: ignore[operator]
    with pytest.raises(InputError, match="not a thresholds file") as caught:
        read_decision(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("thresholds"),
        lambda c: c.update(threshold=0.5),
        lambda c: c["thresholds"].pop("AU26"),
        lambda c: c["thresholds"].update(AU05=0.5),
        lambda c: c["thresholds"].update(AU01=1.5),
        lambda c: c["thresholds"].update(AU01=float("nan")),
        lambda c: c["thresholds"].update(AU01="0.5"),
        lambda c: c["smooth"].update(AU01=4),
        lambda c: c["smooth"].update(AU01=3.5),
        lambda c: c["smooth"].clear(),
    ],
)
def test_a_file_with_invalid_content_is_refused(tmp_path: Path, change: object) -> None:
    path = tmp_path / "thresholds.json"
    Decision(AFFWILD2_AUS).save(path)
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError):
        read_decision(path)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"thresholds": 0.5}'])
def test_an_invalid_thresholds_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a thresholds file"):
        read_decision(path)
    with pytest.raises(InputError, match="not a thresholds file"):
        read_decision(tmp_path / "nowhere.json")


def test_smoothing_is_optional_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    Decision(AFFWILD2_AUS).save(path)
    content = json.loads(path.read_text())
    del content["smooth"]
    path.write_text(json.dumps(content))
    assert read_decision(path) == Decision(AFFWILD2_AUS)


def noisy_scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and labels of four tracks at 10 Hz. Labels of AU01 last 5 s under strong noise; those of AU02
    alternate from frame to frame under weak noise; AU04 has single wrong scores, which a median removes.
    """
    rng, scores, labels = np.random.default_rng(0), [], []
    for track in ("a", "b", "c", "d"):
        slow = np.repeat(rng.integers(0, 2, 16), 50)
        truth = np.zeros((800, 12), np.int8)
        truth[:, 0], truth[:, 1], truth[:, 2] = slow, np.arange(800) % 2, slow
        values = 0.5 + 0.2 * (truth - 0.5) + rng.normal(0, 0.02, truth.shape)
        values[:, 0] += rng.normal(0, 0.15, 800)
        spikes = rng.random(800) < 0.1
        values[spikes, 2] = 1 - 1.0 * truth[spikes, 2]
        table = pd.DataFrame(np.clip(values, 0, 1).astype(np.float32), columns=list(AFFWILD2_AUS))
        table.insert(0, "track", track)
        table.insert(1, "frame", np.arange(1, 801))
        table.insert(2, "has_face", True)
        table["time_s"] = table["frame"] / 10
        scores.append(table)
        labels.append(
            pd.DataFrame(truth, columns=list(AFFWILD2_AUS)).assign(track=track, frame=table["frame"])
        )
    return pd.concat(scores, ignore_index=True), pd.concat(labels, ignore_index=True)


def test_the_search_finds_a_long_window_for_slow_labels_and_none_for_fast_ones() -> None:
    scores, rows = noisy_scores()
    labels, counted = rows[list(AFFWILD2_AUS)].to_numpy(np.int8), np.ones(len(rows), bool)
    source = pd.factorize(rows["track"])[0]
    search = search_smoothing(scores, rows, labels, counted, source)
    assert search.windows[0].frames(10) >= 5
    assert search.windows[1] == Smoothing(), "each smoothing mixes 1 and 0"
    assert search.windows[2].kind == "median"
    assert search.windows[3:] == (NO_SMOOTHING,) * 9, "without positives nothing is better than no smoothing"
    assert search.cross_fitted is not None
    predictions = (
        search.cross_fitted,
        cross_fit_predictions(labels, final_scores(scores, rows).probabilities, source),
    )
    searched, plain = (count(labels, each).f1() for each in predictions)
    assert searched[0] > plain[0] + 0.05
    assert searched[1] == plain[1]
    assert search_smoothing(scores, rows, labels, counted, np.zeros(len(rows), int)).cross_fitted is None


def test_the_cross_fitted_predictions_of_a_video_do_not_use_its_labels() -> None:
    scores, rows = noisy_scores()
    labels, counted = rows[list(AFFWILD2_AUS)].to_numpy(np.int8), np.ones(len(rows), bool)
    source = pd.factorize(rows["track"])[0]
    held_out = source == 1
    before = search_smoothing(scores, rows, labels, counted, source).cross_fitted
    changed = labels.copy()
    changed[held_out] = 1 - changed[held_out]
    after = search_smoothing(scores, rows, changed, counted, source).cross_fitted
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[held_out], after[held_out])


def test_smoothing_in_seconds_and_by_median_is_stored(tmp_path: Path) -> None:
    windows = (Smoothing(7), Smoothing(0.5, "s"), Smoothing(1, "s", "median"), *(NO_SMOOTHING,) * 9)
    Decision(AFFWILD2_AUS, windows=windows).save(tmp_path / "t.json")
    assert list(json.loads((tmp_path / "t.json").read_text())["smooth"].values())[:4] == [
        7,
        "0.5s",
        "median:1s",
        1,
    ]
    assert read_decision(tmp_path / "t.json").windows == windows


def test_a_decision_of_other_aus_is_read_and_picked_by_name(tmp_path: Path) -> None:
    """Taking the numbers by position would give AU45 the threshold of AU01."""
    numbers = (0.2, 0.3, 0.4)
    decision = Decision(
        ("AU45", "AU01", "AU14"),
        numbers,
        (Smoothing(7), Smoothing(), Smoothing(3)),
        Calibration(scale=numbers, shift=numbers),
        OperatingPoints(balanced=numbers, precise=numbers, sensitive=numbers),
    )
    decision.save(tmp_path / "t.json")
    picked = read_decision(tmp_path / "t.json").for_aus(("AU01", "AU45"))
    assert picked == Decision(
        ("AU01", "AU45"),
        (0.3, 0.2),
        (Smoothing(), Smoothing(7)),
        Calibration(scale=(0.3, 0.2), shift=(0.3, 0.2)),
        OperatingPoints(balanced=(0.3, 0.2), precise=(0.3, 0.2), sensitive=(0.3, 0.2)),
    )
    with pytest.raises(InputError, match="lack AU02"):
        decision.for_aus(("AU01", "AU02"))
