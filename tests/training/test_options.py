"""Options of a run: validation at tuned thresholds, label smoothing, several data sets, pre-training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import CheckpointError, InputError
from auscan.datasets.index import read_index
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.loop import Trainer, train
from auscan.training.predict import ValidationScore, score_tracks, validation_score
from auscan.training.run import load_trained
from auscan.training.scores import read_scores
from auscan.training.tracks import load_tracks

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}
MakeFeatures = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def folders(make_features: MakeFeatures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(autouse=True)
def _new_accelerator() -> None:
    """Reset accelerate, which keeps its settings for the life of a process; each test is a separate run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def make_config(folders: tuple[Path, Path], out: Path, **changes: Any) -> TrainConfig:
    index, cache = map(str, folders)
    content: dict[str, Any] = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 30},
        "model": MODEL,
        "loop": {"epochs": 2, "batch": 4, "device": "cpu", "log_every": 1},
        "optimizer": {"rate": 5e-3, "average": 0.9},
    }
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return check_train_config(content, "settings")


def log_of(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_both_validation_scores_are_logged(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(make_config(folders, tmp_path))
    lines = log_of(tmp_path, "validation")
    assert len(lines) == 2
    assert all(line["mean_f1_tuned"] > line["mean_f1"] > 0 for line in lines), "tuned on the same frames"


@pytest.mark.parametrize(("stop_at", "best_step"), [("fixed", 3), ("tuned", 6)])
def test_the_best_epoch_is_that_of_the_chosen_thresholds(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: str,
    best_step: int,
) -> None:
    """At 0.5 the first epoch is the better one, at tuned thresholds the second. The card states 0.5's."""
    scores = iter([(0.6, 0.6), (0.5, 0.7)])
    monkeypatch.setattr(
        "auscan.training.loop.validation_score",
        lambda *_: ValidationScore(*next(scores), by_au=(0.5,) * 12),
    )
    outcome = train(make_config(folders, tmp_path, loop={"stop_at": stop_at}))
    assert outcome.best_step == best_step
    assert outcome.best == (0.6 if stop_at == "fixed" else 0.7)
    assert load_trained(tmp_path / "best")[1].score == (0.6 if stop_at == "fixed" else 0.5)


def test_scores_far_from_one_half_have_a_tuned_score(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Perfectly ordered scores below 0.5 have F1 0 at 0.5 and 1 at tuned thresholds."""
    train(make_config(folders, tmp_path, loop={"epochs": 1}))
    tracks = load_tracks(read_index(folders[0]), folders[1], ["val"])
    table = score_tracks(load_trained(tmp_path / "best")[0], tracks, None, 0.6)
    labels = np.concatenate([track.labels for track in tracks])
    table[list(AFFWILD2_AUS)] = np.where(labels == 1, np.float32(0.4), np.float32(0.3))
    score = validation_score(table, tracks, "frame")
    assert (score.fixed, score.tuned) == (0.0, 1.0)
    assert score.by_au == (0.0,) * 12


@pytest.fixture(scope="module")
def disfa(make_features: MakeFeatures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A second data set: it codes AU01 and AU25 only, and a track has the name of one in the first."""
    uncoded = tuple(name for name in AFFWILD2_AUS if name not in ("AU01", "AU25"))
    tracks = {"900": ("fold1", 60), "SN002": ("fold2", 60), "SN003": ("fold3", 60)}
    return make_features(tmp_path_factory.mktemp("disfa"), tracks, seed=4, uncoded=uncoded)


def more(folders: tuple[Path, Path], *splits: str) -> dict[str, Any]:
    index, cache = map(str, folders)
    return {"more": [{"index": index, "cache": cache, "train": list(splits)}]}


def test_a_second_data_set_adds_training_windows_only(
    folders: tuple[Path, Path], disfa: tuple[Path, Path], tmp_path: Path
) -> None:
    reported: list[str] = []
    trainer = Trainer(make_config(folders, tmp_path, data=more(disfa, "fold1", "fold2")), reported.append)
    assert [track.name for track in trainer.data.training] == [
        *("900", "901_left", "901_right", "mute902"),
        *("900", "SN002"),
    ]
    assert [track.name for track in trainer.data.validation] == ["903", "904"]
    sources = set(trainer.data.window_sources)
    assert {"900", f"{disfa[0]}/900"} <= sources, "balanced as two videos, though they have one name"
    assert any("2 tracks, 120 frames, labels of AU01, AU25" in line for line in reported)


def test_labels_that_a_data_set_lacks_have_no_gradient_and_the_others_train(
    make_features: MakeFeatures, disfa: tuple[Path, Path], tmp_path: Path
) -> None:
    """The first set does not code AU25, the second codes AU01 and AU25: both train, the rest by the first."""
    first = make_features(tmp_path / "first", {"1": ("train", 90), "2": ("val", 40)}, uncoded=("AU25",))
    alone = train(make_config(first, tmp_path / "alone", loop={"rule": "element"}))
    AcceleratorState._reset_state(reset_partial_state=True)
    data = more(disfa, "fold1", "fold2", "fold3")
    both = train(make_config(first, tmp_path / "both", loop={"rule": "element"}, data=data))
    untrained = [load_trained(result.folder / "best")[1].untrained_aus for result in (alone, both)]
    assert untrained == [("AU25",), ()]
    assert both.steps > alone.steps
    assert set(read_scores(both.scores["val"])["track"]) == {"2"}


def test_a_second_data_set_of_other_encoders_is_refused(
    folders: tuple[Path, Path], disfa: tuple[Path, Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(disfa[1], cache)
    header = cache / "SN002" / "header.json"
    header.write_text(header.read_text().replace("0" * 16, "1" * 16))
    data = more((disfa[0], cache), "fold1", "fold2")
    with pytest.raises(InputError, match="SN002 come from other encoders"):
        train(make_config(folders, tmp_path / "run", data=data))


def test_shuffled_labels_stay_in_their_data_set(
    folders: tuple[Path, Path], disfa: tuple[Path, Path], tmp_path: Path
) -> None:
    data = {**more(disfa, "fold1"), "shuffle_labels": True}
    trainer = Trainer(make_config(folders, tmp_path, data=data), print)
    labels = trainer.data.training[-1].labels
    assert (labels[:, AFFWILD2_AUS.index("AU01")] >= 0).any()
    assert (labels[:, AFFWILD2_AUS.index("AU02")] == -1).all()


def test_a_run_starts_from_the_weights_of_another(
    folders: tuple[Path, Path], disfa: tuple[Path, Path], tmp_path: Path
) -> None:
    """With a rate of almost 0, the weights after training are those of the first run."""
    first = make_config(disfa, tmp_path / "first", data={"train": ["fold1"], "validate_on": ["fold2"]})
    train(first)
    AcceleratorState._reset_state(reset_partial_state=True)
    model = {**MODEL, "start_from": str(tmp_path / "first")}
    optimizer = {"rate": 1e-12, "weight_decay": 0, "average": 0}
    train(make_config(folders, tmp_path / "second", model=model, optimizer=optimizer))
    one, other = (load_file(tmp_path / path / "model.safetensors") for path in ("first/best", "second/last"))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-7) for name in one)


def test_a_start_of_another_size_names_the_first_weight_that_differs(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    train(make_config(folders, tmp_path / "first", loop={"epochs": 1}))
    AcceleratorState._reset_state(reset_partial_state=True)
    model = {**MODEL, "temporal": {"blocks": 2, "head_width": 8, "state_width": 4}}
    model["start_from"] = str(tmp_path / "first")
    with pytest.raises(InputError, match=r"temporal\.memory\.blocks\.1\..* is absent there and \("):
        train(make_config(folders, tmp_path / "second", model=model))
    AcceleratorState._reset_state(reset_partial_state=True)
    model["start_from"] = str(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="nothing does not contain a network"):
        train(make_config(folders, tmp_path / "third", model=model))
