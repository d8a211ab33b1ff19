"""Test `auscan export-results` and `auscan agree`: a result is exported and compared with its exports."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pympi
import pytest

from auscan.cli.main import main
from auscan.core.aus import AFFWILD2_AUS
from auscan.results.exports.write import FORMATS
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

Run = Callable[..., tuple[int, str, str]]
THRESHOLDS = (0.5,) * 12


@pytest.fixture
def auscan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """results/talk: a result of 60 s of talk.mp4 as written by `auscan detect`; AU23 is untrained."""
    count = 1500
    angle = np.arange(count)[:, None] / 25 * np.linspace(1, 4, 12) + np.arange(12)
    probabilities = (0.5 + 0.5 * np.sin(angle)).astype(np.float32)
    probabilities[:, AFFWILD2_AUS.index("AU23")] = np.nan
    track = TrackScores(
        face_id=0,
        frames=np.arange(count),
        boxes=np.ones((count, 4), np.float32),
        points=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        quality_features=np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (count, 1)),
        probabilities=probabilities,
    )
    info = RunInfo(
        source="talk.mp4",
        duration_s=60.0,
        frames=count,
        has_audio=False,
        seconds=1.0,
        model="tiny",
        thresholds=THRESHOLDS,
        untrained_aus=("AU23",),
        command="auscan detect films/talk.mp4",
        versions={"auscan": "0.1.0"},
    )
    result = Result(build_table(np.arange(count) / 25, [track], THRESHOLDS), (track,), info)
    result.save(tmp_path / "results" / "talk")
    line = {"path": str(tmp_path / "films" / "talk.mp4"), "folder": "talk"}
    (tmp_path / "results" / "manifest.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "talk.mp4").touch()
    return tmp_path / "results" / "talk"


def test_every_format_is_written_and_its_files_are_printed(auscan: Run, folder: Path, tmp_path: Path) -> None:
    arguments = [word for name in FORMATS for word in ("--to", name)]
    code, out, err = auscan("export-results", folder, *arguments, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    files = [Path(line) for line in out.splitlines()]
    assert sorted(file.name for file in files) == [
        *("talk.jsonl", "talk_auscan.TextGrid", "talk_auscan.eaf", "talk_events.json", "talk_events.tsv"),
        *("talk_openface.csv", "talk_pyfeat.csv", "talk_wide.csv", "talk_wide_labels.csv"),
    ]
    assert all(file.parent == tmp_path / "out" and file.stat().st_size for file in files)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)


@pytest.mark.parametrize("name", ["", "aus.parquet", "aus.csv"])
def test_files_are_written_beside_the_result_and_link_to_the_video_of_the_manifest(
    auscan: Run, folder: Path, name: str
) -> None:
    code, out, _ = auscan("export-results", folder / name, "--to", "elan")
    assert (code, out) == (0, f"{folder / 'talk_auscan.eaf'}\n")
    (link,) = pympi.Eaf(str(folder / "talk_auscan.eaf")).get_linked_files()
    assert link["RELATIVE_MEDIA_URL"] == "../../films/talk.mp4"


def test_an_unknown_format_or_a_missing_result_is_refused_in_one_line(
    auscan: Run, folder: Path, tmp_path: Path
) -> None:
    code, out, err = auscan("export-results", folder, "--to", "jsonl", "--to", "spss")
    assert (code, out) == (2, "")
    assert "'spss' is not an export format. Use one of openface, pyfeat, elan" in err
    assert not (folder / "talk.jsonl").exists()
    code, out, err = auscan("export-results", tmp_path, "--to", "elan")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "is not a result" in err


def test_a_result_agrees_with_its_own_exports(auscan: Run, folder: Path, tmp_path: Path) -> None:
    auscan("export-results", folder, "--to", "elan", "--to", "openface", "--to", "pyfeat")
    for name, aus in {"talk_openface.csv": 10, "talk_pyfeat.csv": 11}.items():
        code, out, err = auscan("agree", folder, folder / name, "--json")
        assert (code, err) == (0, "")
        frame = pd.DataFrame(json.loads(out)["figures"]).query("level == 'frame' and AU != 'mean'")
        assert len(frame) == aus
        assert (frame["kappa"] == 1).all()
    code, out, _ = auscan("agree", folder, folder / "talk_auscan.eaf", "--json")
    table = pd.DataFrame(json.loads(out)["figures"])
    # Against events, the frames of a result are those of its events.
    assert (table[["kappa", "f1"]] == 1).all(axis=None)


def test_agree_prints_a_table_and_writes_a_csv_and_a_figure(
    auscan: Run, folder: Path, tmp_path: Path
) -> None:
    auscan("export-results", folder, "--to", "elan")
    code, out, err = auscan("agree", folder, folder / "talk_auscan.eaf", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert all(word in out for word in ("Frames", "Events", "AU12", "mean", "kappa", "12 blocks of 5 s"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["agreement.csv", "agreement.svg"]
    table = pd.read_csv(tmp_path / "out" / "agreement.csv")
    assert table["level"].tolist() == ["frame"] * 12 + ["event"] * 12
    assert (table["kappa_low"] <= table["kappa"]).all()


def test_agree_refuses_a_missing_file_and_a_missing_face(auscan: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = auscan("agree", folder, tmp_path / "none.eaf")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "does not exist" in err
    code, _, err = auscan("agree", folder, folder, "--face-b", 3)
    assert code == 2
    assert "talk has no face 3. Its faces: 0." in err
