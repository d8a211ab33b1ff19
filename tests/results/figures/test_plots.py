"""Figures show the gaps, peaks, events and unscored frames of a result."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.events import Speech
from auscan.results.figures.plots import (
    MAX_POINTS,
    FigureData,
    downsample,
    face_figure,
    overview_figure,
    runs,
)
from auscan.results.result import Result
from auscan.results.table import QUALITY_FEATURE_COLUMNS, TrackScores

MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]


def _data(result: Result) -> FigureData:
    info = result.info
    return FigureData(result.table, result.events, info.thresholds, info.untrained_aus, result.sound)


def _overview(result: Result) -> Any:
    return overview_figure(result.table, result.sound)


def _traces(figure: Any, row: int, mode: str) -> list[Any]:
    """Return the traces of one row in one mode."""
    axis = f"y{'' if row == 1 else row}"
    return [trace for trace in figure.data if (trace.yaxis or "y") == axis and trace.mode == mode]


@pytest.fixture
def smile(make_result: MakeResult, make_track: MakeTrack) -> Result:
    """Two seconds of one face, missing in frames 40 to 44, in profile in 10 to 19; AU12 peaks at 30."""
    frames = [*range(40), *range(45, 50)]
    track = make_track(3, frames)
    track.probabilities[:] = 0.1
    track.probabilities[25:36, AFFWILD2_AUS.index("AU12")] = 0.9
    track.probabilities[30, AFFWILD2_AUS.index("AU12")] = 0.95
    track.quality_features[10:20, QUALITY_FEATURE_COLUMNS.index("yaw")] = 80
    result = make_result((np.arange(50) / 25).tolist(), [track])
    return replace(
        result, sound=Speech(0.0, 0.5, np.float32([-40, -30, -20, -50]), np.array([0, 1, 1, 0], bool))
    )


def test_an_event_is_a_strip_with_a_mark_at_its_apex(smile: Result) -> None:
    figure = smile.plot()
    row = AFFWILD2_AUS.index("AU12") + 1
    (mark,) = _traces(figure, row, "markers")
    assert mark.x == pytest.approx([1.2])
    assert mark.y == pytest.approx([0.95])
    strip = _traces(figure, row, "lines")[-1]
    assert strip.x[:2] == pytest.approx([1.0, 1.44])
    assert not _traces(figure, 1, "markers"), "AU01 has no event"


def test_merged_strips_cover_all_of_very_many_events(make_result: MakeResult, make_track: MakeTrack) -> None:
    track = make_track(0, list(range(10_000)))
    result = make_result((np.arange(10_000) / 25).tolist(), [track])
    figure, events = face_figure(_data(result), 0, limit=300), result.events.query("AU == 'AU01'")
    strip = np.asarray(_traces(figure, 1, "lines")[-1].x).reshape(-1, 3)
    (mark,) = _traces(figure, 1, "markers")
    assert len(events) > 500
    assert len(strip) <= 50
    assert len(mark.x) == 20
    middle = ((events["onset"] + events["offset"]) / 2).to_numpy()[:, None]
    assert ((strip[:, 0] <= middle) & (middle <= strip[:, 1])).any(axis=1).all()


def test_the_curve_has_a_gap_where_the_face_is_missing(smile: Result) -> None:
    curve = _traces(smile.plot(), 1, "lines")[0]
    assert np.flatnonzero(np.isnan(np.asarray(curve.y))).tolist() == [40, 41, 42, 43, 44]


def test_only_unscored_frames_are_shaded(smile: Result) -> None:
    (grey,) = [shape for shape in smile.plot().layout.shapes if shape.type == "rect"]
    assert (grey.x0, grey.x1) == pytest.approx((0.4, 0.8))
    assert (grey.yref, grey.y0, grey.y1) == ("paper", 0, 1)


def test_speech_is_drawn_below_the_face_and_below_the_sound(smile: Result) -> None:
    for trace in (_traces(smile.plot(), 14, "lines")[0], _traces(_overview(smile), 2, "lines")[-1]):
        assert trace.x[:2] == pytest.approx([0.5, 1.5])
    silent = replace(smile, sound=None)
    assert not _traces(silent.plot(), 14, "lines")
    assert not _traces(_overview(silent), 2, "lines")


def test_the_face_with_most_frames_is_plotted_by_default(
    make_result: MakeResult, make_track: MakeTrack
) -> None:
    result = make_result([0.0, 0.1, 0.2], [make_track(0, [1]), make_track(1, [0, 1, 2])])
    assert np.isfinite(np.asarray(_traces(result.plot(), 1, "lines")[0].y)).all()
    assert np.isfinite(np.asarray(_traces(result.plot(0), 1, "markers")[0].y)).sum() == 1


def test_plotting_a_missing_face_is_refused(smile: Result, make_result: MakeResult) -> None:
    with pytest.raises(InputError, match=r"no face 7 to plot; talk\.mp4 has \[3\]"):
        smile.plot(7)
    with pytest.raises(InputError, match="has no face"):
        make_result([0.0], []).plot()


def test_a_single_picture_has_a_figure(make_result: MakeResult, make_track: MakeTrack) -> None:
    result = make_result([0.0], [make_track(0, [0])])
    assert _traces(face_figure(_data(result), 0), 1, "markers")


def test_downsampling_keeps_peaks_and_troughs_at_their_own_times() -> None:
    values = np.full(100_001, 0.5)
    values[[12_345, 77_777]] = 1.0
    values[[12_346, 50_000]] = 0.0
    times = np.arange(len(values)) / 25
    x, y = downsample(times, values, MAX_POINTS)
    assert len(x) <= MAX_POINTS
    assert x[y == 1].tolist() == [12_345 / 25, 77_777 / 25]
    assert x[y == 0].tolist() == [12_346 / 25, 2_000]
    assert (np.diff(x) > 0).all()


def test_downsampling_keeps_gaps() -> None:
    values = np.ones(10_000)
    values[2_000:8_000] = np.nan
    _, y = downsample(np.arange(10_000.0), values, 100)
    assert np.isnan(y).mean() == pytest.approx(0.6, abs=0.02)


def test_a_short_curve_is_not_downsampled() -> None:
    times, values = np.arange(5.0), np.array([0.1, np.nan, 0.3, 0.2, 0.5])
    x, y = downsample(times, values, 5)
    assert x is times
    assert y is values


def test_runs_are_spans_of_equal_codes() -> None:
    first, last = runs(np.array([1, 1, 0, 2, 2]))
    assert list(zip(first, last, strict=True)) == [(0, 1), (2, 2), (3, 4)]
