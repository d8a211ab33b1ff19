"""Frame exports are read back by pandas with the same frames, and without invented values."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose, assert_array_equal

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.exports import openface, pyfeat
from auscan.results.exports.openface import write_openface
from auscan.results.exports.pyfeat import write_pyfeat
from auscan.results.exports.tabular import write_jsonl, write_wide
from auscan.results.result import Result

PYFEAT_COLUMNS = (
    ["frame", "timestamp", "confidence", "success"]
    + [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"]
    + [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
    + [f"{axis}_{i}" for axis in "xyXYZ" for i in range(68)]
    + ["p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty", *(f"p_{i}" for i in range(34))]
    + [f"AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)]
    + [f"AU{n:02d}_c" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)]
)
"""Columns that py-feat's read_openface selects by name."""


def trained_aus() -> list[str]:
    """Return the AUs of the tiny model."""
    return [name for name in AFFWILD2_AUS if name != "AU23"]


def test_openface_has_the_header_of_its_recorder() -> None:
    """Other programs rely on positions: gaze from 5, pose from 293, landmarks from 299, AUs from 679."""
    columns = openface.COLUMNS
    assert len(columns) == len(set(columns)) == 714
    assert columns[:6] == ("frame", "face_id", "timestamp", "confidence", "success", "gaze_0_x")
    assert columns[11:14] == ("gaze_angle_x", "gaze_angle_y", "eye_lmk_x_0")
    places = {
        293: "pose_Tx",
        298: "pose_Rz",
        299: "x_0",
        435: "X_0",
        639: "p_scale",
        679: "AU01_r",
        696: "AU01_c",
    }
    assert {place: columns[place] for place in places} == places
    assert columns[-2:] == ("AU28_c", "AU45_c")


