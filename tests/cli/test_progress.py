"""Progress goes to stderr, as a bar or as lines."""

import pytest

from auscan.cli import progress
from auscan.cli.progress import progress_line, shown_progress


def test_a_line_says_frames_speed_and_time_left() -> None:
    assert progress_line("talk.mp4", 250, 1000, 5.0) == "talk.mp4: 250 of 1000 frames, 50 fps, 15 s left"


def test_without_a_total_nothing_is_said_about_the_time_left() -> None:
    assert progress_line("talk.mp4", 250, None, 5.0) == "talk.mp4: 250 frames, 50 fps"


def test_a_total_that_was_too_small_leaves_no_negative_time() -> None:
    assert progress_line("talk.mp4", 120, 100, 1.0).endswith("0 s left")


def test_a_log_gets_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with shown_progress("talk.mp4") as report:
        for done in (10, 60, 70, 120):
            report(done, None)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["talk.mp4: 60 frames, 10 fps", "talk.mp4: 120 frames, 10 fps"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with shown_progress("[1/2] talk.mp4") as report:
        report(10, None)
        report(20, 40)
    assert capsys.readouterr().out == ""
