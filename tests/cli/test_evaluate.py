"""Test `auscan evaluate`, `ensemble`, `submit` and `check-submission`: from scores to a submission."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscan.cli.main import main
from auscan.core.aus import AFFWILD2_AUS

TRACKS = {"v1_left": 30, "v1_right": 20, "v2": 40}
HEADER = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "140")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def write_scores(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    rows = sum(TRACKS.values())
    values = (TRUTH * 0.4 + 0.6 * random.random((rows, 12))).astype(np.float32)
    values[5] = np.nan
    table = pd.DataFrame(values, columns=list(AFFWILD2_AUS))
    table["track"] = np.repeat(list(TRACKS), list(TRACKS.values()))
    table["frame"] = np.concatenate([np.arange(1, count + 1) for count in TRACKS.values()])
    table["has_face"] = ~np.isnan(values[:, 0])
    table.to_parquet(path)
    return path


TRUTH = (np.random.default_rng(9).random((sum(TRACKS.values()), 12)) < 0.4).astype(np.int8)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "scores.parquet", seed=0)


@pytest.fixture
def index(tmp_path: Path, scores: Path) -> Path:
    """The columns of an index that evaluation needs, with the types of datasets/index.py."""
    rows = pd.read_parquet(scores)[["track", "frame"]]
    table = pd.DataFrame(TRUTH, columns=list(AFFWILD2_AUS))
    table["track"] = rows["track"].astype("category")
    table["frame"] = rows["frame"].astype(np.int32)
    table["split"] = pd.Categorical(["val"] * len(rows))
    table["source_video"] = rows["track"].str.partition("_")[0].astype("category")
    table.loc[7, "AU10"] = -1
    folder = tmp_path / "index"
    folder.mkdir()
    table.to_parquet(folder / "frames.parquet")
    return folder


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.txt"
    rows = [f"{track}/{n:05d}.jpg," for track, count in TRACKS.items() for n in range(1, count + 1)]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_the_notes_state_the_evaluated_frames_and_that_tuned_scores_are_optimistic(
    index: Path, scores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "evaluate", index, scores) == 0
    stdout = capsys.readouterr().out
    assert all(name in stdout for name in (*AFFWILD2_AUS, "f1_all", "f1_faces", "kappa"))
    assert "89 of 90 frames are evaluated: 3 tracks, 2 source videos. 1 frames without a face" in stdout
    assert "tuned on the evaluated frames" in stdout
    assert "tuned on the other videos, f1_all is" in stdout
    assert "ECE" in stdout
    assert "expected calibration error is" in stdout
    assert "after calibration on the other videos" in stdout
    assert max(map(len, stdout.splitlines())) <= 140


def test_the_table_keeps_au_names_and_row_labels_at_80_columns_and_in_a_pipe(
    index: Path, scores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table was once a few columns too wide, so its first column had no room and was dropped."""
    for columns in ("80", "40"):
        monkeypatch.setattr("sys.argv", ["auscan", "evaluate", str(index), str(scores)])
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(SystemExit):
            main()
        decisions, ranking = (part.splitlines() for part in capsys.readouterr().out.split("\n\n")[:2])
        for table, cells, header, means in (
            (decisions, 9, "pos.", ["f1_all", "f1_faces"]),
            (ranking, 6, "AUC", []),
        ):
            first = [line.split()[0] for line in table if not line.startswith("-")]
            assert first == [header, *AFFWILD2_AUS, *means]
            assert max(map(len, table)) <= 80
            assert all(len(line.split()) == cells for line in table[2:14]), "no cell is left out"


