"""Test the progress display on stderr: a bar in a terminal, lines elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from auscan.cli import progress
from auscan.cli.main import main
from auscan.cli.progress import progress_line, show_progress
from auscan.core.errors import InputError


def test_a_line_states_frames_speed_and_time_left() -> None:
    assert progress_line("talk.mp4", 250, 1000, 5.0) == "talk.mp4: 250 of 1000 frames, 50 fps, 15 s left"


def test_without_a_total_a_line_has_no_time_left() -> None:
    assert progress_line("talk.mp4", 250, None, 5.0) == "talk.mp4: 250 frames, 50 fps"


def test_a_total_that_was_too_small_leaves_no_negative_time() -> None:
    assert progress_line("talk.mp4", 120, 100, 1.0).endswith("0 s left")


def test_a_log_gets_lines_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with show_progress("talk.mp4") as report:
        for done in (10, 60, 70, 120):
            report(done, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["talk.mp4: 60 frames, 10 fps", "talk.mp4: 120 frames, 10 fps"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with show_progress("[1/2] talk.mp4") as report:
        report(10, None)
        report(20, 40)
    assert capsys.readouterr().out == ""


def test_the_environment_sets_the_seconds_between_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setenv("AUSCAN_PROGRESS_S", "0.5")
    with show_progress("talk.mp4") as report:
        report(10, None)
        report(30, None)
    assert capsys.readouterr().err.splitlines() == [
        "talk.mp4: 10 frames, 10 fps",
        "talk.mp4: 30 frames, 15 fps",
    ]


@pytest.mark.parametrize("value", ["abc", "", "-1", "nan"])
def test_an_invalid_number_of_seconds_in_the_environment_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AUSCAN_PROGRESS_S", value)
    with pytest.raises(InputError, match=f"AUSCAN_PROGRESS_S is '{value}'"), show_progress("talk.mp4"):
        pass


def test_an_invalid_environment_variable_fails_a_command_but_not_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AUSCAN_PROGRESS_S", "abc")
    program = "import sys; from auscan.cli.main import main; sys.argv[0] = 'auscan'; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True
    )
    assert "Traceback" not in shown.stderr
    monkeypatch.setattr("sys.argv", ["auscan", "synth", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("auscan: The environment variable AUSCAN_PROGRESS_S is 'abc'")
    assert not (tmp_path / "out").exists()
