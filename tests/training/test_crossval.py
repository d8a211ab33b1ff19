"""Cross-validation: every labelled track is scored once, by a network that was not trained on its video.

An ensemble averages networks with equal weight and requires the same frames from each.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.crossval import cross_validate, fold_config, mean_scores
from auscan.training.scores import read_scores


@pytest.fixture
def config(make_features: Callable[..., tuple[Path, Path]], tmp_path: Path) -> TrainConfig:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    index, cache = map(str, make_features(tmp_path / "data"))
    content = {
        "out": str(tmp_path / "run"),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 40, "score": ["test"]},
        "model": {
            "size": "nano",
            "alignment": {"width": 16, "au_width": 4, "heads": 2},
            "fusion": {"heads": 2},
            "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
        },
        "loop": {"epochs": 1, "batch": 4, "device": "cpu"},
    }
    return check_train_config(content, "settings")


def test_every_track_is_scored_by_a_network_not_trained_on_its_video(config: TrainConfig) -> None:
    outcome = cross_validate(config, count=3)
    assert len(outcome.best) == 3
    scores = read_scores(outcome.scores["oof"])
    frames = {"900": 130, "901_left": 75, "901_right": 75, "mute902": 40, "903": 90, "904": 30}
    assert scores.groupby("track").size().to_dict() == frames
    by_fold = [
        set(read_scores(config.out / f"fold{k}" / "scores" / "val.parquet")["track"]) for k in range(3)
    ]
    assert sum(map(len, by_fold)) == len(frames), "no track is in two folds"
    assert any({"901_left", "901_right"} <= tracks for tracks in by_fold)
    for number in range(3):
        settings = json.loads((config.out / f"fold{number}" / "config.json").read_text())
        assert settings["data"]["folds"] == {"count": 3, "held_out": number, "seed": 0}


def test_scores_of_the_test_split_are_the_mean_of_the_folds(config: TrainConfig) -> None:
    outcome = cross_validate(config, count=2)
    parts = [read_scores(config.out / f"fold{k}" / "scores" / "test.parquet") for k in range(2)]
    mean = (parts[0][list(AFFWILD2_AUS)] + parts[1][list(AFFWILD2_AUS)]) / 2
    np.testing.assert_allclose(read_scores(outcome.scores["test"])[list(AFFWILD2_AUS)], mean, atol=1e-6)
    again = cross_validate(config, count=2)
    assert again.best == outcome.best, "finished folds are not trained again"


def test_a_fold_differs_from_the_run_in_folder_and_tracks_only(config: TrainConfig) -> None:
    fold = fold_config(config, 1, 4, seed=7)
    assert fold.out == config.out / "fold1"
    assert fold.data.folds is not None
    assert (fold.data.folds.count, fold.data.folds.held_out, fold.data.folds.seed) == (4, 1, 7)
    back = fold.model_copy(update={"out": config.out, "data": config.data})
    assert back == config


Make = Callable[..., pd.DataFrame]


def test_the_mean_of_each_frame_and_au_does_not_depend_on_row_order(make_scores: Make) -> None:
    tables = [make_scores({"a": 4, "b": 3}, seed=seed) for seed in range(3)]
    expected = np.mean([table[list(AFFWILD2_AUS)] for table in tables], axis=0)
    mean = mean_scores([tables[0], tables[1].iloc[::-1], tables[2]], ["x", "y", "z"])
    np.testing.assert_allclose(mean[list(AFFWILD2_AUS)].to_numpy(), expected, rtol=1e-6)
    assert mean["frame"].tolist() == [1, 2, 3, 4, 1, 2, 3]


def test_a_missing_score_is_left_out_of_the_mean(make_scores: Make) -> None:
    one, other = make_scores({"a": 3}, seed=0), make_scores({"a": 3}, seed=1)
    one.loc[1, list(AFFWILD2_AUS)], one.loc[1, "has_face"] = np.nan, False
    for table in (one, other):
        table.loc[2, list(AFFWILD2_AUS)], table.loc[2, "has_face"] = np.nan, False
    mean = mean_scores([one, other], ["x", "y"])
    np.testing.assert_array_equal(mean.loc[1, list(AFFWILD2_AUS)], other.loc[1, list(AFFWILD2_AUS)])
    assert mean.loc[2, list(AFFWILD2_AUS)].isna().all()
    assert mean["has_face"].tolist() == [True, True, False]


@pytest.mark.parametrize("tracks", [{"a": 4}, {"a": 4, "b": 2}, {"a": 4, "c": 3}, {"a": 4, "b": 3, "c": 1}])
def test_other_tracks_or_frames_are_refused(make_scores: Make, tracks: dict[str, int]) -> None:
    with pytest.raises(InputError, match="same tracks and frames"):
        mean_scores([make_scores({"a": 4, "b": 3}), make_scores(tracks)], ["x", "y"])


def test_an_empty_ensemble_is_refused() -> None:
    with pytest.raises(InputError, match="no scores"):
        mean_scores([], [])


def test_tables_of_other_aus_are_averaged_by_name_or_refused(make_scores: Make) -> None:
    one, other = (make_scores({"a": 3}, seed=seed).drop(columns="AU04") for seed in range(2))
    expected = (one["AU12"] + other["AU12"]) / 2
    mean = mean_scores([one, other[other.columns[::-1]]], ["x", "y"])
    np.testing.assert_allclose(mean["AU12"], expected, rtol=1e-6)
    assert "AU04" not in mean
    with pytest.raises(InputError, match="Only one of x and y has AU04"):
        mean_scores([one, make_scores({"a": 3})], ["x", "y"])
