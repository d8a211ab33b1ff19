"""Settings of a training run: unknown, missing and invalid settings are named in the error."""

from pathlib import Path

import pytest

from auscan.core.config import TemporalConfig, base
from auscan.core.errors import InputError
from auscan.training.config import TrainConfig, check_train_config, read_train_config

LEAST = {"out": "run", "data": {"index": "index", "cache": "cache"}}


def test_out_index_and_cache_are_enough() -> None:
    config = check_train_config(LEAST, "settings")
    assert (config.data.length, config.data.stride) == (300, 200)
    assert config.model.network() == base()


@pytest.mark.parametrize(
    ("content", "nearest"),
    [
        ({**LEAST, "sead": 1}, "no setting sead. Did you mean seed?"),
        ({**LEAST, "loop": {"epoch": 3}}, "no setting loop.epoch. Did you mean loop.epochs?"),
        ({**LEAST, "loss": {"softf1": 1}}, "no setting loss.softf1. Did you mean loss.soft_f1?"),
        (
            {**LEAST, "model": {"controls": {"temporl": "tcn"}}},
            "no setting model.controls.temporl. Did you mean model.controls.temporal?",
        ),
        ({**LEAST, "epochs": 3}, "no setting epochs. The nearest is loop.epochs."),
        ({**LEAST, "model": {"temporal": {"blcks": 1}}}, "Did you mean model.temporal.blocks?"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(content: dict[str, object], nearest: str) -> None:
    with pytest.raises(InputError, match=nearest.replace("?", r"\?")):
        check_train_config(content, "settings")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"out": "run"}, "data: Field required"),
        ({**LEAST, "model": {"controls": {"fusion": "late"}}}, "model.controls.fusion: .*'concat'"),
        ({**LEAST, "dropout": {"no_sound": 1.5}}, "dropout.no_sound"),
        (
            {**LEAST, "data": {**LEAST["data"], "folds": {"count": 3, "held_out": 3}}},
            "folds are numbered 0 to 2",
        ),
    ],
)
def test_an_invalid_or_missing_setting_is_named(content: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_train_config(content, "settings")


def test_a_given_part_replaces_that_of_the_size() -> None:
    content = {**LEAST, "model": {"size": "large", "temporal": {"blocks": 1}}}
    network = check_train_config(content, "settings").model.network()
    assert network.temporal == TemporalConfig(blocks=1)
    assert network.alignment.width == 384


def test_yaml_is_read_and_broken_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("out: run\ndata: {index: a, cache: b, length: null}\nloop: {precision: bf16}\n")
    config = read_train_config(file)
    assert isinstance(config, TrainConfig)
    assert config.data.length is None
    for broken in ("data: [", "just words", ""):
        file.write_text(broken)
        with pytest.raises(InputError, match=r"run\.yaml"):
            read_train_config(file)
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_train_config(tmp_path / "nowhere.yaml")


def test_the_example_in_the_docs_is_valid(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "training.md"
    example = docs.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0]
    (tmp_path / "run.yaml").write_text(example)
    assert read_train_config(tmp_path / "run.yaml").data.score == ("test",)
