"""Test the metrics of the accuracy benchmarks and the format of their tables and pages."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.table import BOX_COLUMNS
from benchmarks.accuracy.accuracy import match, pose_groups
from benchmarks.accuracy.held_out_data import Truth
from benchmarks.accuracy.metric_tables import MIN_POSITIVES, au_metrics, markdown, page, within_clips

RNG = np.random.default_rng(0)


def test_correct_predictions_score_one_and_unlabelled_rows_are_ignored() -> None:
    labels = (RNG.random((60, 12)) < 0.5).astype(np.int8)
    probabilities = np.where(labels == 1, 0.9, 0.2)
    wrong = RNG.random(60) < 0.2
    labels[wrong, 0], labels[~wrong, 1] = -1, -1
    probabilities[wrong, 0] = 0.55
    found = au_metrics(labels, probabilities, (probabilities >= 0.5).astype(float), AFFWILD2_AUS)
    assert found.loc["AU01", ["auc", "f1"]].tolist() == [1.0, 1.0]
    assert found.loc["AU04", "positives"] == pytest.approx(labels[:, 2].mean())
    labels[:, 4] = 0
    labels[: MIN_POSITIVES - 1, 4] = 1
    assert "AU07" not in au_metrics(labels, probabilities, probabilities, AFFWILD2_AUS).index


def test_faces_that_are_not_scored_count_for_auc_and_not_for_f1() -> None:
    labels = np.tile([[1], [0]], (20, 12))
    probabilities = np.tile([[0.9], [0.1]], (20, 12))
    active = (probabilities >= 0.5).astype(float)
    probabilities[:10] = 0.5  # low quality, not scored
    active[:10] = np.nan
    found = au_metrics(labels, probabilities, active, AFFWILD2_AUS)
    assert found.loc["AU01", "f1"] == 1.0
    assert 0.5 < found.loc["AU01", "auc"] < 1.0


def test_correlation_within_a_clip_needs_a_varying_teacher_score() -> None:
    scores = np.tile(np.linspace(0, 1, 100)[:, None], (1, 12))
    probabilities = expit(6 * scores - 3)
    soft = expit(5 * scores - 2)
    scores[:, 2], soft[:, 5] = np.nan, 0.3
    found = within_clips([(probabilities, scores, soft)] * 3, AFFWILD2_AUS)
    assert "AU04" not in found.index
    assert "AU10" not in found.index
    assert found.loc["AU01"].tolist() == pytest.approx([3, 0.99, 1, 1], abs=0.01)
    calibrated = expit(2 * logit(probabilities) - 1)
    again = within_clips([(calibrated, scores, soft)], AFFWILD2_AUS)
    assert again.loc["AU01", "r"] < found.loc["AU01", "r"]
    assert again.loc["AU01", ["rank", "r_logit"]].tolist() == pytest.approx([1, 1])


def test_the_matched_face_is_the_one_around_the_teachers_points() -> None:
    points = np.tile(np.float32([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]]), (3, 1, 1))
    nothing = np.zeros((3, 12), np.float32)
    rows = [
        (0, 0, 1, *(30, 30, 40, 40)),
        (0, 1, 1, *(45, 35, 40, 40)),
        (1, 1, 1, *(200, 30, 40, 40)),
        (2, 0, 1, *(28, 30, 44, 44)),
        (3, 0, 1, *(30, 30, 40, 40)),
    ]
    table = pd.DataFrame(rows, columns=["frame", "face_id", "success", *BOX_COLUMNS])
    matched = match(table, Truth(nothing.astype(np.int8), points, nothing, nothing))
    assert matched["face_id"].tolist()[::2] == [0, 0]
    assert np.isnan(matched["face_id"].tolist()[1])
    assert matched["success"].tolist() == [1, 0, 1]


def test_groups_of_head_pose_hold_every_picture_once() -> None:
    about = pd.DataFrame({"yaw": [-50.0, -12.0, 0.0, 9.0, 10.0, 44.0], "pitch": [0.0, -20, 0, 0, 11, 0]})
    *by_yaw, by_pitch = pose_groups(about, (10, 20)).values()
    assert np.sum(by_yaw, axis=0).tolist() == [1] * 6
    assert by_pitch.tolist() == [False, True, False, False, True, False]


def test_a_missing_value_is_shown_as_a_dash() -> None:
    lines = markdown(pd.DataFrame({"auc": [0.5, np.nan]}, index=["AU01", "AU02"]), "AU", {"auc": ".2f"})
    assert lines == ["| AU | auc |", "| --- | --- |", "| AU01 | 0.50 |", "| AU02 | - |"]


def test_a_page_begins_with_the_results_and_ends_with_the_method() -> None:
    description = "Measure it.\n\n    python script.py\n\nOn faces.\n\nInputs: a folder. Returns: a table.\n"
    text = page("Title", "The lead.", ["| AU |", ""], description, "auscan 1.0.")
    assert text == (
        "# Title\n\nThe lead.\n\n| AU |\n\n## How it was measured\n\n    python script.py\n\nOn faces.\n\n"
        "auscan 1.0.\n"
    )
