"""The report is one file that needs nothing else, and says what is so."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auscan.results.quality import PART_COLUMNS
from auscan.results.report import MAX_FACES, MAX_POINTS, pool, write_report
from auscan.results.result import Result
from auscan.results.table import TrackScores

MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]


def _own_words(page: str) -> str:
    """The page without its scripts: plotly.js would drown what is looked for."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def _report(tmp_path: Path, result: Result, level: tuple[np.ndarray, np.ndarray] | None = None) -> str:
    path = tmp_path / "report.html"
    write_report(path, result, level)
    return path.read_text(encoding="utf-8")


def test_the_report_opens_without_a_network(tmp_path: Path, result: Result) -> None:
    page = _report(tmp_path, result, (np.arange(10) / 20, np.full(10, -30.0)))
    assert "Plotly.newPlot" in page
    assert page.count("plotly.js v") >= 1
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", page)
    assert "@import" not in _own_words(page)


def test_the_report_says_what_was_run_with_what(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    for expected in ("talk.mp4", "tiny", "auscan 0.1.0", "The sound starts late.", "Seen in 4 frames"):
        assert expected in words
    assert "auscan detect &#39;talk.mp4&#39;" in words
    assert "A face was found in 4 of 6 frames (67%), different faces in all: 2." in words


def test_the_report_can_be_read_with_a_screen_reader(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    assert '<html lang="en">' in words
    assert "<title>Action units in talk.mp4" in words
    assert words.count("<h1") == 1
    assert words.count("<figure aria-label=") == words.count("<figcaption>") == 3
    assert words.count('scope="row"') == 12


def test_an_au_never_taught_is_called_unknown_and_not_inactive(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    assert "lip tightener (not taught to this model)" in words
    assert "never taught AU23" in words


def test_the_report_says_what_was_not_judged_and_why(
    tmp_path: Path, make_result: MakeResult, make_track: MakeTrack
) -> None:
    track = make_track(0, [0, 1, 2, 3])
    parts = track.parts.copy()
    parts[3, PART_COLUMNS.index("yaw")] = 80
    turned = replace(track, parts=parts, probabilities=np.full((4, 12), 0.9, np.float32))
    words = _own_words(_report(tmp_path, make_result([0.0, 0.1, 0.2, 0.3], [turned])))
    assert "Of 4 face rows 75% were judged; their quality is 1.00 in the median." in words
    assert "Hard to read: profile 25%." in words
    assert "Seen in 4 frames, judged in 75%. Active, as a share of the judged ones: AU01" in words


def test_names_and_commands_cannot_smuggle_markup_in(tmp_path: Path, make_result: MakeResult) -> None:
    page = _report(tmp_path, make_result([0.0, 0.1], [], source="<script>alert(1)</script>.mp4"))
    assert "<script>alert(1)" not in page


def test_a_run_without_face_or_sound_still_has_a_report(tmp_path: Path, make_result: MakeResult) -> None:
    words = _own_words(_report(tmp_path, make_result([0.0, 0.04], [], has_audio=False)))
    assert "No face was found" in words
    assert "The input has no sound" in words


def test_a_single_picture_has_a_report(
    tmp_path: Path, make_result: MakeResult, make_track: MakeTrack
) -> None:
    page = _report(tmp_path, make_result([0.0], [make_track(0, [0])], has_audio=False))
    assert "Face 0" in _own_words(page)


def test_the_report_of_a_long_crowded_video_stays_small(
    tmp_path: Path, make_result: MakeResult, make_track: MakeTrack
) -> None:
    times = (np.arange(20_000) / 25).tolist()
    tracks = [make_track(i, list(range(i, 20_000))) for i in range(MAX_FACES + 2)]
    page = _report(tmp_path, make_result(times, tracks), (np.arange(40_000) / 50, np.zeros(40_000)))
    assert len(page) < 8_000_000
    assert "2 more faces, seen for shorter" in _own_words(page)


def test_thinning_keeps_peaks_and_their_times() -> None:
    values = np.zeros(100_000)
    values[[12_345, 77_777]] = 1.0
    times = np.arange(100_000) / 25
    x, y = pool(times, values, MAX_POINTS)
    assert len(x) == MAX_POINTS
    assert x[y == 1].tolist() == [12_345 / 25, 77_777 / 25]
    assert (np.diff(x) > 0).all()


def test_thinning_keeps_gaps() -> None:
    values = np.ones(10_000)
    values[2_000:8_000] = np.nan
    _, y = pool(np.arange(10_000.0), values, 100)
    assert np.isnan(y).sum() == pytest.approx(60, abs=1)


def test_a_short_curve_is_left_as_it_is() -> None:
    times, values = np.arange(5.0), np.array([0.1, np.nan, 0.3, 0.2, 0.5])
    x, y = pool(times, values, 5)
    assert x is times
    assert y is values