def test_openface_passes_the_column_check_of_py_feat(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_openface(long_result, tmp_path)
    read = pd.read_csv(path, sep=",")
    read.columns = read.columns.str.strip(" ")
    assert read[PYFEAT_COLUMNS].shape == (len(long_result.table), len(PYFEAT_COLUMNS))
    assert [name for name in read.columns if name in PYFEAT_COLUMNS] == PYFEAT_COLUMNS


def test_openface_has_our_frames_faces_times_and_presences(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_openface(long_result, tmp_path)
    read, table = pd.read_csv(path), long_result.table
    assert path.name == "talk_openface.csv"
    assert_array_equal(read["frame"], table["frame"] + 1)  # OpenFace counts from 1
    assert_allclose(read["timestamp"], table["timestamp"], atol=1e-6)
    assert_array_equal(read["success"], table["success"])
    seen = table["success"] == 1
    assert_array_equal(read.loc[seen, "face_id"], table.loc[seen, "face_id"])
    assert (read.loc[~seen, ["face_id", "success", "confidence"]] == 0).all(axis=None)
    ours = [f"{name}_c" for name in trained_aus() if name != "AU24"]
    assert_array_equal(read[ours], table[ours])  # NaN if a face is not scored, as in the table


def test_openface_invents_nothing(tmp_path: Path, long_result: Result) -> None:
    """Intensities, gaze, position, landmarks, and undetected or untrained AUs are empty."""
    (path,) = write_openface(long_result, tmp_path)
    read = pd.read_csv(path)
    known = {"frame", "face_id", "timestamp", "confidence", "success", "pose_Rx", "pose_Ry", "pose_Rz"}
    known |= {f"{name}_c" for name in trained_aus() if name != "AU24"}
    assert set(read.columns[read.notna().any()]) == known


def test_openface_has_the_angles_of_the_head_in_radians_about_its_axes(
    tmp_path: Path, long_result: Result
) -> None:
    """Down and clockwise are positive in both; OpenFace's yaw is positive to the left of the picture."""
    table = long_result.table.assign(pitch=np.float32(30), yaw=np.float32(20), roll=np.float32(-10))
    (path,) = write_openface(replace(long_result, table=table), tmp_path)
    read = pd.read_csv(path)
    expected = np.radians([30, -20, -10])
    assert_allclose(read[["pose_Rx", "pose_Ry", "pose_Rz"]].iloc[0], expected, atol=5e-4)


def test_py_feat_has_its_columns_in_order_and_our_probabilities(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_pyfeat(long_result, tmp_path)
    read, table = pd.read_csv(path), long_result.table
    assert tuple(read.columns) == pyfeat.COLUMNS
    places = {0: "FaceRectX", 4: "FaceScore", 5: "x_0", 73: "y_0", 141: "Pitch", 144: "AU01", 163: "AU43"}
    places |= {164: "anger", 171: "Identity", 172: "Identity_1", 684: "input", 686: "approx_time"}
    assert {place: pyfeat.COLUMNS[place] for place in places} == places
    assert len(pyfeat.COLUMNS) == len(set(pyfeat.COLUMNS)) == 1 + 5 + 136 + 20 + 3 + 7 + 513 + 2
    assert_array_equal(read["frame"], table["frame"])
    assert_allclose(read[trained_aus()], table[trained_aus()], atol=1e-6)
    boxes = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"]
    assert_allclose(read[boxes], table[["x", "y", "w", "h"]], atol=1e-3)
    seen = table["success"] == 1
    assert read.loc[seen, "Identity"].tolist() == [f"Person_{face}" for face in table.loc[seen, "face_id"]]
    assert read.loc[~seen, [*boxes, "FaceScore", *trained_aus(), "Identity"]].isna().all(axis=None)
    assert read["approx_time"].tolist()[0] == "00:00"
    assert set(read["input"]) == {"talk.mp4"}


def test_py_feat_invents_nothing(tmp_path: Path, long_result: Result) -> None:
    (path,) = write_pyfeat(long_result, tmp_path)
    read = pd.read_csv(path)
    known = {"frame", *pyfeat.BOX, "FaceScore", *trained_aus(), "Identity", "input", "approx_time"}
    assert set(read.columns[read.notna().any()]) == known


def test_a_name_with_a_comma_stays_one_cell(tmp_path: Path, make_long_result) -> None:  # type: ignore[no-untyped-def]
    (path,) = write_pyfeat(make_long_result('a, "b".mp4'), tmp_path)
    assert set(pd.read_csv(path)["input"]) == {'a, "b".mp4'}


def test_wide_has_a_row_for_each_frame_and_the_same_values(tmp_path: Path, long_result: Result) -> None:
    path, labels_path = write_wide(long_result, tmp_path)
    read, labels = pd.read_csv(path), pd.read_csv(labels_path)
    table = long_result.table
    assert read["frame"].tolist() == list(range(200))
    assert labels["variable"].tolist() == read.columns.tolist()
    assert labels["label"].is_unique
    assert read.columns.str.fullmatch(r"[a-z][a-z0-9_]{1,9}").all()
    for face in (0, 1):
        rows = table[table["face_id"] == face]
        assert read[f"f{face}_found"].sum() == len(rows)
        there = read.set_index("frame").loc[rows["frame"]]
        for name in trained_aus():
            assert_allclose(there[f"f{face}_{name.lower()}"], rows[name], rtol=1e-6)
            assert_array_equal(there[f"f{face}_{name.lower()}c"], rows[f"{name}_c"])
        gone = read[read[f"f{face}_found"] == 0].filter(regex=f"^f{face}_(?!found)")
        assert gone.isna().all(axis=None)
    assert not read.columns.str.contains("au23").any()
    line = path.read_text(encoding="utf-8").splitlines()[1].split(",")
    at = read.columns.tolist().index("f0_au12c")
    assert line[at] in ("0", "1")  # not 1.0, because SPSS shows decimals


def test_wide_has_the_values_above_a_baseline_if_there_is_one(tmp_path: Path, long_result: Result) -> None:
    result = long_result.with_baseline("median")
    path, labels_path = write_wide(result, tmp_path)
    read, rows = pd.read_csv(path), result.table[result.table["face_id"] == 1]
    there = read.set_index("frame").loc[rows["frame"]]
    assert_allclose(there["f1_au12b"], rows["AU12_b"], rtol=1e-5)
    assert_allclose(there["f1_au12"], rows["AU12"], rtol=1e-5)
    assert_array_equal(there["f1_au12c"], rows["AU12_c"])
    assert pd.read_csv(labels_path)["variable"].tolist() == read.columns.tolist()


def test_json_lines_are_the_rows_of_the_table_with_null_for_unknown(
    tmp_path: Path, long_result: Result
) -> None:
    (path,) = write_jsonl(long_result, tmp_path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["AU23"] for line in lines} == {None}
    read, table = pd.DataFrame(lines), long_result.table
    assert read.columns.tolist() == table.columns.tolist()
    numeric = [name for name in table if name != "reason"]
    assert_allclose(read[numeric].astype(np.float64), table[numeric].astype(np.float64), atol=1e-6)
    assert read["reason"].tolist() == table["reason"].tolist()
