"""`auscan export`: crops in, a folder out; what does not fit is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscan.cli.main import main


@pytest.fixture
def auscan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


@pytest.mark.parametrize("given", [False, True])
def test_the_checkpoint_is_exported_and_its_distance_told(
    auscan: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """With crops of one's own, or with those of the astronaut."""
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
    code, said, _ = auscan("export", "nano", "--out", tmp_path / "out", *options)
    assert code == 0
    assert asked[0] == "nano"
    assert asked[3] is given
    assert asked[2].shape[1:] == (112, 112, 3)
    assert (asked[2].shape == crops.shape and (asked[2] == 7).all()) == given
    assert "1 graphs, 1.5 MB" in said
    assert "1.2e-05" in said


def test_int8_without_faces_is_refused(auscan: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, said = auscan("export", "nano", "--out", tmp_path, "--int8")
    assert code == 2
    assert "--crops" in said


def test_crops_that_are_no_array_are_refused(
    auscan: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "crops.npy").write_text("no array")
    code, _, said = auscan("export", "nano", "--out", tmp_path, "--crops", tmp_path / "crops.npy")
    assert code == 2
    assert "holds no array" in said
