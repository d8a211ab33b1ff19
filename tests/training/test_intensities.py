"""Intensities are trained where they are known, scored, evaluated and packed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.crossval import mean_scores
from auscan.training.evaluation import evaluate
from auscan.training.intensity_metrics import evaluate_intensities
from auscan.training.loop import train
from auscan.training.run import load_trained
from auscan.training.scores import check_scores, read_labels, read_scores
from auscan.training.tracks import load_tracks
from auscan.training.windows import WindowBatches, training_windows

Make = Callable[..., pd.DataFrame]
MakeFeatures = Callable[..., tuple[Path, Path]]
KNOWN = ("AU01", "AU25")
"""AUs with intensities in the index."""


@pytest.fixture(scope="module")
def folders(
    make_features: MakeFeatures,
    add_intensities: Callable[[Path], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    index, cache = make_features(tmp_path_factory.mktemp("features"))
    add_intensities(index)
    return index, cache


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def make_config(folders: tuple[Path, Path], out: Path, **changes: Any) -> TrainConfig:
    index, cache = map(str, folders)
    content: dict[str, Any] = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 30},
        "model": {
            "size": "nano",
            "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
            "fusion": {"heads": 2},
            "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
        },
        "loop": {"epochs": 12, "batch": 3, "device": "cpu", "log_every": 1},
        "optimizer": {"rate": 5e-3, "average": 0.9},
    }
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value}
    return check_train_config(content, "settings")


@pytest.fixture(scope="module")
def run(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    AcceleratorState._reset_state(reset_partial_state=True)
    train(make_config(folders, out))
    return out


def test_intensities_are_learned_where_they_are_known(folders: tuple[Path, Path], run: Path) -> None:
    scores = read_scores(run / "scores" / "val.parquet")
    evaluation = evaluate(read_labels(folders[0], "val"), scores)
    assert evaluation.intensity is not None
    assert evaluation.intensity.au_names == KNOWN
    icc, mae = evaluation.intensity.values["icc"], evaluation.intensity.values["mae"]
    assert icc[1] > 0.8, "AU25 is audible"
    assert mae[1] < 0.8, "always estimating the mean of 4 and 0.5 has an error of 1.7"
    losses = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = [line["intensity"] for line in losses if line["kind"] == "training"]
    assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.02


def test_aus_without_training_intensities_are_nan_in_scores_and_named_in_the_settings(run: Path) -> None:
    scores = read_scores(run / "scores" / "val.parquet")
    unknown = tuple(name for name in AFFWILD2_AUS if name not in KNOWN)
    assert scores[[f"{name}_r" for name in unknown]].isna().all(axis=None)
    assert scores.loc[scores["has_face"], [f"{name}_r" for name in KNOWN]].notna().all(axis=None)
    network, config = load_trained(run / "best")
    assert network.has_intensities
    assert config.untrained_intensities == unknown


def test_intensities_do_not_change_how_aus_are_detected_at_first(
    folders: tuple[Path, Path], run: Path, tmp_path: Path
) -> None:
    """The first batch has the same losses of presence with and without them."""
    train(make_config(folders, tmp_path, loss={"intensity": 0}, loop={"epochs": 1}))
    assert not load_trained(tmp_path / "best")[0].has_intensities
    with_them, without = (
        json.loads((folder / "log.jsonl").read_text().splitlines()[0]) for folder in (run, tmp_path)
    )
    assert "intensity" not in without
    assert with_them["bce"] == pytest.approx(without["bce"])
    scores = read_scores(tmp_path / "scores" / "val.parquet")
    assert not [column for column in scores if str(column).endswith("_r")]


def test_a_data_set_without_intensities_trains_as_before(make_features: MakeFeatures, tmp_path: Path) -> None:
    plain = make_features(tmp_path / "plain")
    train(make_config(plain, tmp_path / "run", loop={"epochs": 1}))
    network, config = load_trained(tmp_path / "run" / "best")
    assert (network.has_intensities, config.untrained_intensities) == (False, ())


def test_margins_and_padding_have_no_intensity(folders: tuple[Path, Path]) -> None:
    from auscan.datasets.index import read_index

    tracks = load_tracks(read_index(folders[0]), folders[1], ["train"])
    data = make_config(folders, Path("x"), data={"margin": 10}).data
    windows = training_windows(tracks, data)
    batch = WindowBatches(tracks, windows, 0.6, margin=10)[list(range(len(windows)))]
    assert batch.in_window is not None
    assert batch.intensities[~batch.in_window].isnan().all()
    assert not batch.intensities[batch.in_window].isnan().all()


@pytest.fixture
def rated(make_scores: Make, make_labels: Make) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and scores of four videos with intensities of two AUs; some frames have none."""
    scores = make_scores({"a": 40, "b": 50, "c": 30, "d": 60}, missing=0.1)
    random = np.random.default_rng(3)
    labels = make_labels(scores, (random.random((len(scores), 12)) < 0.3).astype(np.int8))
    for au, noise in (("AU12", 0.5), ("AU01", 2.0)):
        truth = random.uniform(0, 5, len(scores))
        labels[f"{au}_r"] = np.where(random.random(len(scores)) < 0.2, np.nan, truth).astype(np.float32)
        estimate = np.clip(truth + random.normal(0, noise, len(scores)), 0, 5).astype(np.float32)
        scores[f"{au}_r"] = np.where(scores["has_face"], estimate, np.float32(np.nan))
    return labels, scores


