"""The quality of a face is its lowest grade, and the reason names the feature.

The table, its statistics and its files.

A table written piece by piece equals the whole table, and an interrupted run leaves no file.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.result import Result, base_rates, seconds_active
from auscan.results.table import (
    GRADINGS,
    MIN_QUALITY,
    NO_FACE_REASON,
    QUALITY_FEATURE_COLUMNS,
    REASONS,
    TableWriter,
    TrackScores,
    build_table,
    check_quality,
    frame_durations_s,
    pause_warnings,
    read_result_table,
    table_columns,
    table_metadata,
)

CLEAR = {
    "size": 60,
    "sharpness": 1.2,
    "brightness": 0.5,
    "contrast": 0.2,
    "yaw": -5,
    "pitch": 3,
    "covered": 0,
}


def quality_of(**changes: float) -> tuple[float, str]:
    """Return quality and reason of a clear face with some features changed."""
    quality_features = np.float32([list((CLEAR | changes).values())])
    quality, reason = check_quality(quality_features)
    return float(quality[0]), str(reason[0])


def test_a_clear_face_has_full_quality_and_no_reason() -> None:
    assert tuple(CLEAR) == QUALITY_FEATURE_COLUMNS
    assert quality_of() == (1.0, "")


@pytest.mark.parametrize("feature", QUALITY_FEATURE_COLUMNS)
def test_a_feature_is_a_reason_beyond_its_cut(feature: str) -> None:
    grading = GRADINGS[feature]
    towards_none = 1e-3 * (grading.none - grading.cut)
    assert quality_of(**{feature: grading.full}) == (1.0, "")
    assert quality_of(**{feature: grading.cut - towards_none})[1] == ""
    assert quality_of(**{feature: grading.cut + towards_none})[1] == grading.reason
    assert quality_of(**{feature: grading.cut})[0] == pytest.approx(MIN_QUALITY, abs=1e-5)
    quality, reason = quality_of(**{feature: grading.none})
    assert (quality, reason) == (pytest.approx(0, abs=1e-5), grading.reason)


def test_the_cuts_are_the_documented_ones() -> None:
    """Values on both sides of each cut of docs/quality.md."""
    for feature, good, bad, reason in (
        ("size", 7.1, 6.9, "small"),
        ("sharpness", 0.66, 0.64, "blur"),
        ("brightness", 0.041, 0.039, "dark"),
        ("contrast", 0.0171, 0.0169, "dark"),
        ("yaw", 39.0, 41.0, "profile"),
        ("pitch", 29.0, 31.0, "profile"),
        ("covered", 0.24, 0.26, "occluded"),
    ):
        assert (quality_of(**{feature: good})[1], quality_of(**{feature: bad})[1]) == ("", reason), feature


@given(st.sampled_from(QUALITY_FEATURE_COLUMNS), st.floats(0, 90, width=32), st.floats(0, 90, width=32))
def test_quality_never_rises_as_a_feature_gets_worse(feature: str, a: float, b: float) -> None:
    better_is_more = GRADINGS[feature].full > GRADINGS[feature].none
    worse, better = sorted((a, b), reverse=not better_is_more)
    assert quality_of(**{feature: worse})[0] <= quality_of(**{feature: better})[0]


def test_the_sign_of_yaw_and_pitch_does_not_matter() -> None:
    for feature in ("yaw", "pitch"):
        worse = 1.2 * GRADINGS[feature].cut
        assert quality_of(**{feature: worse}) == quality_of(**{feature: -worse})
        assert quality_of(**{feature: -worse})[1] == "profile"


def test_the_lowest_grade_gives_the_reason() -> None:
    assert quality_of(size=GRADINGS["size"].none, yaw=1.1 * GRADINGS["yaw"].cut)[1] == "small"
    assert quality_of(size=0.95 * GRADINGS["size"].cut, yaw=GRADINGS["yaw"].none)[1] == "profile"


def test_an_untrained_feature_is_never_a_reason() -> None:
    unknown_pose = dict.fromkeys(("yaw", "pitch", "covered"), np.nan)
    assert quality_of(**unknown_pose) == (1.0, "")
    assert quality_of(**unknown_pose, size=GRADINGS["size"].none) == (0.0, "small")


def test_a_row_without_any_feature_has_the_reason_no_face() -> None:
    quality, reason = check_quality(np.full((2, len(QUALITY_FEATURE_COLUMNS)), np.nan, np.float32))
    assert quality.tolist() == [0, 0]
    assert reason.tolist() == [NO_FACE_REASON] * 2
    assert check_quality(np.empty((0, len(QUALITY_FEATURE_COLUMNS)), np.float32))[1].shape == (0,)


def test_the_reasons_are_the_documented_ones() -> None:
    assert set(REASONS) == {"no_face", "small", "blur", "dark", "profile", "occluded"}


MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]


def test_the_columns_are_the_documented_ones_in_order(result: Result) -> None:
    assert ",".join(result.table.columns) == (
        "frame,timestamp,face_id,success,confidence,x,y,w,h,"
        "quality,reason,size,sharpness,brightness,contrast,yaw,pitch,covered,roll,"
        "AU01,AU02,AU04,AU06,AU07,AU10,AU12,AU15,AU23,AU24,AU25,AU26,"
        "AU01_c,AU02_c,AU04_c,AU06_c,AU07_c,AU10_c,AU12_c,AU15_c,AU23_c,AU24_c,AU25_c,AU26_c,speaking"
    )
    kinds = result.table.dtypes.astype(str)
    assert kinds[["frame", "timestamp", "face_id", "success"]].tolist() == [
        "int64",
        "float64",
        "int64",
        "int8",
    ]


def test_rows_are_sorted_by_frame_and_face_and_no_frame_is_missing(result: Result) -> None:
    pairs = list(zip(result.table["frame"], result.table["face_id"], strict=True))
    assert pairs == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, -1), (4, 0), (5, -1)]
    assert result.table["timestamp"].tolist() == [0.5, 0.54, 0.54, 0.6, 0.6, 0.62, 0.72, 0.76]


def test_a_frame_without_a_face_is_unknown_and_not_zero(result: Result) -> None:
    row = result.table[result.table["frame"] == 3].iloc[0]
    assert row["success"] == 0
    assert row["confidence"] == 0
    assert (row["quality"], row["reason"]) == (0, "no_face")
    assert row[[*QUALITY_FEATURE_COLUMNS, "roll"]].isna().all()
    assert row[["x", "y", "w", "h", *AFFWILD2_AUS, *(f"{name}_c" for name in AFFWILD2_AUS)]].isna().all()


def test_an_au_is_active_from_its_threshold_on(make_track: MakeTrack) -> None:
    # 0.7 in float32 is below 0.7 in float64, but a probability equal to the threshold must be active.
    track = replace(
        make_track(0, [0, 1, 2]), probabilities=np.float32([[0.7] * 12, [0.69] * 12, [0.71] * 12])
    )
    table = build_table(np.arange(3.0), [track], [0.7] * 12)
    assert table["AU12_c"].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("left_eye", "right_eye", "expected"),
    [((10, 20), (30, 20), 0), ((10, 20), (30, 40), 45), ((10, 40), (30, 20), -45), ((10, 20), (10, 50), 90)],
)
def test_roll_is_the_angle_of_the_eyes_clockwise_in_the_picture(
    make_track: MakeTrack, left_eye: tuple[int, int], right_eye: tuple[int, int], expected: float
) -> None:
    track = make_track(1, [1])
    track.points[0, :2] = left_eye, right_eye
    table = build_table(np.array([0.0, 0.1]), [track], THRESHOLDS)
    assert np.isnan(table["roll"][0])
    assert table["roll"][1] == pytest.approx(expected, abs=1e-4)
    assert table["roll"].dtype == np.float32


def test_speaking_stands_in_the_rows_of_its_face_and_is_unknown_elsewhere(make_track: MakeTrack) -> None:
    speaks = replace(make_track(1, [1, 3]), speaking=np.float32([0.25, 1.0]))
    table = build_table(np.arange(4.0), [make_track(0, [1, 2]), speaks], [0.5] * 12)
    known = table[table["speaking"].notna()]
    assert known[["frame", "face_id", "speaking"]].to_numpy().tolist() == [[1, 1, 0.25], [3, 1, 1.0]]
    assert table["speaking"].dtype == np.float32
    with pytest.raises(ValueError, match=r"speaking should be \[2\]"):
        replace(speaks, speaking=np.zeros(3, np.float32))


def test_an_untrained_au_is_unknown_in_every_row(result: Result) -> None:
    assert result.table[["AU23", "AU23_c"]].isna().all(axis=None)
    summary = result.summary()
    assert summary["seconds_active"]["AU23"] is None
    assert summary["base_rate"]["AU23"] is None


@given(st.lists(st.sets(st.integers(0, 19)), max_size=4), st.integers(20, 25))
def test_any_tracks_give_each_frame_at_least_one_row_and_its_own_time(
    seen: list[set[int]], count: int
) -> None:
    times = np.cumsum(np.random.default_rng(0).random(count))
    tracks = [
        TrackScores(
            face_id=face_id,
            frames=np.array(sorted(frames), np.int64),
            boxes=np.zeros((len(frames), 4), np.float32),
            points=np.zeros((len(frames), 5, 2), np.float32),
            scores=np.ones(len(frames), np.float32),
            quality_features=np.full((len(frames), 7), 0.5, np.float32),
            probabilities=np.zeros((len(frames), 12), np.float32),
        )
        for face_id, frames in enumerate(seen)
    ]
    table = build_table(times, tracks, [0.5] * 12)
    assert sorted(table["frame"].unique()) == list(range(count))
    assert (table["timestamp"].to_numpy() == times[table["frame"]]).all()
    assert table["success"].sum() == sum(len(frames) for frames in seen)


def test_a_track_beyond_the_last_frame_is_refused(make_track: MakeTrack) -> None:
    with pytest.raises(ValueError, match="has frame 3, but there are 3 frames"):
        build_table(np.arange(3.0), [make_track(0, [2, 3])], [0.5] * 12)


def test_one_face_twice_in_a_frame_is_refused(make_track: MakeTrack) -> None:
    with pytest.raises(ValueError, match="twice"):
        build_table(np.arange(3.0), [make_track(0, [1]), make_track(0, [1, 2])], [0.5] * 12)


def test_a_track_of_the_wrong_shape_is_refused(make_track: MakeTrack) -> None:
    with pytest.raises(ValueError, match=r"boxes should be \[2, 4\], got \[3, 4\]"):
        replace(make_track(0, [0, 1]), boxes=np.zeros((3, 4), np.float32))


def test_seconds_active_weights_uneven_frames_and_counts_two_faces_once(make_track: MakeTrack) -> None:
    """A count of frames would ignore that one frame is longer."""
    on, off = np.full((2, 12), 0.9, np.float32), np.full((1, 12), 0.1, np.float32)
    tracks = [
        replace(make_track(0, [0, 1]), probabilities=on),
        replace(make_track(1, [1]), probabilities=on[:1]),
        replace(make_track(2, [2]), probabilities=off),
    ]
    times = [1.0, 1.1, 1.3, 1.4]
    table = build_table(np.array(times), tracks, [0.5] * 12)
    assert frame_durations_s(np.array(times)) == pytest.approx([0.1, 0.2, 0.1, 0.1])
    assert seconds_active(table)["AU12"] == pytest.approx(0.3)
    assert base_rates(table)["AU12"] == pytest.approx(3 / 4)


PROFILE = np.float32([60, 1.2, 0.5, 0.2, 70, 0, 0])
"""Quality features of a face in profile."""


@pytest.fixture
def half_turned(make_track: MakeTrack) -> TrackScores:
    """A face in four frames, AU12 active in all, in profile in the last three."""
    track = make_track(0, [0, 1, 2, 3])
    quality_features = track.quality_features.copy()
    quality_features[1:] = PROFILE
    return replace(track, quality_features=quality_features, probabilities=np.full((4, 12), 0.9, np.float32))


def test_a_low_quality_face_keeps_its_probabilities_and_is_not_scored(
    half_turned: TrackScores,
) -> None:
    table = build_table(np.arange(4.0), [half_turned], [0.5] * 12)
    assert table["reason"].tolist() == ["", "profile", "profile", "profile"]
    assert table["quality"].tolist() == [1, 0, 0, 0]
    assert table["yaw"].tolist() == [5, 70, 70, 70]
    assert (table["AU12"] == np.float32(0.9)).all()
    assert table["AU12_c"].notna().tolist() == [True, False, False, False]


def test_keep_all_scores_every_face_and_keeps_the_reason(half_turned: TrackScores) -> None:
    table = build_table(np.arange(5.0), [half_turned], [0.5] * 12, keep_all=True)
    assert table["reason"].tolist() == ["", "profile", "profile", "profile", "no_face"]
    assert table["AU12_c"].tolist()[:4] == [1, 1, 1, 1]
    assert np.isnan(table["AU12_c"].iloc[4])


def test_only_scored_rows_count_as_active(half_turned: TrackScores) -> None:
    table = build_table(np.arange(4.0), [half_turned], [0.5] * 12)
    assert seconds_active(table)["AU12"] == pytest.approx(1)
    assert base_rates(table)["AU12"] == 1
    unscored = build_table(np.arange(3.0), [replace(half_turned, **_last(half_turned, 3))], [0.5] * 12)
    assert seconds_active(unscored)["AU12"] is None, "no row is scored"


def _last(track: TrackScores, count: int) -> dict[str, np.ndarray]:
    names = ("boxes", "points", "scores", "quality_features", "probabilities")
    return {"frames": np.arange(count)} | {name: getattr(track, name)[-count:] for name in names}


def test_the_summary_counts_scored_rows_and_reasons(
    make_result: MakeResult, half_turned: TrackScores
) -> None:
    result = make_result([0.0, 0.1, 0.2, 0.3, 0.4], [half_turned])
    summary = result.summary()
    assert summary["coverage"] == 4 / 5
    assert summary["judged"] == 1 / 4
    nothing = {"small": 0, "blur": 0, "dark": 0, "occluded": 0}
    assert summary["reasons"] == {"no_face": 1, "profile": 3, **nothing}
    kept = replace(result, info=replace(result.info, keep_all=True)).summary()
    assert (kept["judged"], kept["keep_all"]) == (1, True)
    assert make_result([0.0, 0.1], []).summary()["judged"] is None


def test_the_summary_counts_frames_faces_and_coverage(result: Result) -> None:
    summary = result.summary()
    counts = {key: summary[key] for key in ("frames", "rows", "faces", "frames_with_face", "coverage")}
    assert counts == {"frames": 6, "rows": 8, "faces": 2, "frames_with_face": 4, "coverage": 4 / 6}
    assert summary["modalities"] == {"video": True, "audio": True}
    assert summary["model"] == "tiny"
    assert summary["command"] == "auscan detect 'talk.mp4'"
    assert summary["versions"]["auscan"] == "0.1.0"


def test_a_video_without_faces_has_zero_seconds_active(make_result: MakeResult) -> None:
    summary = make_result([0.0, 0.04], []).summary()
    assert summary["coverage"] == 0
    assert summary["seconds_active"]["AU12"] == 0
    assert summary["base_rate"]["AU12"] is None


def test_saved_files_have_the_same_content(result: Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "out")
    names = ["aus.csv", "aus.parquet", "events.csv", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    read = read_result_table(folder / "aus.parquet")
    pd.testing.assert_frame_equal(read, result.table)
    csv = pd.read_csv(folder / "aus.csv").fillna({"reason": ""}).astype(read.dtypes.to_dict())
    pd.testing.assert_frame_equal(csv, result.table)
    assert json.loads((folder / "summary.json").read_text()) == result.summary()


def test_a_table_of_an_earlier_version_has_unknown_speaking_and_roll(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path) / "aus.parquet"
    stored = pq.read_table(path)
    pq.write_table(stored.drop_columns(["speaking", "roll"]), path)
    expected = result.table.assign(roll=np.float32(np.nan))
    assert expected["speaking"].isna().all()
    pd.testing.assert_frame_equal(read_result_table(path), expected)


def test_speaking_outside_0_to_1_is_refused(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path) / "aus.parquet"
    _rewrite(path, speaking=[1.5] * len(result.table))
    with pytest.raises(InputError, match="speaking is outside 0 to 1"):
        read_result_table(path)


def test_the_parquet_metadata_describes_the_columns(result: Result, tmp_path: Path) -> None:
    schema = pq.read_schema(result.save(tmp_path) / "aus.parquet")
    stored = json.loads(schema.metadata[b"auscan"])
    assert stored["auscan"] == "0.1.0"
    assert stored["model"] == "tiny"
    assert stored["au_names"] == list(AFFWILD2_AUS)
    assert list(stored["thresholds"].values()) == list(result.info.thresholds)
    assert set(stored["units"]) == set(table_columns(AFFWILD2_AUS))


def _rewrite(path: Path, **columns: list[float] | list[str]) -> None:
    stored = pq.read_table(path)
    table = stored.to_pandas().assign(**columns)
    pq.write_table(
        pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(stored.schema.metadata),
        path,
    )


def test_a_table_with_impossible_values_is_refused(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path) / "aus.parquet"
    _rewrite(path, AU12=[2.0] * 8)
    with pytest.raises(InputError, match=r"aus\.parquet is not a result table.*outside 0 to 1"):
        read_result_table(path)


def test_a_table_with_an_unknown_reason_is_refused(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path) / "aus.parquet"
    _rewrite(path, reason=["tired"] * 8)
    with pytest.raises(InputError, match="has an unknown reason"):
        read_result_table(path)


def test_a_table_with_a_foreign_column_is_refused(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path) / "aus.parquet"
    _rewrite(path, AU99=[0.5] * 8)
    with pytest.raises(InputError, match="AU99"):
        read_result_table(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.parquet", tmp_path / "text.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(foreign)
    text.write_text("no table")
    for path in (foreign, text, tmp_path / "missing.parquet"):
        with pytest.raises(InputError, match=f"{path.name} is not a result table"):
            read_result_table(path)


def test_changing_the_copy_does_not_change_the_result(result: Result) -> None:
    copy = result.to_pandas()
    copy["frame"] = -5
    assert result.table["frame"].min() == 0


def test_the_notebook_view_escapes_the_file_name(make_result: MakeResult, make_track: MakeTrack) -> None:
    view = make_result([0.0], [make_track(0, [0])], source="<b>.mp4")._repr_html_()
    assert "&lt;b&gt;.mp4" in view
    assert view.count("<tr>") == 13
    assert "unknown" in view


THRESHOLDS = (0.5,) * 12
METADATA = table_metadata("talk.mp4", "nano", AFFWILD2_AUS, THRESHOLDS, ("AU23",), "0.1.0")


def test_pieces_are_read_back_as_one_table(tmp_path: Path) -> None:
    whole = build_table(np.arange(10) / 25, [], THRESHOLDS)
    with TableWriter(tmp_path / "new", METADATA) as writer:
        for start in range(0, 10, 4):
            writer.write(whole[start : start + 4].reset_index(drop=True))
    pd.testing.assert_frame_equal(read_result_table(tmp_path / "new" / "aus.parquet"), whole)
    assert pq.ParquetFile(tmp_path / "new" / "aus.parquet").num_row_groups == 3
    text = pd.read_csv(tmp_path / "new" / "aus.csv")
    assert list(text.columns) == list(whole.columns)
    assert text["frame"].tolist() == list(range(10))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["aus.csv", "aus.parquet"]


def test_a_failed_run_leaves_no_file(tmp_path: Path) -> None:
    def run() -> None:
        with TableWriter(tmp_path, METADATA) as writer:
            writer.write(build_table(np.arange(3) / 25, [], THRESHOLDS))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_before_a_pause_lasts_as_long_as_others() -> None:
    """It lasted until the next frame, 97 s later, and counted as active."""
    times_s = np.arange(10) / 25 + 97 * (np.arange(10) >= 4)
    assert frame_durations_s(times_s) == pytest.approx(np.full(10, 0.04))
    assert frame_durations_s(np.array([0, 0.04, 0.29, 0.33, 0.37])) == pytest.approx(
        [0.04, 0.25, 0.04, 0.04, 0.04]
    )
    assert frame_durations_s(np.array([0.0, 2, 4, 9, 11])) == pytest.approx([2, 2, 2, 2, 2])


def test_pauses_are_one_warning() -> None:
    times_s = np.arange(10) / 25 + 97 * (np.arange(10) >= 4) + 3 * (np.arange(10) >= 7)
    (warning,) = pause_warnings("talk.mts", times_s)
    assert warning.startswith(
        "talk.mts: the video has 2 pauses without frames, 100.08 s in all, the first at 0.12 s"
    )
    for steady_s in (times_s[:4], times_s[:0], times_s[:1], np.arange(5) * 2.0):
        assert pause_warnings("talk.mts", steady_s) == ()
