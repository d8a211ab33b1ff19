"""A result has its statistics and files, and is read back from its folder."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.events import EVENT_COLUMNS, Speech
from auscan.results.read import read_result
from auscan.results.result import Result
from auscan.results.table import TrackScores

MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]
AU12, AU23 = AFFWILD2_AUS.index("AU12"), AFFWILD2_AUS.index("AU23")


@pytest.fixture
def talk(make_track: MakeTrack, make_result: MakeResult) -> Result:
    """Two faces over three seconds, 25 frames per second; speech from 1 s on."""
    tracks = []
    for face_id, count in ((0, 75), (1, 40)):
        p = np.full((count, 12), 0.05, np.float32)
        p[:, AU23] = np.nan
        p[10:20, AU12] = 0.9
        p[25:30, AU12] = 0.95
        tracks.append(replace(make_track(face_id, list(range(count))), probabilities=p))
    result = make_result((np.arange(75) / 25).tolist(), tracks)
    spoken = np.arange(150) >= 50
    return replace(result, sound=Speech(0.0, 0.02, np.full(150, -30, np.float32), spoken))


def test_the_summary_counts_events_over_all_faces_and_for_each(talk: Result) -> None:
    summary = talk.summary()
    assert summary["aus"]["AU12"] == {
        "base_rate": pytest.approx(30 / 115),
        "seconds_active": pytest.approx(0.6),  # in any face
        "events": 4,
        "mean_duration_s": pytest.approx(0.3),
        "mean_probability": pytest.approx((20 * 0.9 + 10 * 0.95 + 85 * 0.05) / 115),
    }
    first, second = summary["per_face"]
    assert [face["face_id"] for face in (first, second)] == [0, 1]
    assert (second["first_s"], second["last_s"], second["rows"]) == (0, pytest.approx(1.6), 40)
    assert (first["judged"], "baseline" in first) == (1, False)
    assert second["aus"]["AU12"]["base_rate"] == pytest.approx(15 / 40)
    assert second["aus"]["AU12"]["seconds_active"] == pytest.approx(0.6)
    assert second["aus"]["AU12"]["events"] == 2
    assert first["aus"]["AU01"] | {"mean_probability": None} == {
        "base_rate": 0,
        "seconds_active": 0,
        "events": 0,
        "mean_duration_s": None,
        "mean_probability": None,
    }
    assert summary["event_settings"] == {"release": 0.75, "shortest_s": 0.1, "bridge_s": 0.25}


def test_an_untrained_au_has_no_statistics(talk: Result) -> None:
    summary = talk.summary()
    for numbers in (summary["aus"]["AU23"], summary["per_face"][0]["aus"]["AU23"]):
        assert set(numbers.values()) == {None}


def test_first_and_last_time_are_those_of_each_face(make_track: MakeTrack, make_result: MakeResult) -> None:
    tracks = [make_track(face_id, frames) for face_id, frames in ((0, [0, 1]), (1, [4, 5]))]
    result = make_result([5.0, 5.04, 5.08, 5.2, 5.24, 5.28], tracks)
    faces = result.summary()["per_face"]
    assert [(face["first_s"], face["last_s"]) for face in faces] == [
        (5.0, 5.08),
        (5.24, pytest.approx(5.28 + 0.04)),
    ]


def test_events_are_saved_beside_the_table(talk: Result, tmp_path: Path) -> None:
    written = pd.read_csv(talk.save(tmp_path) / "events.csv")
    assert tuple(written.columns) == EVENT_COLUMNS
    pd.testing.assert_frame_equal(written, talk.events, check_dtype=False, atol=1e-6)
    assert written["speech"].tolist() == pytest.approx([0, 1, 0, 1])


def test_a_result_is_read_back_from_its_folder(talk: Result, tmp_path: Path) -> None:
    for result in (talk, talk.with_baseline("median"), replace(talk, sound=None)):
        read = read_result(result.save(tmp_path))
        pd.testing.assert_frame_equal(read.table, result.table)
        pd.testing.assert_frame_equal(read.events, result.events)
        assert read.info == replace(result.info, duration_s=round(result.info.duration_s, 6))
        assert (read.sound is None) == (result.sound is None)
        assert read.summary() == result.summary()


def test_the_parquet_metadata_names_the_baseline_and_the_scored_columns(talk: Result, tmp_path: Path) -> None:
    import fastparquet

    for baseline, expected in (("none", "AU.."), ("1-2", "AU.._b")):
        folder = talk.with_baseline(baseline).save(tmp_path)
        stored = fastparquet.ParquetFile(folder / "aus.parquet")
        metadata = json.loads(stored.key_value_metadata["auscan"])
        assert (metadata["baseline"], metadata["judged_by"]) == (baseline, expected)
        assert list(metadata["units"]) == stored.columns
        assert json.loads((folder / "summary.json").read_text())["baseline"] == baseline


def test_files_of_two_results_are_not_mixed(talk: Result, make_result: MakeResult, tmp_path: Path) -> None:
    talk.save(tmp_path)
    make_result([0.0, 0.04], []).save_derived(tmp_path)
    with pytest.raises(InputError, match=r"summary\.json does not belong to the table"):
        read_result(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"summary\.json"):
        read_result(tmp_path)


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"aus\.parquet is not a result table"):
        read_result(tmp_path)


def test_other_thresholds_change_labels_events_and_summary(talk: Result) -> None:
    strict = talk.with_thresholds({"au_12": 1.0})
    assert strict.info.thresholds == tuple(
        1.0 if name == "AU12" else value
        for name, value in zip(talk.info.au_names, talk.info.thresholds, strict=True)
    )
    assert strict.table["AU12_c"].max() == 0
    assert (strict.table["AU12"] == talk.table["AU12"]).all() or talk.table["AU12"].isna().any()
    assert "AU12" not in set(strict.events["AU"])
    assert strict.summary()["operating_point"] == "custom"
    pd.testing.assert_frame_equal(strict.with_thresholds(talk.info.thresholds).table, talk.table)


def test_other_thresholds_apply_above_the_baseline(talk: Result) -> None:
    above = talk.with_baseline("median")
    always = above.with_thresholds([0.0] * 12)
    known = above.table["AU12_b"].notna()
    assert (always.table.loc[known & (above.table["reason"] == ""), "AU12_c"] == 1).all()
    assert "AU12_b" in always.table


@pytest.mark.parametrize(
    "wrong", [{"AU45": 0.5}, [0.5] * 11, [0.5] * 11 + [1.5], [0.5] * 11 + [float("nan")]]
)
def test_thresholds_that_do_not_fit_are_refused(talk: Result, wrong: dict[str, float] | list[float]) -> None:
    with pytest.raises(InputError, match=r"The result has no AU45|Give 12 thresholds from 0 to 1"):
        talk.with_thresholds(wrong)


def test_thresholds_and_baseline_are_applied_in_either_order(talk: Result) -> None:
    first = talk.with_thresholds({"AU12": 0.15}).with_baseline("median")
    second = talk.with_baseline("median").with_thresholds({"AU12": 0.15})
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(
        first.with_baseline("none").table, talk.with_thresholds({"AU12": 0.15}).table
    )


def test_a_result_exports_one_format_or_several(talk: Result, tmp_path: Path) -> None:
    assert [path.name for path in talk.export(to="jsonl", folder=tmp_path)] == ["talk.jsonl"]
    several = talk.export(to=["openface", "elan"], folder=tmp_path / "new", media=tmp_path / "talk.mp4")
    assert [path.name for path in several] == ["talk_openface.csv", "talk_auscan.eaf"]
    with pytest.raises(InputError, match="'spss' is not an export format"):
        talk.export(to="spss", folder=tmp_path)
