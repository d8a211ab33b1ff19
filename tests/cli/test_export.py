"""Test `auscan export` (ONNX graphs) and `auscan pack` (checkpoint of a training run)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from auscan.cli.main import app, main
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import read_config
from auscan.core.errors import InputError
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.index import Track, open_index_writer
from auscan.training.smoothing import Smoothing
from auscan.training.thresholds import Decision


@pytest.fixture
def auscan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.parametrize("given", [False, True])
def test_the_checkpoint_is_exported_and_its_difference_reported(
    auscan: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """With given crops, or with those of the demo."""
    asked: list[Any] = []

    def export(*args: Any) -> dict[str, Any]:
        asked.extend(args)
        return {
            "bytes": {"visual.onnx": 1_500_000},
            "differences": {"real": {"logits": 1.23e-5, "mean_probability": 0.5}},
        }

    monkeypatch.setattr("auscan.inference.export.export", export)
    crops = np.full((4, 112, 112, 3), 7, np.uint8)
    np.save(tmp_path / "crops.npy", crops)
    options = ["--crops", tmp_path / "crops.npy", "--int8"] if given else []
    code, stdout, _ = auscan("export", "nano", "--out", tmp_path / "out", *options)
    assert code == 0
    assert asked[0] == "nano"
    assert asked[3] is given
    assert asked[2].shape[1:] == (112, 112, 3)
    assert (asked[2].shape == crops.shape and (asked[2] == 7).all()) == given
    assert "1 graphs, 1.5 MB" in stdout
    assert "1.2e-05" in stdout


def test_int8_without_faces_is_refused(auscan: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, stdout = auscan("export", "nano", "--out", tmp_path, "--int8")
    assert code == 2
    assert "--crops" in stdout


def test_crops_that_are_not_an_array_are_refused(
    auscan: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "crops.npy").write_text("no array")
    code, _, stdout = auscan("export", "nano", "--out", tmp_path, "--crops", tmp_path / "crops.npy")
    assert code == 2
    assert "is not a readable NumPy array" in stdout


SETTINGS = """
out: {folder}/run
data: {{index: {folder}/index, cache: {folder}/cache, train: [train], validate_on: [train], length: 3}}
model:
  size: nano
  alignment: {{width: 16, au_width: 4, heads: 2}}
  fusion: {{heads: 2}}
  temporal: {{blocks: 1, head_width: 8, state_width: 4}}
  encoder: {{start: {start}}}
loop: {{epochs: 1, device: cpu}}
"""


def invoke(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).output


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The folder of a run on four pictures."""
    AcceleratorState._reset_state(reset_partial_state=True)
    for number in range(4):
        picture = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    with open_index_writer(tmp_path / "index", {"root": str(tmp_path)}) as writer:
        writer.add(
            Track(
                name="a",
                split="train",
                source_video="a",
                numbers=np.arange(1, 5),
                labels=np.repeat([[0], [1], [0], [1]], 12, axis=1).astype(np.int8),
                images=[f"{number}.png" for number in range(4)],
                times_s=np.arange(4) / 30,
                clock=FrameClock(times_s=np.empty(0), rate_hz=30.0, source=ASSUMED),
            )
        )
    invoke("extract", f"{tmp_path}/index", "--model", str(tiny_checkpoint), "--out", f"{tmp_path}/cache")
    (tmp_path / "run.yaml").write_text(SETTINGS.format(folder=tmp_path, start=tiny_checkpoint))
    invoke("train", f"{tmp_path}/run.yaml")
    return tmp_path / "run"


def test_a_run_becomes_a_checkpoint_with_its_thresholds(run: Path, tmp_path: Path) -> None:
    Decision(AFFWILD2_AUS, (0.4,) * 12, (Smoothing(7),) * 12).save(tmp_path / "thresholds.json")
    arguments = ["pack", str(run), "--out", f"{tmp_path}/mine", "--thresholds", f"{tmp_path}/thresholds.json"]
    output = invoke(*arguments)
    assert f"auscan detect --model {tmp_path / 'mine'}" in output
    assert "tuned on smoothed scores" in output
    config = read_config(tmp_path / "mine")
    assert config.name == "mine"
    assert set(config.thresholds) == {0.4}
    assert (tmp_path / "mine" / "README.md").read_text().startswith("# mine\n")


def test_extract_takes_the_encoder_of_a_run(run: Path, tmp_path: Path) -> None:
    output = invoke("extract", f"{tmp_path}/index", "--model", str(run), "--out", f"{tmp_path}/cache")
    assert "Remaining: 1 tracks" in output, "the cache was made with another encoder"


def test_a_folder_that_is_not_a_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not contain a network written by auscan train"):
        invoke("pack", str(tmp_path), "--out", f"{tmp_path}/mine")
