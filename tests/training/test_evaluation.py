"""Metrics of an evaluation are correct and cover the stated frames."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.inference.score_track import to_logits
from auscan.training.evaluation import Evaluation, evaluate
from auscan.training.evaluation_figure import write_figure
from auscan.training.metrics import calibration_error
from auscan.training.operating_points import fit_calibrated_thresholds
from auscan.training.smoothing import Smoothing
from auscan.training.thresholds import Decision

Make = Callable[..., pd.DataFrame]
TRACKS = {"v1": 40, "v1_left": 30, "v2": 50, "v3": 60}


@pytest.fixture
def tables(make_scores: Make, make_labels: Make) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels correlated with noisy scores; a tenth of the frames has no face, some have no labels."""
    scores = make_scores(TRACKS, missing=0.1)
    random = np.random.default_rng(5)
    known = scores[list(AFFWILD2_AUS)].fillna(0.5).to_numpy()
    truth = (known + random.normal(0, 0.2, known.shape) > 0.6).astype(np.int8)
    truth[random.random(len(truth)) < 0.1] = -1
    truth[3, 2] = -1
    sources = [track.removesuffix("_left") for track in scores["track"]]
    return make_labels(scores, truth, sources), scores


@pytest.fixture
def evaluation(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Evaluation:
    return evaluate(*tables)


def test_f1_faces_is_scikit_learns_on_the_frames_with_a_face(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    labels, scores = (table[list(AFFWILD2_AUS)].to_numpy() for table in tables)
    kept = (labels >= 0).all(axis=1) & tables[1]["has_face"].to_numpy()
    expected = f1_score(labels[kept], scores[kept] >= 0.5, average="macro")
    assert evaluation.at_default.f1_faces.counts.score() == pytest.approx(expected)
    kappa = cohen_kappa_score(labels[kept][:, 4], scores[kept][:, 4] >= 0.5)
    assert evaluation.at_default.f1_faces.kappa[4] == pytest.approx(kappa)


def test_f1_all_counts_every_labelled_frame_with_filled_scores(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    labels, scores = tables
    filled = scores.groupby("track")[list(AFFWILD2_AUS)].transform(
        lambda column: column.interpolate(limit_direction="both")
    )
    truth = labels[list(AFFWILD2_AUS)].to_numpy()
    kept = (truth >= 0).all(axis=1)
    assert evaluation.frames == kept.sum()
    assert evaluation.rows == len(labels)
    assert evaluation.frames_without_face == (kept & ~scores["has_face"]).sum() > 0
    truth, values = truth[kept], filled.to_numpy()[kept]
    expected = f1_score(truth, values >= 0.5, average="macro")
    assert evaluation.at_default.f1_all.counts.score() == pytest.approx(expected)
    assert evaluation.ranking[6].auc == pytest.approx(roc_auc_score(truth[:, 6], values[:, 6]))
    precision = average_precision_score(truth[:, 6], values[:, 6])
    assert evaluation.ranking[6].average_precision == pytest.approx(precision)


def test_left_and_right_are_one_source_video(evaluation: Evaluation) -> None:
    assert (evaluation.tracks, evaluation.sources) == (4, 3)


def test_tuned_thresholds_are_at_least_as_good_and_marked_as_tuned_here(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    default, tuned = evaluation.at_default.f1_all.counts.f1(), evaluation.at_tuned.f1_all.counts.f1()
    assert (tuned >= default).all()
    assert tuned.mean() > default.mean()
    assert evaluation.tuned_here
    given = evaluate(*tables, Decision(AFFWILD2_AUS, evaluation.at_tuned.thresholds))
    assert not given.tuned_here
    assert given.at_tuned.f1_all.counts.score() == evaluation.at_tuned.f1_all.counts.score()


def test_cross_fitted_thresholds_score_no_better_than_tuned_ones(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    assert evaluation.cross_fitted is not None
    assert evaluation.cross_fitted.counts.score() <= evaluation.at_tuned.f1_all.counts.score()
    assert evaluate(*tables, Decision(AFFWILD2_AUS)).cross_fitted is None


def test_thresholds_are_tuned_after_smoothing_and_carry_its_windows(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    windows = (Smoothing(7),) * 11 + (Smoothing(),)
    tuned = evaluate(*tables, windows=windows)
    again = evaluate(*tables, Decision(AFFWILD2_AUS, tuned.at_tuned.thresholds, windows))
    assert again.windows == windows
    assert again.to_dict()["at_tuned"] == tuned.to_dict()["at_tuned"]
    assert again.at_default.f1_all.counts.f1()[0] != evaluate(*tables).at_default.f1_all.counts.f1()[0]
    assert again.at_default.f1_all.counts.f1()[11] == evaluate(*tables).at_default.f1_all.counts.f1()[11]


def test_always_predicting_active_has_the_f1_stated_in_the_report(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = tables
    scores[list(AFFWILD2_AUS)] = np.float32(1)
    report = evaluate(labels, scores).to_dict()
    assert report["at_default"]["f1_all"]["f1"] == pytest.approx(report["labels"]["f1_of_always_yes"])
    assert report["at_default"]["f1_all"]["mean"] == pytest.approx(report["labels"]["mean_f1_of_always_yes"])


def test_scores_without_a_label_change_nothing(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    labels, scores = tables
    out = (labels[list(AFFWILD2_AUS)] < 0).any(axis=1) & scores["has_face"]
    scores.loc[out, list(AFFWILD2_AUS)] = 1 - scores.loc[out, list(AFFWILD2_AUS)]
    # A frame's own score also fills its neighbours without a face, so only f1_faces cannot change.
    changed, before = evaluate(labels, scores).to_dict(), evaluation.to_dict()
    assert out.any()
    assert changed["at_default"]["f1_faces"] == before["at_default"]["f1_faces"]


def test_a_data_set_with_eight_coded_aus_is_scored_on_these(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = tables
    coded = ["AU01", "AU02", "AU04", "AU06", "AU12", "AU15", "AU25", "AU26"]
    labels[[name for name in AFFWILD2_AUS if name not in coded]] = -1
    report = evaluate(labels, scores).to_dict()
    figures = report["at_default"]["f1_all"]
    assert [name for name, f1 in figures["f1"].items() if f1 is not None] == coded
    assert figures["mean"] == pytest.approx(np.mean([figures["f1"][name] for name in coded]))
    assert report["at_tuned"]["thresholds"]["AU23"] == 0.5
    assert report["auc"]["AU23"] is None


def test_an_untrained_au_counts_as_inactive_and_lowers_the_mean(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = tables
    scores["AU23"] = np.float32(np.nan)
    evaluation = evaluate(labels, scores)
    assert evaluation.frames_without_score == evaluation.frames
    assert evaluation.to_dict()["at_tuned"]["f1_all"]["f1"]["AU23"] == 0
    assert evaluation.to_dict()["auc"]["AU23"] is None


def test_frames_never_labelled_for_all_aus_need_the_rule_element(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = tables
    labels.loc[::2, "AU01"] = -1
    labels.loc[1::2, "AU02"] = -1
    with pytest.raises(InputError, match="--rule element"):
        evaluate(labels, scores)
    assert evaluate(labels, scores, rule="element").frames > 0


def test_the_calibration_error_covers_the_frames_with_a_face(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    labels, scores = (table[list(AFFWILD2_AUS)].to_numpy() for table in tables)
    kept = (labels >= 0).all(axis=1) & tables[1]["has_face"].to_numpy()
    expected = [calibration_error(labels[kept, j], scores[kept, j]) for j in range(12)]
    assert evaluation.calibration_error == pytest.approx(expected)
    assert evaluation.calibrated_thresholds == fit_calibrated_thresholds(
        labels[kept], to_logits(scores[kept])
    )


def test_a_calibration_is_scored_on_other_videos_and_only_if_it_was_fitted_here(
    tables: tuple[pd.DataFrame, pd.DataFrame], evaluation: Evaluation
) -> None:
    """The scores are uniform and too flat for these labels, so a larger scale fits better."""
    assert evaluation.calibrated_error is not None
    assert np.mean(evaluation.calibrated_error) < np.mean(evaluation.calibration_error)
    assert np.mean(list(evaluation.to_dict()["calibrated_error"]["by_au"].values())) == pytest.approx(
        np.mean(evaluation.calibrated_error)
    )
    given = evaluate(*tables, Decision(AFFWILD2_AUS, (0.4,) * 12))
    assert given.calibration_error == evaluation.calibration_error
    assert (given.calibrated_error, given.calibrated_thresholds) == (None, None)


def test_the_report_is_plain_json(evaluation: Evaluation) -> None:
    report = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    low, high = report["at_tuned"]["f1_all"]["interval"]
    assert low < report["at_tuned"]["f1_all"]["mean"] < high


def test_the_figure_opens_offline(evaluation: Evaluation, tmp_path: Path) -> None:
    write_figure(tmp_path / "evaluation.html", evaluation)
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "AU25" in page
    assert "<script src=" not in page
    assert (tmp_path / "evaluation.html").stat().st_size < 8_000_000


def test_a_single_video_can_be_drawn(make_scores: Make, make_labels: Make, tmp_path: Path) -> None:
    scores = make_scores({"a": 20})
    labels = make_labels(scores, (scores[list(AFFWILD2_AUS)] > 0.4).to_numpy(np.int8))
    evaluation = evaluate(labels, scores)
    assert evaluation.to_dict()["at_default"]["f1_all"]["interval"] == [None, None]
    write_figure(tmp_path / "evaluation.html", evaluation)


def test_other_aus_are_matched_by_name_and_the_rest_is_listed(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    """The columns of the two tables are in another order, and each has an AU that the other lacks."""
    labels, scores = (table.rename(columns={"AU24": "AU45"}) for table in tables)
    both = evaluate(labels, scores, rule="element")
    assert both.au_names == tuple("AU45" if name == "AU24" else name for name in AFFWILD2_AUS)
    kept = ["AU45", "AU01", "AU12"]
    others = [name for name in labels if name not in both.au_names]
    picked = evaluate(
        labels[[*others, "AU01", "AU07", "AU12", "AU45"]],
        scores[["track", "frame", "has_face", *kept, "AU02"]],
        Decision(("AU02", "AU12", "AU01", "AU45"), (0.9, 0.3, 0.4, 0.6)),
        rule="element",
    )
    assert (picked.au_names, picked.not_scored, picked.not_labelled) == (tuple(kept), ("AU07",), ("AU02",))
    assert picked.at_tuned.thresholds == (0.6, 0.4, 0.3)
    one, other = (each.to_dict()["at_default"]["f1_all"]["f1"] for each in (both, picked))
    assert other == {name: one[name] for name in kept}
    with pytest.raises(InputError, match="no AU in common"):
        evaluate(labels[[*others, "AU07"]], scores[["track", "frame", "has_face", "AU02"]])
