"""Test `auscan train` and `auscan crossval` on a small network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.core.errors import InputError

SETTINGS = """
out: {out}
data: {{index: {index}, cache: {cache}, length: 30}}
model:
  size: nano
  alignment: {{width: 16, au_width: 4, heads: 2}}
  fusion: {{heads: 2}}
  temporal: {{blocks: 1, head_width: 8, state_width: 4}}
loop: {{epochs: 1, device: cpu}}
"""


def test_train_prints_weights_score_and_folders(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    index, cache = make_features(tmp_path / "data")
    file = tmp_path / "run.yaml"
    file.write_text(SETTINGS.format(out=tmp_path / "run", index=index, cache=cache))
    result = CliRunner().invoke(app, ["train", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "total" in result.stdout
    assert "epoch 1 of 1: mean F1" in result.stdout
    assert f"scores of val: {tmp_path / 'run' / 'scores' / 'val.parquet'}" in result.stdout
    assert (tmp_path / "run" / "scores" / "val.parquet").exists()


def test_a_misspelt_setting_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(SETTINGS.format(out="run", index="i", cache="c").replace("epochs", "epoch"))
    with pytest.raises(InputError, match=r"loop\.epoch\. Did you mean loop\.epochs"):
        CliRunner().invoke(app, ["train", str(file)], catch_exceptions=False)


def test_crossval_writes_out_of_fold_scores(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    index, cache = make_features(tmp_path / "data")
    file = tmp_path / "run.yaml"
    file.write_text(SETTINGS.format(out=tmp_path / "run", index=index, cache=cache))
    result = CliRunner().invoke(app, ["crossval", str(file), "--folds", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "mean F1 of the folds: 0." in result.stdout
    assert f"scores of oof: {tmp_path / 'run' / 'scores' / 'oof.parquet'}" in result.stdout
    assert (tmp_path / "run" / "fold1" / "best" / "model.safetensors").exists()
