"""The shipped model runs without the extra [train]; commands that need the extra say so in one line."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core.environment import TRAIN_MODULES
from auscan.results.table import read_result_table

BASE_INSTALL = f"""
import importlib.util, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(TRAIN_MODULES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {sorted(TRAIN_MODULES)} else found(name, *rest)
from auscan.cli.main import main
main()
"""
"""The command line with the packages of the extra hidden."""


def auscan(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BASE_INSTALL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_shipped_model_runs_without_the_extra(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    picture = tmp_path / "astronaut.png"
    assert cv2.imwrite(str(picture), portrait[..., ::-1])
    done = auscan(
        "detect", picture, "--out", tmp_path / "out", "--threads", 1, "--report", "--overlay", "--evidence"
    )
    assert done.returncode == 0, done.stderr
    table = read_result_table(tmp_path / "out" / "astronaut" / "aus.parquet")
    assert table.loc[0, ["AU12_c", "AU25_c", "AU15_c"]].tolist() == [1, 1, 0]
    why = tmp_path / "why.png"
    done = auscan("explain", picture, tmp_path / "out" / "astronaut", "--frame", 0, "--out", why)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(why)) is not None
    folder, formats = (
        tmp_path / "out" / "astronaut",
        ("openface", "elan", "textgrid", "bids", "wide", "jsonl"),
    )
    done = auscan("export-results", folder, *(word for name in formats for word in ("--to", name)))
    assert done.returncode == 0, done.stderr
    done = auscan("agree", folder, folder / "astronaut_openface.csv", "--out", tmp_path / "agreement")
    assert done.returncode == 0, done.stderr


def test_the_doctor_needs_no_pytorch() -> None:
    done = auscan("doctor", "--json")
    assert done.returncode == 0, done.stderr
    (cuda,) = [each for each in json.loads(done.stdout)["findings"] if each["name"] == "cuda"]
    assert (cuda["state"], cuda["found"]) == ("absent", "")
    assert cuda["advice"].endswith("pip install 'auscan[train]'")


@pytest.mark.parametrize(
    "words",
    [
        ("detect", "video.mp4", "--out", "out", "--model", "base"),
        ("detect", "video.mp4", "--out", "out", "--model", "{checkpoint}"),
        ("detect", "video.mp4", "--out", "out", "--backend", "torch"),
        ("detect", "video.mp4", "--out", "out", "--device", "cuda:0"),
        ("export", "nano", "--out", "out"),
        ("extract", "index", "--out", "out"),
        ("train", "config.yaml"),
        ("crossval", "config.yaml"),
    ],
    ids=" ".join,
)
def test_a_command_that_needs_the_extra_says_so_in_one_line(
    tiny_checkpoint: Path, words: tuple[str, ...]
) -> None:
    done = auscan(*(word.format(checkpoint=tiny_checkpoint) for word in words))
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'auscan[train]'" in done.stderr


def test_a_model_on_the_hub_needs_an_extra_and_says_so_in_one_line() -> None:
    done = auscan("detect", "video.mp4", "--out", "out", "--model", "lab/model")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("auscan: lab/model is neither a shipped model nor a folder.")
    assert line.endswith("pip install 'auscan[hub]'")