def test_saved_thresholds_reproduce_the_same_numbers(
    index: Path,
    scores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = tmp_path / "thresholds.json"
    arguments = ("evaluate", index, scores, "--json")
    assert run(monkeypatch, *arguments, "--smooth", "3,AU23=1", "--save-thresholds", kept) == 0
    tuned = json.loads(capsys.readouterr().out)
    assert run(monkeypatch, *arguments, "--thresholds", kept, "--out", tmp_path / "report") == 0
    given = json.loads(capsys.readouterr().out)
    assert tuned["smooth"] == given["smooth"] == dict.fromkeys(AFFWILD2_AUS, 3) | {"AU23": 1}
    assert tuned["at_tuned"] == given["at_tuned"]
    assert tuned["calibration_error"] == given["calibration_error"]
    assert (tuned["calibrated_error"] is None, given["calibrated_error"] is None) == (False, True)
    assert set(json.loads(kept.read_text())) == {"thresholds", "smooth", "calibration", "operating_points"}
    assert (tuned["tuned_here"], given["tuned_here"]) == (True, False)
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == given
    assert (tmp_path / "report" / "evaluation.html").exists()


def test_the_smoothing_that_was_searched_is_printed_and_saved(
    index: Path,
    scores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.read_parquet(scores)
    table.assign(time_s=table["frame"] / 30).to_parquet(scores)
    kept = tmp_path / "thresholds.json"
    arguments = ("evaluate", index, scores, "--smooth", "search")
    assert run(monkeypatch, *arguments, "--save-thresholds", kept) == 0
    stdout = " ".join(capsys.readouterr().out.split())
    saved = json.loads(kept.read_text())["smooth"]
    chosen = ", ".join(f"{name} {window}" for name, window in saved.items())
    assert f"Smoothing of best F1 on these frames (1: none): {chosen}." in stdout
    assert "With the smoothing and thresholds of each video tuned on the other videos" in stdout
    assert run(monkeypatch, *arguments, "--json") == 0
    searched = json.loads(capsys.readouterr().out)
    assert (searched["smooth"], searched["smoothing_searched"]) == (saved, True)


def test_compare_prints_the_difference_of_two_scores_in_80_columns_or_as_json(
    index: Path,
    scores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, kept = write_scores(tmp_path / "other.parquet", seed=1), tmp_path / "thresholds.json"
    assert run(monkeypatch, "evaluate", index, scores, "--save-thresholds", kept) == 0
    capsys.readouterr()
    arguments = ("compare", scores, other, "--index", index, "--thresholds", kept)
    assert run(monkeypatch, *arguments) == 0
    table, _, notes = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()[2:]][:12] == list(AFFWILD2_AUS)
    assert table.splitlines()[-1].startswith("mean ")
    assert max(map(len, table.splitlines())) <= 80
    assert "89 frames of 2 source videos" in notes
    assert run(monkeypatch, *arguments, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert run(monkeypatch, "evaluate", index, other, "--thresholds", kept, "--json") == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert report["f1"]["mean"]["b"] == evaluated["at_tuned"]["f1_all"]["mean"]
    assert report["auc"]["AU12"]["b"] == evaluated["auc"]["AU12"]
    assert run(monkeypatch, *arguments, "--thresholds", kept, "--thresholds", kept) == 2
    assert "once for both scores, or twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "train"), "It has val"),
        (("--smooth", "4"), "odd number"),
        (("--thresholds", "nowhere.json"), "not a thresholds file"),
        (("--thresholds", "x.json", "--smooth", "3"), "sets the smoothing"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    index: Path,
    scores: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "evaluate", index, scores, *arguments) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


def test_without_scikit_learn_one_line_names_the_package_to_install(
    index: Path, scores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert run(monkeypatch, "evaluate", index, scores) == 1
    stderr = capsys.readouterr().err
    assert "pip install 'auscan[train]'" in stderr
    assert stderr.count("\n") == 1


def test_a_submission_from_an_ensemble_passes_the_check(
    scores: Path,
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mean, out = tmp_path / "mean.parquet", tmp_path / "submission.txt"
    other = write_scores(tmp_path / "other.parquet", seed=1)
    assert run(monkeypatch, "ensemble", scores, other, "--out", mean) == 0
    assert "2 scores, 3 tracks, 90 frames" in capsys.readouterr().out
    assert run(monkeypatch, "submit", mean, "--template", template, "--out", out, "--smooth", "5") == 0
    stdout = capsys.readouterr().out
    assert "3 tracks, 90 rows" in stdout
    assert "1 rows have no face" in stdout
    assert run(monkeypatch, "check-submission", out, "--template", template) == 0
    assert "3 tracks, 90 rows" in capsys.readouterr().out
    assert out.read_text().startswith(HEADER + "\nv1_left/00001.jpg,")


def test_an_invalid_submission_is_one_line_and_exit_code_2(
    scores: Path,
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "submission.txt"
    assert run(monkeypatch, "submit", scores, "--template", template, "--out", out) == 0
    out.write_text(out.read_text().replace("v2/00040", "v2/00041"))
    capsys.readouterr()
    assert run(monkeypatch, "check-submission", out, "--template", template) == 2
    stderr = capsys.readouterr().err
    assert "line 91" in stderr
    assert stderr.count("\n") == 1


def test_saved_thresholds_are_used_by_submit(
    index: Path, scores: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, out = tmp_path / "thresholds.json", tmp_path / "submission.txt"
    run(monkeypatch, "evaluate", index, scores, "--smooth", "3", "--save-thresholds", kept)
    assert run(monkeypatch, "submit", scores, "--template", template, "--out", out, "--thresholds", kept) == 0
    plain = tmp_path / "plain.txt"
    assert run(monkeypatch, "submit", scores, "--template", template, "--out", plain) == 0
    assert out.read_text() != plain.read_text()
    arguments = ("submit", scores, "--template", template, "--out", out, "--thresholds", kept, "--smooth", 3)
    assert run(monkeypatch, *arguments) == 2


def test_the_commands_of_the_evaluation_guide_run(
    index: Path, scores: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    commands = guide.partition("```console\n")[2].partition("```")[0].splitlines()
    assert len(commands) == 5
    monkeypatch.chdir(tmp_path)
    index.rename("INDEX")
    template.rename("TEMPLATE.txt")
    for name in ("oof", "val", "fold0", "fold1", "fold2"):
        shutil.copy(scores, f"{name}.parquet")
    for command in commands:
        assert run(monkeypatch, *shlex.split(command)[1:]) == 0
    assert Path("predictions.txt").exists()
