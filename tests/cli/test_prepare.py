"""Test `auscan prepare`: index, report, options, errors."""

from pathlib import Path

import pytest

from auscan.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command and return its exit code."""
    monkeypatch.setattr("sys.argv", ["auscan", "prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("Train_Set", "Validation_Set"):
        folder = tmp_path / "data" / "5th_ABAW_Annotations" / "AU_Detection_Challenge" / split
        folder.mkdir(parents=True)
        (folder / f"video{len(split)}.txt").write_text("AU1\n" + ",".join("0" * 12) + "\n")
    return tmp_path / "data"


def test_an_index_and_its_report_are_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, root, "--out", tmp_path / "index") == 0
    stdout = capsys.readouterr().out
    assert "train: 1 tracks, 1 rows, 1 with all labels, 1 without a picture" in stdout
    assert f"2 tracks with warnings, 0 unused items: see {tmp_path / 'index' / 'report.md'}" in stdout
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names == {"frames.parquet", "tracks.parquet", "report.md", "report.json"}


def test_parts_of_the_data_set_in_other_folders_are_given_by_options(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crops" / "video9").mkdir(parents=True)
    (tmp_path / "crops" / "video9" / "00001.jpg").write_bytes(b"x")
    assert run(monkeypatch, root, "--out", tmp_path / "index", "--images", tmp_path / "crops") == 0
    assert '"rows_without_image": 0' in (tmp_path / "index" / "report.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "fera"], "'fera' is not a supported data set"),
        (["--annotations", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_an_input_error_is_one_line_and_exit_code_2(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, root, "--out", tmp_path / "index", *arguments) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1
