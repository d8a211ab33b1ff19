"""Test that `auscan evaluate` works on the index of every supported data set."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auscan.cli.main import main
from auscan.datasets.index import read_index

FRAMES = range(1, 9)
Write = Callable[[Path], list[str]]


def disfa(root: Path) -> list[str]:
    """Write two people in the layout of DISFA; return the labelled AUs."""
    for person in ("SN001", "SN002"):
        folder = root / "ActionUnit_Labels" / person
        folder.mkdir(parents=True)
        for au in (1, 2, 4, 6, 12, 15, 25, 26):
            lines = [f"{frame},{frame % 5}" for frame in FRAMES]
            (folder / f"{person}_au{au}.txt").write_text("\n".join(lines))
    return ["AU01", "AU02", "AU04", "AU06", "AU12", "AU15", "AU25", "AU26"]


def bp4d(root: Path) -> list[str]:
    """Write two people in the layout of BP4D; return the labelled AUs."""
    folder = root / "AUCoding" / "AU_OCC"
    folder.mkdir(parents=True)
    for person in ("F001", "M001"):
        lines = [",".join([str(2000 + frame), *[str(frame % 2)] * 12]) for frame in FRAMES]
        head = "0,1,2,4,6,7,10,12,14,15,17,23,24"
        (folder / f"{person}_T1.csv").write_text("\n".join([head, *lines, "2100" + ",9" * 12]))
    return [f"AU{int(number):02d}" for number in head.split(",")[1:]]


def openface(root: Path) -> list[str]:
    """Write two OpenFace CSV files; return the labelled AUs."""
    root.mkdir()
    for name in ("one", "two"):
        lines = [f"{frame}, 0, {frame / 25}, 0.9, {frame % 3 and 1}, {frame % 2}, 1.0" for frame in FRAMES]
        head = "frame, face_id, timestamp, confidence, success, AU01_c, AU25_c"
        (root / f"{name}.csv").write_text("\n".join([head, *lines]))
    return ["AU01", "AU25"]


@pytest.mark.parametrize("write", [disfa, bp4d, openface])
def test_labels_evaluated_against_themselves_have_a_perfect_f1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    coded = write(tmp_path / "data")
    index = tmp_path / "index"
    monkeypatch.setattr("sys.argv", ["auscan", "prepare", str(tmp_path / "data"), "--out", str(index)])
    with pytest.raises(SystemExit):
        main()
    read = read_index(index)
    labels = read.frames[list(read.au_names)]
    scores = read.frames[["track", "frame"]].assign(has_face=True, **labels.clip(0).astype(float))
    scores.astype({"track": str}).to_parquet(tmp_path / "scores.parquet")
    capsys.readouterr()
    arguments = ["evaluate", str(index), str(tmp_path / "scores.parquet"), "--split", "all", "--json"]
    monkeypatch.setattr("sys.argv", ["auscan", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    content = json.loads(capsys.readouterr().out)
    f1 = content["at_default"]["f1_all"]["f1"]
    assert {au for au, value in f1.items() if value is not None} == set(coded)
    assert content["at_default"]["f1_all"]["mean"] == 1.0
    assert content["sources"] == 2
