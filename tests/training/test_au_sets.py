"""A run trains the AUs of its data: other names, another number and another order than Aff-Wild2's twelve."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch
from accelerate.state import AcceleratorState

from auscan.core.aus import AFFWILD2_AUS, au_columns
from auscan.core.errors import InputError
from auscan.datasets.index import METADATA_KEY, read_index
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.evaluation import evaluate
from auscan.training.loop import Trainer, train
from auscan.training.run import TrainedConfig, find_trained, load_trained
from auscan.training.scores import read_labels, read_scores
from auscan.training.tracks import load_tracks

FIVE = {"AU45": "AU07", "AU01": "AU01", "AU14": "AU10", "AU25": "AU25", "AU12": "AU12"}
"""AUs of the small set, each with the AU of Aff-Wild2 whose labels it has here."""
MakeFeatures = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(make_features: MakeFeatures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def five(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same features with an index of five AUs."""
    index = tmp_path_factory.mktemp("five")
    shutil.copytree(folders[0], index, dirs_exist_ok=True)
    for name in ("frames.parquet", "tracks.parquet"):
        with pq.ParquetFile(index / name) as file:
            table, footer = file.read(), json.loads(file.metadata.metadata[METADATA_KEY])
        if name == "frames.parquet":
            labels = {au: table[source] for au, source in FIVE.items()}
            table = table.drop_columns(list(AFFWILD2_AUS))
            for au, column in labels.items():
                table = table.append_column(au, column)
        footer = json.dumps({**footer, "au_names": list(FIVE)})
        with pq.ParquetWriter(index / name, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({METADATA_KEY: footer.encode()})
    return index, folders[1]


def make_config(folders: tuple[Path, Path], out: Path, **data: Any) -> TrainConfig:
    index, cache = map(str, folders)
    content = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 30, **data},
        "model": {
            "size": "nano",
            "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
            "fusion": {"heads": 2},
            "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
        },
        "loop": {"epochs": 2, "batch": 3, "device": "cpu", "log_every": 1},
    }
    return check_train_config(content, "settings")


def test_a_run_trains_scores_and_evaluates_the_aus_of_its_index(
    five: tuple[Path, Path], tmp_path: Path
) -> None:
    outcome = train(make_config(five, tmp_path / "run"))
    network, config = load_trained(tmp_path / "run" / "best")
    assert config.au_names == config.network.au_names == network.au_names == tuple(FIVE)
    scores = read_scores(outcome.scores["val"])
    assert au_columns(scores.columns) == tuple(FIVE)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [name for name in validations[0] if name.startswith("AU")] == list(FIVE)
    evaluation = evaluate(read_labels(five[0], "val"), scores)
    assert (evaluation.au_names, evaluation.not_scored) == (tuple(FIVE), ())
    best = max(validations, key=lambda line: line["mean_f1"])
    assert evaluation.to_dict()["at_default"]["f1_all"]["f1"] == {name: best[name] for name in FIVE}


def test_the_labels_of_a_further_data_set_are_matched_by_name(
    folders: tuple[Path, Path], five: tuple[Path, Path], tmp_path: Path
) -> None:
    """By position, AU01 would have the labels of the AU in the first column, AU45."""
    more = [{"index": str(folders[0]), "cache": str(folders[1]), "train": ["train"]}]
    reported: list[str] = []
    trainer = Trainer(make_config(five, tmp_path, more=more), reported.append)
    labels = trainer.data.training[len(trainer.data.training) // 2].labels
    track = load_tracks(read_index(folders[0]), folders[1], ["train"])[0]
    for j, name in enumerate(FIVE):
        known = name in AFFWILD2_AUS
        expected = track.labels[:, AFFWILD2_AUS.index(name)] if known else np.full(len(track.labels), -1)
        np.testing.assert_array_equal(labels[:, j], expected)
    assert any("labels of AU01, AU25, AU12; not trained: AU02," in line for line in reported)


def test_listed_aus_replace_those_of_the_index(
    folders: tuple[Path, Path], five: tuple[Path, Path], tmp_path: Path
) -> None:
    more = [{"index": str(folders[0]), "cache": str(folders[1]), "train": ["train"]}]
    chosen = ("AU26", "AU45", "AU01")
    trainer = Trainer(make_config(five, tmp_path / "run", more=more, au_names=chosen), print)
    assert trainer.trained_config.au_names == chosen
    assert (trainer.data.validation[0].labels[:, 0] == -1).all(), "AU26 is in the further data set alone"
    assert trainer.data.untrained_aus == ()
    with pytest.raises(InputError, match=r"no index of this run has AU43\. They have AU01"):
        Trainer(make_config(five, tmp_path / "other", au_names=("AU01", "AU43")), print)
    with pytest.raises(InputError, match=r"data\.au_names.*Write AU04 in place of 'au4'"):
        make_config(five, tmp_path, au_names=("au4",))


def test_a_start_with_other_aus_is_refused(
    folders: tuple[Path, Path], five: tuple[Path, Path], tmp_path: Path
) -> None:
    train(make_config(five, tmp_path / "first"))
    AcceleratorState._reset_state(reset_partial_state=True)
    config = make_config(folders, tmp_path / "second")
    model = config.model.model_copy(update={"start_from": tmp_path / "first"})
    with pytest.raises(InputError, match="has the AUs AU45, AU01"):
        train(config.model_copy(update={"model": model}))


def test_a_run_stored_before_au_sets_has_the_twelve(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(make_config(folders, tmp_path / "run"))
    trained = find_trained(tmp_path / "run")
    assert trained is not None
    content = json.loads((trained / "config.json").read_text())
    assert content.pop("au_names") == list(AFFWILD2_AUS)
    assert "au_names" not in content["network"]
    config = TrainedConfig.model_validate_json(json.dumps(content))
    assert config.au_names == config.network.au_names == AFFWILD2_AUS
