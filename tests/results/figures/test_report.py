"""The report is one self-contained file with the content of the result."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS
from auscan.results.attributions import Attributions
from auscan.results.events import Speech
from auscan.results.figures.report import (
    _REASON_TEXTS,
    MAX_EVENTS,
    MAX_FACES,
    Apex,
    pictured_events,
    write_report,
)
from auscan.results.result import Result
from auscan.results.table import QUALITY_FEATURE_COLUMNS, REASONS, TrackScores

MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]


def _own_words(page: str) -> str:
    """Return the page without scripts, because plotly.js has nearly every word."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def _report(tmp_path: Path, result: Result, apexes: Sequence[Apex] = ()) -> str:
    path = tmp_path / "report.html"
    write_report(path, result, apexes)
    return path.read_text(encoding="utf-8")


def _sound(count: int = 50, speaks: bool = True) -> Speech:
    return Speech(0.5, 0.02, np.full(count, -30, np.float32), np.full(count, speaks))


@pytest.fixture
def busy(make_result: MakeResult, make_track: MakeTrack) -> Result:
    """Two faces of two seconds with AUs that rise and fall, with sound."""
    rise = 0.5 + 0.45 * np.sin(np.arange(50)[:, None] / 4 + np.arange(12))
    tracks = [
        replace(make_track(i, list(range(50))), probabilities=(rise * (0.9 + 0.1 * i)).astype(np.float32))
        for i in range(2)
    ]
    result = make_result((0.5 + np.arange(50) / 25).tolist(), tracks)
    return replace(result, sound=_sound(100))


def test_the_report_opens_without_a_network(tmp_path: Path, result: Result) -> None:
    page = _report(tmp_path, replace(result, sound=_sound()))
    assert "Plotly.newPlot" in page
    assert page.count("plotly.js v") >= 1
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=(?!\"data:)", page)
    assert "@import" not in _own_words(page)


def test_the_report_names_the_input_the_model_and_the_versions(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    for expected in ("talk.mp4", "tiny", "auscan 0.1.0", "The sound starts late.", "Found in 4 frames"):
        assert expected in words
    assert "auscan detect &#39;talk.mp4&#39;" in words
    assert "A face was found in 4 of 6 frames (67%); 2 faces in total." in words


def test_the_report_is_accessible_to_screen_readers(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    assert '<html lang="en">' in words
    assert "<title>Action units in talk.mp4" in words
    assert words.count("<h1") == 1
    assert words.count('role="img" aria-label=') == words.count("<figcaption>") == 3
    assert words.count('scope="row"') == 24
    assert words.count("<table>") == words.count("<caption")


def test_the_report_calls_an_untrained_au_unknown(tmp_path: Path, result: Result) -> None:
    words = _own_words(_report(tmp_path, result))
    assert "lip tightener (not trained in this model)" in words
    assert "This model was not trained on AU23" in words


def test_the_report_gives_the_share_of_unscored_rows_by_reason(
    tmp_path: Path, make_result: MakeResult, make_track: MakeTrack
) -> None:
    track = make_track(0, [0, 1, 2, 3])
    quality_features = track.quality_features.copy()
    quality_features[3, QUALITY_FEATURE_COLUMNS.index("yaw")] = 80
    turned = replace(
        track, quality_features=quality_features, probabilities=np.full((4, 12), 0.9, np.float32)
    )
    words = _own_words(_report(tmp_path, make_result([0.0, 0.1, 0.2, 0.3], [turned])))
    assert "75% of 4 face rows are scored; median quality 1.00." in words
    assert "<code>profile</code>, the face is turned too far to the side, up or down: 25.0 %" in words
    assert "Found in 4 frames, scored in 75% of them. Active, as a share of the scored frames: AU01" in words


def test_names_and_commands_are_escaped(tmp_path: Path, make_result: MakeResult) -> None:
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
    """20,000 frames of noise in eight faces: thousands of events, many pictures."""
    times = (np.arange(20_000) / 25).tolist()
    tracks = [make_track(i, list(range(i, 20_000))) for i in range(MAX_FACES + 2)]
    result = replace(make_result(times, tracks), sound=_sound(40_000))
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), np.uint8)  # more detail than a face has
    apexes = [Apex(i, au, 1.0, 0.9, noise, None) for i in range(MAX_FACES) for au in AFFWILD2_AUS]
    page = _report(tmp_path, result, apexes)
    assert len(page) < 8_000_000
    assert "2 more faces, found in fewer frames" in _own_words(page)
    hidden = len(result.events) - MAX_EVENTS
    assert hidden > 0
    assert f"{hidden} more events, with lower peaks, are in events.csv" in _own_words(page)


def test_the_report_names_the_reference_of_the_labels(tmp_path: Path, result: Result) -> None:
    assert "tiny does not state the source of its training labels" in _report(tmp_path, result)
    known = replace(result, info=replace(result.info, reference="A teacher model made its labels."))
    assert "A teacher model made its labels." in _report(tmp_path, known)


def test_every_reason_and_every_action_unit_has_a_description(tmp_path: Path, result: Result) -> None:
    assert {"no_face", *_REASON_TEXTS} == set(REASONS)
    words = _own_words(_report(tmp_path, result))
    assert all(ACTION_UNITS[au].description in words for au in AFFWILD2_AUS)


def test_each_event_is_a_row_of_the_table(tmp_path: Path, busy: Result) -> None:
    words = _own_words(_report(tmp_path, busy))
    body = words.partition('id="events-caption"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in body.split("<tr>")[1:]]
    events = busy.events.sort_values(["onset", "face_id", "AU"])
    assert len(rows) == len(events) > 20
    for row, event in zip(rows, events.itertuples(), strict=True):
        assert row[:2] == [str(event.face_id), event.AU]
        assert row[2] == f"{event.onset:.2f}"
        assert row[7:] == [f"{event.peak:.2f}", "100 %"]


def test_the_strongest_event_of_each_face_and_au_is_pictured(busy: Result) -> None:
    shown = pictured_events(busy)
    best = busy.events.groupby(["face_id", "AU"])["peak"].max()
    assert len(shown) == len(best)
    assert shown.set_index(["face_id", "AU"])["peak"].to_dict() == best.to_dict()


def test_an_apex_picture_has_a_text_alternative_and_its_gates(tmp_path: Path, busy: Result) -> None:
    crop = np.full((112, 112, 3), 128, np.uint8)
    shares = np.zeros((1, 12, 4), np.uint8)
    row = Attributions(
        112,
        AFFWILD2_AUS,
        np.array([3]),
        np.array([0]),
        np.zeros((1, 5, 2), np.float32),
        np.array([[255, 0, 0, 9]], np.uint8),
        shares,
        np.full((1, 12), 204, np.uint8),
        np.array([51], np.uint8),
    )
    words = _own_words(_report(tmp_path, busy, [Apex(0, "AU12", 1.5, 0.9, crop, row)]))
    assert 'alt="Face 0 at 1.50 s, at the apex of AU12, lip corner puller; blue' in words
    assert "patches selected: 2 of 4" in words
    assert re.search(r"local</span><i[^>]*80%.*?0\.80", words)
    assert re.search(r"audio</span><i[^>]*20%.*?0\.20", words)
    bare = _own_words(_report(tmp_path, busy, [Apex(0, "AU12", 1.5, 0.9, crop, None)]))
    assert "Attention maps were not saved" in bare
    assert "audio</span>" not in bare
