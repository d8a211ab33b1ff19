"""Results of checkpoints with other AUs than the twelve of Aff-Wild2, with and without intensities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.agreement.agree import compute_agreement
from auscan.results.events import find_events
from auscan.results.exports.write import FORMATS
from auscan.results.figures.overlay import Painter, write_overlay_picture
from auscan.results.figures.report import write_report
from auscan.results.read import read_result
from auscan.results.readers.read import codings_from_result
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table, read_result_table, table_columns

FIVE = ("AU45", "AU12", "AU05", "AU25", "AU09")
NINETEEN = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12", "AU14", "AU15", "AU17"),
    *("AU20", "AU23", "AU24", "AU25", "AU26", "AU28", "AU45"),
)
FRAMES = 60


def result_of(au_names: tuple[str, ...], intensity: bool = True, baseline: str = "none") -> Result:
    """Return a result of one face whose AUs rise and fall at different rates; the last frame has no face."""
    phase = np.arange(FRAMES)[:, None] / 9 + np.arange(len(au_names))
    probabilities = (0.5 + 0.5 * np.sin(phase)).astype(np.float32)
    track = TrackScores(
        face_id=0,
        frames=np.arange(FRAMES),
        boxes=np.tile(np.float32([10, 10, 60, 60]), (FRAMES, 1)),
        points=np.zeros((FRAMES, 5, 2), np.float32),
        scores=np.ones(FRAMES, np.float32),
        quality_features=np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (FRAMES, 1)),
        probabilities=probabilities,
        intensities=5 * probabilities if intensity else None,
    )
    info = RunInfo(
        source="talk.mp4",
        duration_s=(FRAMES + 1) / 25,
        frames=FRAMES + 1,
        has_audio=False,
        seconds=1.0,
        model="other",
        au_names=au_names,
        thresholds=(0.5,) * len(au_names),
        command="auscan detect talk.mp4",
        versions={"auscan": "0.2.0"},
    )
    times_s = np.arange(FRAMES + 1) / 25
    table = build_table(times_s, [track], info.thresholds, au_names=au_names, intensity=intensity)
    return Result(table, (track,), info).with_baseline(baseline)


@pytest.fixture(
    params=[(FIVE, True), (FIVE, False), (NINETEEN, True), (("AU12",), False)],
    ids=["five", "five, no intensities", "nineteen", "one"],
)
def result(request: pytest.FixtureRequest) -> Result:
    return result_of(*request.param)


@pytest.mark.parametrize("baseline", ["none", "median"])
@pytest.mark.parametrize("intensity", [False, True])
def test_a_result_is_read_back_with_its_aus(tmp_path: Path, intensity: bool, baseline: str) -> None:
    result = result_of(FIVE, intensity, baseline)
    result.save(tmp_path)
    read = read_result(tmp_path)
    assert read.info.au_names == FIVE
    pd.testing.assert_frame_equal(read.table, result.table)
    pd.testing.assert_frame_equal(read.events, result.events)
    assert list(read.table.columns) == table_columns(FIVE, intensity, baseline != "none")


def test_intensities_follow_the_labels_and_are_empty_without_a_face() -> None:
    table = result_of(FIVE).table
    place = list(table.columns).index("AU45_r")
    assert list(table.columns)[place - 1 : place + 5] == ["AU09_c", *(f"{name}_r" for name in FIVE)]
    assert_array_equal(table["AU12_r"], 5 * table["AU12"])
    assert np.isnan(table["AU12_r"].iloc[-1])


def test_an_intensity_beyond_five_is_refused(tmp_path: Path) -> None:
    result = result_of(FIVE)
    result.table.loc[3, "AU12_r"] = 5.5
    result.save(tmp_path)
    with pytest.raises(InputError, match="an intensity is outside 0 to 5"):
        read_result_table(tmp_path / "aus.parquet")


def test_a_table_with_other_aus_than_its_run_is_refused() -> None:
    result = result_of(FIVE)
    with pytest.raises(ValueError, match="not the AUs of the table"):
        Result(result.table[table_columns(FIVE)].drop(columns=["AU12", "AU12_c"]), (), result.info)


def test_the_summary_has_every_au_and_no_other(result: Result) -> None:
    summary = result.summary()
    for key in ("seconds_active", "base_rate", "aus", "thresholds"):
        assert tuple(summary[key]) == result.info.au_names


def test_events_are_found_for_every_au_in_its_order(result: Result) -> None:
    events = result.events
    assert tuple(events["AU"].unique()) == result.info.au_names
    with pytest.raises(InputError, match=f"There should be {len(result.info.au_names)} thresholds"):
        find_events(result.table, (0.5,) * 7)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_exported(result: Result, name: str, tmp_path: Path) -> None:
    for path in result.export(to=name, folder=tmp_path):
        assert path.stat().st_size > 0


def test_openface_has_the_intensities_and_labels_that_it_has_columns_for(tmp_path: Path) -> None:
    (path,) = result_of(NINETEEN).export(to="openface", folder=tmp_path)
    table = pd.read_csv(path)
    filled = set(table.columns[table.notna().any()])
    assert {f"{name}_c" for name in NINETEEN} - filled == {"AU24_c"}
    assert {f"{name}_r" for name in NINETEEN} - filled == {"AU24_r", "AU28_r"}  # OpenFace has neither


def test_the_report_names_every_au(result: Result, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", result)
    page = (tmp_path / "report.html").read_text("utf-8")
    for name, unit in ACTION_UNITS.items():
        assert (f'<th scope="row">{name}</th>' in page) == (name in result.info.au_names)
        assert (unit.description in page) == (name in result.info.au_names)


def test_the_timeline_has_a_row_for_every_au(result: Result) -> None:
    titles = [note.text for note in result.plot().layout.annotations]
    assert [title[3:7] for title in titles if title.startswith("<b>AU")] == list(result.info.au_names)


def test_the_timeline_has_a_line_of_the_intensity_of_every_au_that_has_one(result: Result) -> None:
    lines = [trace for trace in result.plot().data if "intensity" in (trace.hovertemplate or "")]
    names = [name for name in result.info.au_names if f"{name}_r" in result.table]
    assert [line.hovertemplate[:4] for line in lines] == names
    for name, line in zip(names, lines, strict=True):
        values = result.table[f"{name}_r"].to_numpy()
        assert_array_equal(line.customdata, values)
        assert_allclose(line.y, values / 5, rtol=1e-6)


def test_the_summary_has_the_mean_intensity_if_there_are_intensities(result: Result) -> None:
    for name, numbers in result.summary()["aus"].items():
        assert ("mean_intensity" in numbers) == (f"{name}_r" in result.table)
        if "mean_intensity" in numbers:
            assert numbers["mean_intensity"] == pytest.approx(result.table[f"{name}_r"].mean())


def test_intensities_of_two_results_are_compared() -> None:
    a, b = (codings_from_result(result_of(names), "x")[0] for names in (FIVE, NINETEEN))
    intensities = compute_agreement(a, b).intensities.set_index("AU")
    assert intensities.index.tolist() == ["AU05", "AU09", "AU12", "AU25", "AU45", "mean"]
    unlike = (a.intensities[:, 1], b.intensities[:, NINETEEN.index("AU12")])
    assert intensities.loc["AU12", "mae"] == pytest.approx(
        np.nanmean(np.abs(unlike[0] - unlike[1])), abs=1e-6
    )


@pytest.mark.parametrize("count", [1, 5, 12, 13, 19, 25])
def test_the_rows_of_the_overlay_fit_into_its_panel(count: int) -> None:
    painter = Painter(480, 640, tuple(ACTION_UNITS)[:count], (0.5,) * count)
    assert painter._bar_span(count)[1] <= 480
    ends = [painter._row_span(j)[1] for j in range(count + 1)]
    assert max(ends) <= painter.paint(np.zeros((480, 640, 3), np.uint8), []).shape[1]
    places = {(painter._row_top(j), painter._row_span(j)) for j in range(count + 1)}
    assert len(places) == count + 1


def test_an_overlay_is_written(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "overlay.png"
    write_overlay_picture(path, np.full((240, 320, 3), 90, np.uint8), result.table, result.info.thresholds)
    assert path.stat().st_size > 0


def test_two_codings_are_compared_on_the_aus_that_both_have() -> None:
    (a,), (b,) = (codings_from_result(result_of(names), "x") for names in (FIVE, AFFWILD2_AUS))
    agreement = compute_agreement(a, b)
    frames = agreement.table[agreement.table["level"] == "frame"]
    assert frames["AU"].tolist() == ["AU12", "AU25", "mean"]
    missing = "AU01, AU02, AU04, AU05, AU06, AU07, AU09, AU10, AU15, AU23, AU24, AU26, AU45"
    assert f"Not coded by both: {missing}." in agreement.notes
