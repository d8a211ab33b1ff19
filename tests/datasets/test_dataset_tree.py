"""Test the indexes of DISFA, BP4D, OpenFace and s-Aff-Wild2; AUs that a data set does not code are -1."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscan.core.errors import InputError
from auscan.datasets import bp4d, disfa
from auscan.datasets.index import Index, read_index
from auscan.datasets.prepare import prepare

from .conftest import HEADER, touch_pictures, write_numbered_video, write_pictures, write_text


def indexed(root: Path, dataset: str | None = None) -> tuple[Index, dict[str, Any]]:
    summary = prepare(root, root / "index", dataset)
    return read_index(root / "index"), summary


def labels_of(index: Index, track: str, au: str) -> list[int]:
    return index.frames.loc[index.frames["track"] == track, au].tolist()


def disfa_tree(root: Path, first_picture: int = 0) -> Path:
    """Write three frames of SN001 with AU 1, 12 and 9; auscan does not use AU 9."""
    folder = root / "ActionUnit_Labels" / "SN001"
    write_text(folder / "SN001_au1.txt", "1,0\n2,1\n3,2\n")
    write_text(folder / "SN001_au12.txt", "1,5\r\n2,2\r\n3,0\r\n")
    write_text(folder / "SN001_au9.txt", "1,5\n2,5\n3,5\n")
    write_numbered_video(root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi", [0, 0.04, 0.08])
    write_pictures(root / "images" / "SN001", [first_picture, first_picture + 2], digits=1)
    return root


@pytest.mark.parametrize("dataset", [None, "disfa"])
def test_disfa_aus_are_active_from_intensity_two_and_pictures_are_numbered_from_zero(
    tmp_path: Path, dataset: str | None
) -> None:
    index, summary = indexed(disfa_tree(tmp_path), dataset)
    assert labels_of(index, "SN001", "AU01") == [0, 0, 1]
    assert labels_of(index, "SN001", "AU12") == [1, 1, 0]
    assert labels_of(index, "SN001", "AU09") == [1, 1, 1]
    assert index.frames["AU01_r"].tolist() == [0, 1, 2]
    assert index.frames["AU12_r"].tolist() == [5, 2, 0]
    assert index.au_names == disfa.CODED
    for au in set(disfa.CODED) - {"AU01", "AU09", "AU12"}:
        assert labels_of(index, "SN001", au) == [-1, -1, -1]
        assert index.frames[f"{au}_r"].isna().all()
    assert index.frames["image"].fillna("").tolist() == ["images/SN001/0.jpg", "", "images/SN001/2.jpg"]
    assert index.frames["timestamp"].tolist() == pytest.approx([0, 0.04, 0.08])
    assert index.tracks.loc[0, ["split", "source_video"]].tolist() == ["fold1", "SN001"]
    assert "no labels for AU02, AU04" in index.tracks["warnings"][0][0]
    assert summary["dataset"] == "disfa"
    assert summary["published_positive_percent"] is None
    assert summary["unused"] == []


def test_disfa_pictures_numbered_from_one_match_the_line_of_their_number(tmp_path: Path) -> None:
    index, _ = indexed(disfa_tree(tmp_path, first_picture=1))
    assert index.frames["image"].fillna("").tolist() == ["images/SN001/1.jpg", "", "images/SN001/3.jpg"]


def test_a_malformed_disfa_line_is_named_and_the_other_persons_are_indexed(tmp_path: Path) -> None:
    disfa_tree(tmp_path)
    write_text(tmp_path / "ActionUnit_Labels" / "SN002" / "SN002_au1.txt", "1,0\n2;1\n")
    index, summary = indexed(tmp_path)
    assert index.tracks["track"].tolist() == ["SN001"]
    assert [item["path"] for item in summary["unused"]] == ["SN002"]
    assert "'2;1'" in summary["unused"][0]["reason"]


def test_the_published_folds_hold_every_person_once() -> None:
    people = [number for fold in disfa.FOLDS for number in fold]
    assert len(people) == len(set(people)) == 27
    people = [person for fold in bp4d.FOLDS for person in fold.split()]
    assert sorted(people) == [f"F{i:03d}" for i in range(1, 24)] + [f"M{i:03d}" for i in range(1, 19)]


@pytest.mark.parametrize("dataset", [None, "bp4d"])
def test_bp4d_starts_late_masks_nine_and_keeps_a_persons_tasks_together(
    tmp_path: Path, dataset: str | None
) -> None:
    head = "0,1,2,4,6,7,10,12,14,15,17,23,24"
    rows = ["4,0,0,0,1,1,1,1,0,0,0,0,0", "5,0,0,0,1,1,1,1,0,0,0,0,9"]
    for task in ("T1", "T8"):
        write_text(tmp_path / "AUCoding" / "AU_OCC" / f"F001_{task}.csv", "\n".join([head, *rows]))
    touch_pictures(tmp_path / "2D" / "F001" / "T1", [5, 6])
    write_numbered_video(tmp_path / "2D" / "F001" / "T8.avi", [i / 25 for i in range(6)])
    index, summary = indexed(tmp_path, dataset)
    assert index.tracks["track"].tolist() == ["F001_T1", "F001_T8"]
    assert set(index.tracks["source_video"]) == {"F001"}
    assert set(index.tracks["split"]) == {"fold1"}
    assert labels_of(index, "F001_T1", "AU12") == [1, 1]
    assert labels_of(index, "F001_T1", "AU24") == [0, -1]
    assert index.au_names == tuple(f"AU{int(number):02d}" for number in head.split(",")[1:])
    assert index.frames["frame"].tolist() == [4, 5, 4, 5]
    assert index.frames["timestamp"].tolist() == pytest.approx([0.12, 0.16] * 2)
    assert index.frames["image"].fillna("").tolist() == ["", "2D/F001/T1/00005.jpg", "", ""]
    assert index.tracks["rows_labelled"].tolist() == [1, 1]
    assert index.tracks["images_beyond"].tolist() == [1, 0]
    assert summary["length_mismatches"] == [], "the coded part may end before the video"
    assert summary["unused"] == []


OPENFACE_HEAD = (
    "frame, face_id, timestamp, confidence, success, AU01_r, AU04_r, AU25_r, AU01_c, AU04_c, AU25_c"
)


@pytest.mark.parametrize("dataset", [None, "openface"])
def test_openface_rows_without_a_face_are_masked(tmp_path: Path, dataset: str | None) -> None:
    rows = [
        "1, 0, 0.000, 0.98, 1, 0.00, 1.32, 0.45, 0.0, 1.0, 0.0",
        "2, 0, 0.033, 0.00, 0, 0.00, 0.00, 0.00, 0.0, 0.0, 0.0",
        "3, 0, 0.067, 0.97, 1, 0.00, 0.00, 2.45, 1, 0, 1",
    ]
    write_text(tmp_path / "talk.csv", "\n".join([OPENFACE_HEAD, *rows]))
    touch_pictures(tmp_path / "talk_aligned", [])
    (tmp_path / "talk_aligned" / "frame_det_00_000003.bmp").write_bytes(b"x")
    write_numbered_video(tmp_path / "talk.mp4", [0, 0.033, 0.067])
    write_numbered_video(tmp_path / "smalltalk.mp4", [0, 0.033])
    index, summary = indexed(tmp_path, dataset)
    assert labels_of(index, "talk", "AU04") == [1, -1, 0]
    assert labels_of(index, "talk", "AU25") == [0, -1, 1]
    assert labels_of(index, "talk", "AU45") == [-1, -1, -1]
    assert "AU24" not in index.au_names  # OpenFace does not predict it
    assert index.frames["timestamp"].tolist() == [0, 0.033, 0.067]
    assert index.frames["image"].fillna("").tolist() == ["", "", "talk_aligned/frame_det_00_000003.bmp"]
    assert index.tracks.loc[0, ["video", "split"]].tolist() == ["talk.mp4", "all"]
    assert [item["path"] for item in summary["unused"]] == ["*.mp4"]


def test_each_face_of_an_openface_table_is_a_track_of_one_source(tmp_path: Path) -> None:
    rows = ["1, 0, 0.0, 0.9, 1, 0, 0, 0, 0, 0, 0", "1, 1, 0.0, 0.9, 1, 0, 0, 0, 1, 1, 1"]
    write_text(tmp_path / "talk.csv", "\n".join([OPENFACE_HEAD, *rows]))
    index, _ = indexed(tmp_path)
    assert index.tracks["track"].tolist() == ["talk_face0", "talk_face1"]
    assert set(index.tracks["source_video"]) == {"talk"}
    assert labels_of(index, "talk_face1", "AU01") == [1]


def test_openface_1_has_no_face_id_and_its_files_of_single_pictures_have_no_frame(tmp_path: Path) -> None:
    head = "frame, timestamp, confidence, success, AU01_c"
    write_text(tmp_path / "old.csv", f"{head}\n1, 0.0, 0.9, 1, 1\n2, 0.04, 0.9, 1, 0\n")
    write_text(tmp_path / "picture.csv", "face, confidence, success, AU01_c\n0, 0.9, 1, 1\n")
    index, summary = indexed(tmp_path)
    assert labels_of(index, "old", "AU01") == [1, 0]
    assert "it lacks frame, timestamp" in summary["unused"][0]["reason"]


MTL_HEAD = f"image,valence,arousal,expression,{HEADER}"


@pytest.mark.parametrize("dataset", [None, "mtl"])
def test_multi_task_files_result_in_rows_for_their_listed_frames_only(
    tmp_path: Path, dataset: str | None
) -> None:
    rows = [
        "video900_1_left/00031.jpg,-5,-5,-1,0,0,1,0,0,0,0,0,0,0,0,0",
        "video900_1_left/00007.jpg,-0.12,0.40,4,0,0,0,1,1,0,1,0,0,0,1,0",
        "903/00001.jpg,0.1,0.2,3," + ",".join(["-1"] * 12),
        "903/00001.jpg,0.1,0.2,3," + ",".join(["1"] * 12),
        "nonsense",
    ]
    write_text(tmp_path / "training_set_annotations.txt", "\n".join([MTL_HEAD, *rows]))
    write_text(tmp_path / "validation_set.txt", f"{MTL_HEAD}\n904/00002.jpg,0,0,0,{','.join('0' * 12)}\n")
    write_numbered_video(tmp_path / "batch1" / "video900_1.mp4", [i / 25 for i in range(31)])
    touch_pictures(tmp_path / "cropped_aligned" / "video900_1_left", [7, 8])
    index, summary = indexed(tmp_path, dataset)
    splits = dict(zip(index.tracks["track"], index.tracks["split"], strict=True))
    assert splits == {"video900_1_left": "train", "903": "train", "904": "val"}
    rows_left = index.frames[index.frames["track"] == "video900_1_left"]
    assert rows_left["frame"].tolist() == [7, 31]
    assert rows_left["has_image"].tolist() == [True, False]
    assert rows_left["timestamp"].tolist() == pytest.approx([6 / 25, 30 / 25])
    assert rows_left["AU12"].tolist() == [1, 0]
    assert labels_of(index, "903", "AU12") == [-1]
    assert {item["reason"] for item in summary["unused"]} == {
        "1 rows cannot be parsed completely",
        "1 rows repeat a frame",
    }


def test_a_multi_task_file_without_its_split_in_the_name_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "labels.txt", f"{MTL_HEAD}\n904/00002.jpg,0,0,0,{','.join('0' * 12)}\n")
    with pytest.raises(InputError, match="Put train, val or test into its name"):
        indexed(tmp_path)


def test_all_data_sets_result_in_tables_of_the_same_form(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "talk.csv", f"{OPENFACE_HEAD}\n1, 0, 0.0, 0.9, 1, 0, 0, 0, 0, 0, 0\n")
    disfa_tree(tmp_path / "b")
    first, second = indexed(tmp_path / "a")[0], indexed(tmp_path / "b")[0]
    kinds = [index.frames.dtypes.astype(str).to_dict() for index in (first, second)]
    assert {kinds[0][name] for name in first.au_names} == {kinds[1][name] for name in second.au_names}
    assert list(first.frames)[:7] == list(second.frames)[:7]
    assert list(first.tracks) == list(second.tracks)
    assert np.isin(second.frames[list(second.au_names)].to_numpy(), (-1, 0, 1)).all()