def icc_by_definition(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """(MS_rows - MS_error) / (MS_rows + MS_error) of a two-way analysis of variance."""
    values = np.stack([a, b], axis=1)
    rows, columns, grand = values.mean(1), values.mean(0), values.mean()
    ms_rows = 2 * ((rows - grand) ** 2).sum() / (len(a) - 1)
    error = values - rows[:, None] - columns[None] + grand
    ms_error = (error**2).sum() / (len(a) - 1)
    return float((ms_rows - ms_error) / (ms_rows + ms_error))


def test_icc_r_and_mae_are_those_of_the_known_frames_with_filled_estimates(
    rated: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = rated
    metrics = evaluate_intensities(labels, scores, AFFWILD2_AUS)
    assert metrics is not None
    assert metrics.au_names == ("AU01", "AU12")
    filled = scores.groupby("track")[["AU01_r", "AU12_r"]].transform(
        lambda column: column.interpolate(limit_direction="both")
    )
    for j, au in enumerate(metrics.au_names):
        known = labels[f"{au}_r"].notna()
        a, b = (table.loc[known, f"{au}_r"].to_numpy(np.float64) for table in (labels, filled))
        assert metrics.frames[j] == known.sum()
        assert metrics.values["icc"][j] == pytest.approx(icc_by_definition(a, b), abs=1e-5)
        assert metrics.values["r"][j] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)
        assert metrics.values["mae"][j] == pytest.approx(np.abs(a - b).mean(), abs=1e-5)
        for measure in ("icc", "r", "mae"):
            low, high = metrics.ends[measure][:, j]
            assert low < metrics.values[measure][j] < high
    assert metrics.values["icc"][-1] == pytest.approx(metrics.values["icc"][:2].mean())
    report = json.loads(json.dumps(evaluate(labels, scores).to_dict(), allow_nan=False))["intensity"]
    assert report["icc"]["by_au"]["AU12"] > report["icc"]["by_au"]["AU01"]
    assert list(report["frames"]) == ["AU01", "AU12"]


def test_tables_without_common_intensities_have_no_such_measures(
    rated: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    labels, scores = rated
    assert evaluate(labels.drop(columns=["AU01_r", "AU12_r"]), scores).intensity is None
    assert evaluate(labels, scores.drop(columns=["AU01_r", "AU12_r"])).to_dict()["intensity"] is None


def test_intensities_out_of_range_are_refused_and_averaged_over_networks(
    rated: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    scores = rated[1]
    with pytest.raises(InputError, match="an intensity outside 0 to 5 in AU12_r"):
        check_scores(scores.assign(AU12_r=np.float32(5.5)), "x")
    other = scores.assign(AU12_r=scores["AU12_r"] / 2)
    mean = mean_scores([scores, other], ["x", "y"])
    np.testing.assert_allclose(mean["AU12_r"], check_scores(scores, "x")["AU12_r"] * 0.75, rtol=1e-5)
    with pytest.raises(InputError, match="Only one of x and y has AU01_r"):
        mean_scores([scores, scores.drop(columns="AU01_r")], ["x", "y"])


def test_the_index_of_a_run_is_kept(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "index")
    labels = read_labels(tmp_path / "index", "val")
    assert {"AU01_r", "AU25_r", "AU12_r"} <= set(labels)
