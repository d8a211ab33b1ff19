"""Test `auscan detect`: result folders, manifest, exit codes, errors, --resume and shards."""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastparquet import ParquetFile

from auscan.cli.main import main
from auscan.results.read import read_result
from auscan.results.table import METADATA_KEY

WriteVideo = Callable[..., Path]


@pytest.fixture
def auscan(
    fake_detect: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


Auscan = Callable[..., tuple[int, str, str]]


def _manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_a_video_becomes_a_folder_of_files(tmp_path: Path, auscan: Auscan, write_video: WriteVideo) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    code, stdout, _ = auscan("detect", video, "--out", out)
    assert code == 0
    assert sorted(path.name for path in (out / "talk").iterdir()) == [
        "aus.csv",
        "aus.parquet",
        "events.csv",
        "summary.json",
    ]
    assert f"{video}: 6 rows in" in stdout
    assert str(out / "talk") in stdout
    summary = json.loads((out / "talk" / "summary.json").read_text())
    assert summary["command"] == f"auscan detect {video} --out {out}"
    (line,) = _manifest(out)
    assert set(line) == {
        *("path", "key", "status", "rows", "seconds", "error_class", "error", "warnings", "folder", "files"),
        *("sha256", "size", "mtime_ns", "model", "model_sha256", "config", "versions", "host", "ended"),
    }
    assert line["files"] == {path.name: path.stat().st_size for path in (out / "talk").iterdir()}
    assert line["sha256"] == hashlib.sha256(video.read_bytes()).hexdigest()
    assert (line["path"], line["status"], line["rows"], line["error"]) == (str(video), "done", 6, None)


def test_the_operating_point_is_in_the_summary(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video = write_video(tmp_path / "talk.mp4")
    for arguments, expected in (((), "default"), (("--operating-point", "precise"), "precise")):
        assert auscan("detect", video, "--out", tmp_path / expected, *arguments)[0] == 0
        folder = tmp_path / expected / "talk"
        assert json.loads((folder / "summary.json").read_text())["operating_point"] == expected
        metadata = ParquetFile(folder / "aus.parquet").key_value_metadata[METADATA_KEY]
        assert json.loads(metadata)["operating_point"] == expected


def _checkpoint(folder: Path, name: str, points: bool = True) -> Path:
    """Write a checkpoint folder with only a config."""
    folder.mkdir()
    config = importlib.import_module("cli_fakes").fake_config(name, points)
    (folder / "config.json").write_text(json.dumps({"format": 1, **json.loads(config.to_json())}))
    return folder


def test_a_model_without_operating_points_refuses_one_before_it_begins(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    bare = _checkpoint(tmp_path / "bare", "bare", points=False)
    arguments = ("detect", write_video(tmp_path / "talk.mp4"), "--out", tmp_path / "out", "--model", bare)
    code, stdout, stderr = auscan(*arguments, "--operating-point", "sensitive")
    assert (code, stdout) == (2, "")
    assert "bare has no operating points" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_keep_all_reaches_detection_and_the_summary(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    for arguments, kept in (((), False), (("--keep-all",), True)):
        assert auscan("detect", video, "--out", out, *arguments)[0] == 0
        assert json.loads((out / "talk" / "summary.json").read_text())["keep_all"] == kept


def test_a_baseline_reaches_the_table_its_metadata_and_the_summary(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    """AU12 is 0.8 in all 40 frames, so it is this face's baseline and not active."""
    video, out = write_video(tmp_path / "talk.mp4", 40), tmp_path / "out"
    for baseline, active in (("none", 1.0), ("median", 0.0), ("0-1.5", 0.0)):
        assert auscan("detect", video, "--out", out, "--baseline", baseline)[::2] == (0, "")
        read = read_result(out / "talk")
        assert read.info.baseline == baseline
        assert set(read.table["AU12_c"].dropna()) == {active}
        assert len(read.events) == active
        metadata = ParquetFile(out / "talk" / "aus.parquet").key_value_metadata[METADATA_KEY]
        assert json.loads(metadata)["baseline"] == baseline


def test_a_face_too_short_for_its_baseline_is_reported(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    code, _, stderr = auscan("detect", video, "--out", out, "--baseline", "0-9")
    assert code == 0
    warning = (
        "talk.mp4: 1 of 1 faces have fewer than 25 scored frames for a baseline (0-9) and are not scored"
    )
    assert warning in stderr


def test_the_warnings_of_a_run_are_printed_and_recorded(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "late.mp4"), tmp_path / "out"
    code, stdout, stderr = auscan("detect", video, "--out", out, "--json", "--baseline", "0-9")
    assert code == 0
    warnings = json.loads(stdout)["warnings"]
    assert warnings[0] == "late.mp4: the sound is 0.20 s late."
    assert len(warnings) == 2
    assert all(warning in stderr for warning in warnings)
    assert read_result(out / "late").info.warnings == tuple(warnings[:1])


def test_an_invalid_baseline_is_refused_before_any_work(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    arguments = "detect", write_video(tmp_path / "talk.mp4"), "--out", tmp_path / "out", "--baseline", "5-2"
    code, stdout, stderr = auscan(*arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "'5-2' is not a baseline" in stderr
    assert not (tmp_path / "out").exists()


def test_overlay_and_report_are_written_on_request(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    assert auscan("detect", video, "--out", out, "--overlay", "--report")[0] == 0
    assert (out / "talk" / "overlay.mp4").stat().st_size > 0
    assert "auscan detect" in (out / "talk" / "report.html").read_text()
    assert not (out / "talk" / "evidence.parquet").exists(), "used for the report only"


def test_attributions_are_saved_on_request_and_can_be_explained(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    assert auscan("detect", video, "--out", out, "--evidence")[0] == 0
    assert (out / "talk" / "evidence.parquet").exists()
    for options in (["--au", "AU12"], ["--face", "0"]):
        picture = tmp_path / "why.png"
        explained = auscan("explain", video, out / "talk", "--frame", "2", "--out", picture, *options)
        assert explained == (0, f"{picture}: frame 2 of talk.mp4\n", "")
        assert cv2.imread(str(picture)) is not None


def test_a_model_without_attributions_is_reported_once(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    blind = _checkpoint(tmp_path / "blind", "blind")
    inputs = [write_video(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    arguments = "detect", *inputs, "--out", tmp_path / "out", "--model", blind
    code, _, stderr = auscan(*arguments, "--evidence")
    assert code == 2
    assert stderr.count("auscan: ") == 1
    assert "auscan export" in stderr
    assert auscan(*arguments)[0] == 0


def test_invalid_inputs_get_a_line_each_and_the_others_succeed(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    good, out = write_video(tmp_path / "good.mp4"), tmp_path / "out"
    last = write_video(tmp_path / "last.mp4")
    text, empty, folder = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "nothing"
    text.write_text("this is no video")
    empty.touch()
    folder.mkdir()
    code, stdout, stderr = auscan(
        "detect", good, text, empty, tmp_path / "missing.mp4", folder, last, "--out", out
    )
    assert code == 2
    lines = [line for line in stderr.splitlines() if line.startswith("auscan: ")]
    assert len(lines) == 4
    assert "Traceback" not in stderr + stdout
    for name, line in zip(("text.mp4", "empty.mp4", "missing.mp4", "nothing"), lines, strict=True):
        assert name in line
    assert [entry["status"] for entry in _manifest(out)] == ["done", *["failed"] * 4, "done"]
    assert _manifest(out)[1]["error"] == lines[0].removeprefix("auscan: ")


def test_a_bug_in_one_input_does_not_stop_the_others(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    out = tmp_path / "out"
    inputs = [write_video(tmp_path / name) for name in ("surprise.mp4", "talk.mp4")]
    code, _, stderr = auscan("detect", *inputs, "--out", out)
    assert code == 1
    (line,) = [line for line in stderr.splitlines() if line.startswith("auscan: ")]
    assert line.startswith(f"auscan: {inputs[0]} failed with an unexpected error, KeyError:")
    assert [entry["status"] for entry in _manifest(out)] == ["failed", "done"]


def test_a_bad_model_is_reported_once_and_not_for_each_input(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    inputs = [write_video(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    code, _, stderr = auscan("detect", *inputs, "--out", tmp_path / "out", "--model", "mistyped")
    assert code == 2
    assert stderr.startswith("auscan: mistyped is neither a shipped model nor a folder.")
    assert stderr.count("\n") == 1


def test_json_prints_the_manifest_and_nothing_else(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    out = tmp_path / "out"
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("no video")
    code, stdout, _ = auscan("detect", tmp_path / "*.mp4", "--out", out, "--json")
    assert code == 2
    assert stdout == (out / "manifest.jsonl").read_text()
    assert len(stdout.splitlines()) == 2


def test_a_second_run_repeats_all_inputs_and_ignores_its_own_overlays(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    """The output folder may be inside a searched folder; overlays of earlier runs are not inputs."""
    write_video(tmp_path / "clips" / "talk.mp4")
    out = tmp_path / "clips" / "out"
    for _ in range(2):
        assert auscan("detect", tmp_path / "clips", "--out", out, "--overlay")[0] == 0
    assert [Path(entry["path"]).name for entry in _manifest(out)] == ["talk.mp4", "talk.mp4"]
    assert sorted(path.name for path in out.iterdir()) == ["manifest.jsonl", "talk"]


def test_inputs_with_equal_names_get_separate_folders(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    out = tmp_path / "out"
    inputs = [write_video(tmp_path / name) for name in ("a/talk.mp4", "b/talk.mp4", "b/talk.mkv")]
    assert auscan("detect", *inputs, "--out", out)[0] == 0
    folders = [entry["folder"] for entry in _manifest(out)]
    assert len(set(folders)) == 3
    assert all((out / folder / "aus.csv").exists() for folder in folders)


def test_a_folder_of_pictures_can_be_read_as_a_video(tmp_path: Path, auscan: Auscan) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.zeros((40, 40, 3), np.uint8))
    assert auscan("detect", folder, "--out", out, "--as-video", "10", "--overlay")[0] == 0
    assert [entry["rows"] for entry in _manifest(out)] == [4]
    assert (out / "pictures" / "overlay.mp4").exists()
    assert auscan("detect", folder, "--out", out, "--overlay")[0] == 0
    assert [entry["rows"] for entry in _manifest(out)] == [4, 1, 1, 1, 1]
    assert (out / "003" / "overlay.png").exists()


def test_a_folder_that_cannot_be_written_is_reported_before_the_work(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    code, _, stderr = auscan("detect", write_video(tmp_path / "talk.mp4"), "--out", taken)
    assert code == 2
    assert stderr.startswith(f"auscan: Results cannot be written to {taken}")
    assert len(stderr.splitlines()) == 1


def test_a_crash_of_the_decoder_fails_one_input_and_the_summary_has_the_command_to_continue(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    for name in ("a.mp4", "crash.mp4", "z.mp4"):
        write_video(tmp_path / "clips" / name)
    (tmp_path / "clips" / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    code, stdout, stderr = auscan("detect", tmp_path / "clips", "--out", out, "--jobs", 2)
    assert code == 2
    assert len(stdout.splitlines()) == 2
    status = {Path(entry["path"]).name: entry["error_class"] for entry in _manifest(out)}
    assert status == {"a.mp4": None, "crash.mp4": "CrashError", "text.mp4": "MediaError", "z.mp4": None}
    assert "crash.mp4 could not be read to its end: its process was ended by SIGSEGV." in stderr
    assert "4 inputs: 2 done, 0 unchanged, 2 failed, 0 left" in stderr
    assert "  CrashError             1  crash.mp4\n  MediaError             1  text.mp4\n" in stderr
    assert stderr.endswith(f"  auscan detect {tmp_path / 'clips'} --out {out} --jobs 2 --resume\n")
    write_video(tmp_path / "clips" / "text.mp4")
    code, stdout, stderr = auscan("detect", tmp_path / "clips", "--out", out, "--jobs", 2, "--resume")
    assert code == 1
    assert [line.partition(":")[0] for line in stdout.splitlines()] == [str(tmp_path / "clips" / "text.mp4")]
    assert f"{tmp_path / 'clips' / 'a.mp4'}: unchanged, skipped\n" in stderr
    assert f"{tmp_path / 'clips' / 'crash.mp4'}: processed again because it failed (CrashError)\n" in stderr
    assert "4 inputs: 1 done, 2 unchanged, 1 failed, 0 left" in stderr


def test_shards_together_process_all_inputs_and_each_has_a_manifest(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    names = [f"{number}.mp4" for number in range(6)]
    for name in names:
        write_video(tmp_path / "clips" / name)
    out = tmp_path / "out"
    for shard in ("1/2", "2/2"):
        assert auscan("detect", tmp_path / "clips", "--out", out, "--shard", shard)[0] == 0
    parts = [(out / f"manifest.{index}-of-2.jsonl").read_text().splitlines() for index in (1, 2)]
    done = [[Path(json.loads(line)["path"]).name for line in part] for part in parts]
    assert all(done)
    assert sorted(done[0] + done[1]) == names
    code, stdout, stderr = auscan("detect", tmp_path / "clips", "--out", out, "--resume")
    assert (code, stdout) == (0, "")
    assert stderr.count("unchanged, skipped") == 6


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_an_invalid_shard_is_refused(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, shard: str
) -> None:
    code, stdout, stderr = auscan(
        "detect", write_video(tmp_path / "a.mp4"), "--out", tmp_path, "--shard", shard
    )
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"'{shard}' is not a shard" in stderr


def test_resume_processes_changed_inputs_and_skips_unchanged_ones(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    resume = "detect", video, "--out", out, "--resume"
    assert auscan(*resume)[0] == 0
    os.utime(video, ns=(0, 0))
    assert "same content, skipped" in auscan(*resume)[2]
    assert f"{video}: unchanged, skipped" in auscan(*resume)[2], "the new time is recorded"
    for arguments, reason in (
        (("--keep-all",), "its options changed (keep_all)"),
        ((), "its options changed (keep_all)"),
    ):
        _, stdout, stderr = auscan(*resume, *arguments)
        assert f"{video}: processed again because {reason}" in stderr
        assert "6 rows" in stdout
    write_video(video, 9)
    _, stdout, stderr = auscan(*resume)
    assert "again because its size or time changed" in stderr
    assert "9 rows" in stdout
    (out / "talk" / "aus.csv").unlink()
    assert "again because its result is missing or damaged" in auscan(*resume)[2]
    assert [line["rows"] for line in _manifest(out)] == [6, 6, 6, 6, 9, 9]


def test_an_input_that_is_replaced_while_it_is_read_is_an_error_and_the_old_result_stays(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    assert auscan("detect", video, "--out", out)[0] == 0
    before = (out / "talk" / "aus.csv").read_bytes()
    detect = importlib.import_module("cli_fakes").fake_detect

    def replaced_meanwhile(*source: object, **more: object) -> object:
        result = detect(*source, **more)
        write_video(video, 9)
        return result

    monkeypatch.setattr("cli_fakes.fake_detect", replaced_meanwhile)
    code, _, stderr = auscan("detect", video, "--out", out)
    assert code == 2
    assert "talk.mp4 changed while it was read" in stderr
    assert (out / "talk" / "aus.csv").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["manifest.jsonl", "talk"]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder beside OUT that resembles a result and must not change."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "aus.csv").write_text("precious")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"aus.csv": "precious"}


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("status", ["done", "failed"])
@pytest.mark.parametrize(
    "name", ["VICTIM", "../victim", "../../..", "", ".", "..", "a\0b", 5, ["a"]], ids=ascii
)
def test_a_manifest_whose_folder_leads_elsewhere_is_refused_and_nothing_is_touched(
    tmp_path: Path,
    auscan: Auscan,
    write_video: WriteVideo,
    victim: Path,
    name: object,
    status: str,
    resume: tuple[str],
) -> None:
    """With --resume such a line used to delete that folder."""
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    assert auscan("detect", video, "--out", out)[0] == 0
    (line,) = _manifest(out)
    line |= {"folder": str(victim) if name == "VICTIM" else name, "status": status, "ended": "9"}
    with (out / "manifest.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    before = sorted(path for path in tmp_path.rglob("*"))
    code, stdout, stderr = auscan("detect", video, "--out", out, *resume)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"auscan: {out / 'manifest.jsonl'}, line 2: the folder ")
    assert len(stderr.splitlines()) == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_links_below_out_lead_to_nothing_that_is_changed(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, victim: Path, resume: tuple[str]
) -> None:
    video, out = write_video(tmp_path / "talk.mp4"), tmp_path / "out"
    out.mkdir()
    (out / "talk").symlink_to(victim)
    (out / ".auscan-a").symlink_to(victim)
    code, _, stderr = auscan("detect", video, "--out", out, *resume)
    assert code == 2
    assert f"auscan: {out / 'talk'} is a symbolic link, which auscan does not replace." in stderr
    assert (out / "talk").is_symlink()


@pytest.mark.parametrize("name", ["...mp4", "..mp4", ".auscan-a.mp4"])
def test_an_input_whose_stem_is_no_folder_name_gets_a_folder_below_out(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, victim: Path, name: str
) -> None:
    video, out = write_video(tmp_path / "talk.mp4").rename(tmp_path / name), tmp_path / "out"
    assert auscan("detect", video, "--out", out)[0] == 0
    (line,) = _manifest(out)
    assert (out / line["folder"]).parent.resolve() == out.resolve()
    assert (out / line["folder"] / "aus.csv").is_file()
    assert auscan("detect", video, "--out", out, "--resume")[0] == 0
