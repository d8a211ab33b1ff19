"""`auscan detect` on one file of each kind of fault ends in a result or in a one-line error."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .corpus import KINDS, LARGE, make_corpus

NUMBERS = [number for number, kind in enumerate(KINDS) if kind not in LARGE]
READABLE = {
    *("whole", "1x1", "thin", "sizes-change", "sound-nan", "sound-clipped", "ten-hours"),
    *("clock-steps", "pause"),
}
"""Unusual but valid kinds, which must have a result."""
UNREADABLE = {"empty", "text", "only-noise", "directory", "link", "pipe", "playlist", "no-frames", "bomb"}
"""Kinds that cannot have a result."""
LIMIT_S = 240
"""Timeout of the run."""

DETECT = """
import faulthandler; faulthandler.enable()
from auscan.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Run `auscan detect` on the corpus; return the process, the manifest records by kind and the folder."""
    folder = tmp_path_factory.mktemp("faults")
    faults = make_corpus(folder / "in", NUMBERS)
    paths = [str(folder / "in" / fault.file) for fault in faults]
    done = subprocess.run(
        [sys.executable, "-c", DETECT, "detect", *paths, "--out", str(folder / "out"), "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    lines = (folder / "out" / "manifest.jsonl").read_text("utf-8").splitlines()
    by_file = {Path(entry["path"]).name: entry for entry in map(json.loads, lines)}
    assert len(lines) == len(by_file) == len(faults)
    return {
        "done": done,
        "entries": {fault.kind: by_file[fault.file] for fault in faults},
        "folder": folder,
    }


def test_the_run_ends_without_a_traceback(run: Mapping[str, Any]) -> None:
    assert run["done"].returncode == 2, run["done"].stderr[-2000:]
    assert "Traceback" not in run["done"].stderr
    assert "Fatal Python error" not in run["done"].stderr


@pytest.mark.parametrize("kind", [KINDS[number] for number in NUMBERS])
def test_a_file_ends_in_a_result_or_in_a_one_line_error(run: Mapping[str, Any], kind: str) -> None:
    entry = run["entries"][kind]
    if entry["status"] == "done":
        assert entry["rows"] > 0
        assert (run["folder"] / "out" / entry["folder"] / "aus.parquet").is_file()
    else:
        assert "\n" not in entry["error"]
        assert "unexpected error" not in entry["error"]
        assert Path(entry["path"]).name in entry["error"]
    if kind in READABLE:
        assert entry["status"] == "done", entry["error"]
    if kind in UNREADABLE:
        assert entry["status"] == "failed"


@pytest.mark.parametrize(
    ("kind", "sentence"), [("clock-steps", "the clock steps back"), ("pause", "a pause without frames")]
)
def test_a_repaired_clock_is_a_warning_of_the_manifest_and_on_stderr(
    run: Mapping[str, Any], kind: str, sentence: str
) -> None:
    (warning,) = run["entries"][kind]["warnings"]
    assert sentence in warning
    assert f"auscan: {warning}" in run["done"].stderr


def test_no_incomplete_file_is_left(run: Mapping[str, Any]) -> None:
    assert not [path for path in (run["folder"] / "out").rglob("*") if ".part" in path.name]


def test_a_corpus_is_the_same_on_every_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_corpus(tmp_path / name, NUMBERS[::4], seed=3)
    for path in (tmp_path / "one").iterdir():
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
