"""Test the index and report of a folder tree in the format of Aff-Wild2."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.datasets.find import Roots
from auscan.datasets.index import Index, read_index
from auscan.datasets.prepare import prepare

from .conftest import TEMPLATE_HEADER, touch_pictures, write_labels, write_numbered_video, write_text

ZEROS = ",".join("0" * 12)
UNLABELLED = ",".join(["-1"] * 12)
SMILE = "0,0,0,1,0,0,1,0,0,0,1,0"
PARTLY = "-1" + ",0" * 11
AT_25 = [i / 25 for i in range(10)]


def labels_folder(root: Path, edition: str = "6th ABAW Annotations") -> Path:
    return root / edition / "AU_Detection_Challenge"


def template(rows: dict[str, int], rest: str = "") -> str:
    lines = [f"{track}/{n:05d}.jpg,{rest}" for track, count in rows.items() for n in range(1, count + 1)]
    return "\n".join([TEMPLATE_HEADER, *lines]) + "\n"


def indexed(root: Path, **kinds: Any) -> tuple[Index, dict[str, Any]]:
    summary = prepare(root, root / "index", **kinds)
    return read_index(root / "index"), summary


def rows_of(index: Index, track: str) -> pd.DataFrame:
    return index.frames[index.frames["track"] == track].reset_index(drop=True)


def track_of(index: Index, name: str) -> dict[str, Any]:
    (row,) = index.tracks[index.tracks["track"] == name].to_dict("records")
    return row


def reasons(summary: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["reason"] for item in summary["unused"]}


def two_people(root: Path) -> Path:
    """Write one video of ten frames with a main person and a person on the left."""
    write_numbered_video(root / "batch1" / "900-30-1280x720.mp4", AT_25)
    for name, line in (("900-30-1280x720", SMILE), ("900-30-1280x720_left", ZEROS)):
        write_labels(labels_folder(root) / "Train_Set" / f"{name}.txt", [line] * 10)
        touch_pictures(root / "cropped_aligned" / name, range(1, 11))
    return root


def test_persons_of_one_video_share_its_clock_and_source_and_keep_their_own_pictures(tmp_path: Path) -> None:
    index, summary = indexed(two_people(tmp_path))
    for name in ("900-30-1280x720", "900-30-1280x720_left"):
        rows, track = rows_of(index, name), track_of(index, name)
        assert rows["timestamp"].tolist() == pytest.approx(AT_25)
        assert rows["image"].tolist() == [f"cropped_aligned/{name}/{n:05d}.jpg" for n in range(1, 11)]
        assert set(rows["source_video"]) == {"900-30-1280x720"}
        assert track["video"] == "batch1/900-30-1280x720.mp4"
        assert (track["rows"], track["frames_decoded"], track["surplus"]) == (10, 10, 0)
        assert list(track["warnings"]) == []
    assert rows_of(index, "900-30-1280x720")["AU12"].tolist() == [1] * 10
    assert summary["splits"]["train"]["positives"]["AU12"] == 10
    assert summary["unused"] == []


def test_the_index_has_the_types_that_others_rely_on(tmp_path: Path) -> None:
    index, _ = indexed(two_people(tmp_path))
    types = index.frames.dtypes.astype(str).to_dict()
    assert {types[au] for au in AFFWILD2_AUS} == {"int8"}
    assert (types["frame"], types["timestamp"], types["has_image"]) == ("int32", "float64", "bool")
    assert types["track"] == types["split"] == types["source_video"] == "category"
    assert index.root == tmp_path
    assert read_index(tmp_path / "index", root=Path("elsewhere")).root == Path("elsewhere")


@pytest.mark.parametrize(
    ("labels", "splits"),
    [
        ("Third ABAW Annotations/AU_Detection_Challenge", ("Train_Set", "Validation_Set")),
        ("3rd_ABAW_Annotations/AU_Detection_Challenge", ("Train_Set", "Validation_Set")),
        ("mine/deep/9th ABAW Annotations/AU_Detection_Challenge", ("Train_Set", "Validation_Set")),
        ("annotations/AU_Set", ("Training_Set", "Validation_Set")),
    ],
)
@pytest.mark.parametrize(
    "images", ["cropped_aligned", "cropped_aligned_new_50_vids", "x/cropped_aligned/cropped_aligned"]
)
@pytest.mark.parametrize("videos", ["batch2", "new_vids", "videos/batch1/batch1"])
def test_files_are_found_whatever_the_edition_called_their_folders(
    tmp_path: Path, labels: str, splits: tuple[str, str], images: str, videos: str
) -> None:
    write_labels(tmp_path / labels / splits[0] / "903.txt", [ZEROS] * 3)
    write_labels(tmp_path / labels / splits[1] / "video900_1.txt", [ZEROS] * 3)
    touch_pictures(tmp_path / images / "903", [1, 2, 3])
    touch_pictures(tmp_path / images / "video900_1", [1, 2, 3])
    (tmp_path / videos).mkdir(parents=True)
    (tmp_path / videos / "903.avi").write_bytes(b"never a video")
    index, summary = indexed(tmp_path)
    assert dict(zip(index.tracks["track"], index.tracks["split"], strict=True)) == {
        "903": "train",
        "video900_1": "val",
    }
    assert index.frames["has_image"].all()
    assert track_of(index, "903")["video"] == f"{videos}/903.avi"
    assert summary["unused"] == []


def test_rows_without_pictures_and_pictures_without_rows_are_counted(tmp_path: Path) -> None:
    write_labels(labels_folder(tmp_path) / "Train_Set" / "903.txt", [UNLABELLED, SMILE, PARTLY, SMILE])
    folder = touch_pictures(tmp_path / "cropped_aligned" / "903", [0, 1, 4, 5, 6, 100000])
    (folder / "00003.jpg").write_bytes(b"")
    (folder / "notes.jpg").write_bytes(b"x")
    (folder / "4.jpg").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    index, summary = indexed(tmp_path)
    assert rows_of(index, "903")["has_image"].tolist() == [True, False, False, True]
    assert rows_of(index, "903")["image"].isna().tolist() == [False, True, True, False]
    assert rows_of(index, "903")["image"][3] == "cropped_aligned/903/00004.jpg"
    track = track_of(index, "903")
    assert (track["rows_labelled"], track["rows_partly_labelled"]) == (2, 1)
    assert (track["rows_without_image"], track["rows_labelled_without_image"]) == (2, 1)
    assert track["images_beyond"] == 4
    warnings_text = " / ".join(track["warnings"])
    assert "4 pictures have a frame number without a row" in warnings_text
    assert "1 pictures are empty (0 bytes), such as 00003.jpg" in warnings_text
    assert "2 files are not numbered pictures or repeat a number, such as 4.jpg" in warnings_text
    assert summary["missing_images"] == [
        {
            "track": "903",
            "split": "train",
            "rows": 4,
            "rows_without_image": 2,
            "rows_labelled_without_image": 1,
        }
    ]
    assert summary["images_beyond"] == [{"track": "903", "split": "train", "rows": 4, "images_beyond": 4}]


def test_picture_numbers_with_six_or_fewer_digits_match_their_label_lines(tmp_path: Path) -> None:
    write_labels(labels_folder(tmp_path) / "Train_Set" / "903.txt", [ZEROS] * 100_001)
    folder = touch_pictures(tmp_path / "cropped_aligned" / "903", [99_999, 100_000, 100_001])
    (folder / "7.jpg").write_bytes(b"x")
    rows = rows_of(indexed(tmp_path)[0], "903")
    assert rows["frame"][rows["has_image"]].tolist() == [7, 99_999, 100_000, 100_001]
    assert rows["image"][99_999] == "cropped_aligned/903/100000.jpg"


@pytest.mark.parametrize(
    ("lines", "surplus", "is_warned"),
    [(8, -2, False), (11, 1, False), (12, 2, False), (13, 3, True), (7, -3, True)],
)
def test_lengths_may_differ_by_two_without_a_warning(
    tmp_path: Path, lines: int, surplus: int, is_warned: bool
) -> None:
    write_numbered_video(tmp_path / "batch1" / "903.mp4", [t + 0.5 for t in AT_25])
    write_labels(labels_folder(tmp_path) / "Train_Set" / "903.txt", [ZEROS] * lines)
    touch_pictures(tmp_path / "cropped_aligned" / "903", range(1, lines + 1))
    index, summary = indexed(tmp_path)
    times_s = rows_of(index, "903")["timestamp"]
    assert times_s.tolist() == pytest.approx([0.5 + i / 25 for i in range(lines)])
    assert track_of(index, "903")["surplus"] == surplus
    assert bool(summary["length_mismatches"]) == is_warned
    assert bool(len(track_of(index, "903")["warnings"])) == is_warned


def test_frame_rates_are_measured_and_not_read_from_names(tmp_path: Path) -> None:
    uneven = [0, 0.04, 0.08, 0.3, 0.34, 0.38]
    for name, times_s in (("900-60-1280x720", AT_25), ("901-25-1280x720", AT_25), ("903", uneven)):
        write_numbered_video(tmp_path / "batch1" / f"{name}.mp4", times_s)
        write_labels(labels_folder(tmp_path) / "Train_Set" / f"{name}.txt", [ZEROS] * len(times_s))
    index, summary = indexed(tmp_path)
    assert [entry["track"] for entry in summary["frame_rate_surprises"]] == ["900-60-1280x720", "903"]
    assert track_of(index, "900-60-1280x720")["rate_hz"] == pytest.approx(25)
    assert track_of(index, "900-60-1280x720")["named_rate_hz"] == 60
    assert track_of(index, "903")["is_uneven"]
    assert rows_of(index, "903")["timestamp"].tolist() == pytest.approx(uneven)


def test_without_a_readable_video_times_are_assumed_with_a_warning(tmp_path: Path) -> None:
    for name in ("900-24-1280x720", "903", "904"):
        write_labels(labels_folder(tmp_path) / "Train_Set" / f"{name}.txt", [ZEROS] * 3)
    (tmp_path / "batch1").mkdir()
    (tmp_path / "batch1" / "904.mp4").write_bytes(b"not a video")
    index, summary = indexed(tmp_path)
    assert rows_of(index, "900-24-1280x720")["timestamp"].tolist() == pytest.approx([0, 1 / 24, 2 / 24])
    assert rows_of(index, "903")["timestamp"].tolist() == pytest.approx([0, 1 / 30, 2 / 30])
    assert track_of(index, "900-24-1280x720")["time_source"] == "name"
    assert track_of(index, "903")["time_source"] == "assumed"
    assert "the video cannot be used" in " ".join(track_of(index, "904")["warnings"])
    assert "no picture folder" in " ".join(track_of(index, "904")["warnings"])
    assert summary["splits"]["train"]["tracks_without_video"] == 2
    assert summary["splits"]["train"]["tracks_without_pictures"] == 3


@pytest.mark.parametrize("rest", ["", "1,0,1,1,1,0,0,1,0,0,0,1"])
def test_a_template_determines_the_rows_of_the_test_set_and_provides_no_labels(
    tmp_path: Path, rest: str
) -> None:
    two_people(tmp_path)
    rows = {"905_left": 5, "video900_1": 3}
    write_text(tmp_path / "test" / "CVPR_6th_ABAW_AU_test_set_example.txt", template(rows, rest))
    names = "905_left\nvideo900_1\n"
    write_text(tmp_path / "test" / "Action_Unit_Detection_Challenge_test_set_release.txt", names)
    touch_pictures(tmp_path / "cropped_aligned" / "905_left", [2, 3, 9])
    touch_pictures(tmp_path / "cropped_aligned" / "video900_1", [1])
    index, summary = indexed(tmp_path)
    assert index.tracks[index.tracks["split"] == "test"]["track"].tolist() == ["905_left", "video900_1"]
    left = rows_of(index, "905_left")
    assert left["frame"].tolist() == [1, 2, 3, 4, 5]
    assert left["has_image"].tolist() == [False, True, True, False, False]
    assert np.all(left[list(AFFWILD2_AUS)] == -1)
    assert summary["splits"]["test"]["rows"] == 8
    assert summary["splits"]["test"]["all_ones_f1"] is None


def test_a_list_without_template_uses_the_expected_count_or_the_longer_of_video_and_pictures(
    tmp_path: Path,
) -> None:
    two_people(tmp_path)
    write_numbered_video(tmp_path / "new_vids" / "906.mp4", AT_25)
    touch_pictures(tmp_path / "cropped_aligned" / "906", [1, 12])
    touch_pictures(tmp_path / "cropped_aligned" / "907", [2])
    write_text(tmp_path / "AU_test_set.txt", "906\n907\n908\n900-30-1280x720\n")
    write_text(tmp_path / "frames_in_test.txt", "907,402\n")
    index, summary = indexed(tmp_path)
    assert (track_of(index, "906")["rows"], track_of(index, "907")["rows"]) == (12, 402)
    warning = "no template: 12 rows, the larger of frames in the video (10) and highest picture number (12)"
    assert warning in track_of(index, "906")["warnings"]
    assert "no video and no pictures" in reasons(summary)["test track 908"]
    # A labelled track stays in the split of its labels.
    assert track_of(index, "900-30-1280x720")["split"] == "train"
    assert "1 tracks have labels" in reasons(summary)["the lists of the test set"]


def test_files_of_other_tasks_and_unknown_files_are_reported(tmp_path: Path) -> None:
    two_people(tmp_path)
    base = tmp_path / "6th ABAW Annotations"
    write_labels(base / "VA_Estimation_Challenge" / "Train_Set" / "903.txt", ["-5,-5"])
    write_labels(base / "EXPR_Recognition_Challenge" / "Train_Set" / "903.txt", ["-1"])
    write_text(labels_folder(tmp_path) / "Train_Set" / "broken.txt", "AU1,AU2\n")
    write_text(labels_folder(tmp_path) / "Train_Set" / ".DS_Store", "x")
    write_text(labels_folder(tmp_path) / "Train_Set" / "table.csv", "x")
    write_text(tmp_path / "Valence_Arousal_Estimation_Challenge_test_set_release.txt", "909\n")
    write_text(tmp_path / "README.txt", "Do read this.\n")
    write_text(tmp_path / "truth" / "a.npz", "x")
    write_text(tmp_path / "truth" / "b.npz", "x")
    write_text(tmp_path / "__MACOSX" / "._903.mp4", "x")
    touch_pictures(tmp_path / "cropped" / "903", [1])
    touch_pictures(tmp_path / "cropped_aligned" / "910", [1])
    write_numbered_video(tmp_path / "batch2" / "910.mp4", AT_25[:2])
    write_numbered_video(tmp_path / "batch2" / "900-30-1280x720.avi", AT_25)
    unused_reasons = reasons(indexed(tmp_path)[1])
    edition = "6th ABAW Annotations"
    assert set(unused_reasons) == {
        f"{edition}/VA_Estimation_Challenge",
        f"{edition}/EXPR_Recognition_Challenge",
        f"{edition}/AU_Detection_Challenge/Train_Set/broken.txt",
        f"{edition}/AU_Detection_Challenge/Train_Set/table.csv",
        "Valence_Arousal_Estimation_Challenge_test_set_release.txt",
        "README.txt",
        "truth/*.npz",
        "cropped",
        "cropped_aligned/910",
        "batch2/910.mp4",
        "batch2/900-30-1280x720.avi",
    }
    assert unused_reasons["truth/*.npz"].startswith("2 files")
    assert "another task" in unused_reasons[f"{edition}/VA_Estimation_Challenge"]
    assert "no label lines" in unused_reasons[f"{edition}/AU_Detection_Challenge/Train_Set/broken.txt"]
    assert "unaligned crops" in unused_reasons["cropped"]
    assert unused_reasons["batch2/910.mp4"] == "no labels and no entry in a test list"


def test_unaligned_crops_are_used_if_there_are_no_aligned_ones(tmp_path: Path) -> None:
    write_labels(labels_folder(tmp_path) / "Train_Set" / "903.txt", [ZEROS])
    touch_pictures(tmp_path / "cropped" / "903", [1])
    assert indexed(tmp_path)[0].frames["image"].tolist() == ["cropped/903/00001.jpg"]


def test_the_newest_edition_is_used_unless_another_one_is_given(tmp_path: Path) -> None:
    """Labels were revised between editions, so editions must not be mixed."""
    for edition, line in (("Third ABAW Annotations", SMILE), ("6th_ABAW_Annotations", ZEROS)):
        write_labels(labels_folder(tmp_path, edition) / "Train_Set" / "903.txt", [line])
    index, summary = indexed(tmp_path)
    assert index.frames["AU12"].tolist() == [0]
    assert "another edition" in reasons(summary)["Third ABAW Annotations/AU_Detection_Challenge"]
    older = Roots(annotations=(tmp_path / "Third ABAW Annotations",))
    assert indexed(tmp_path, roots=older)[0].frames["AU12"].tolist() == [1]


def test_a_track_in_two_splits_is_used_once_and_reported(tmp_path: Path) -> None:
    for split in ("Train_Set", "Validation_Set"):
        write_labels(labels_folder(tmp_path) / split / "903.txt", [ZEROS])
    index, summary = indexed(tmp_path)
    assert index.tracks["split"].tolist() == ["train"]
    assert (
        "already has labels"
        in reasons(summary)["6th ABAW Annotations/AU_Detection_Challenge/Validation_Set/903.txt"]
    )


def test_a_recording_with_parts_in_two_splits_is_reported(tmp_path: Path) -> None:
    write_labels(labels_folder(tmp_path) / "Train_Set" / "video900_1.txt", [ZEROS])
    write_labels(labels_folder(tmp_path) / "Validation_Set" / "video900_2_left.txt", [ZEROS])
    assert indexed(tmp_path)[1]["sources_in_two_splits"] == {"video900": ["train", "val"]}


def test_each_kind_of_file_may_be_in_another_folder(tmp_path: Path) -> None:
    write_labels(tmp_path / "a" / "AU_Detection_Challenge" / "Train_Set" / "903.txt", [ZEROS] * 2)
    write_numbered_video(tmp_path / "b" / "903.mp4", AT_25[:2])
    touch_pictures(tmp_path / "c" / "faces" / "903", [2])
    touch_pictures(tmp_path / "c" / "faces" / "905", [1])
    write_text(tmp_path / "d" / "my_test.txt", template({"905": 1}))
    roots = Roots(
        videos=(tmp_path / "b",), images=(tmp_path / "c" / "faces",), lists=(tmp_path / "d" / "my_test.txt",)
    )
    prepare(tmp_path / "a", tmp_path / "index", roots=roots)
    index = read_index(tmp_path / "index")
    assert rows_of(index, "903")["image"][1] == str(tmp_path / "c" / "faces" / "903" / "00002.jpg")
    assert (index.root / rows_of(index, "905")["image"][0]).is_file()
    assert track_of(index, "903")["video"] == str(tmp_path / "b" / "903.mp4")


def test_the_same_tree_gives_the_same_bytes_and_its_index_is_not_searched(tmp_path: Path) -> None:
    two_people(tmp_path)
    first, summary = indexed(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    assert indexed(tmp_path)[1] == summary
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before
    assert set(before) == {"frames.parquet", "tracks.parquet", "report.md", "report.json"}
    assert first.metadata["dataset"] == "affwild2"


def test_a_failed_run_keeps_the_previous_index(tmp_path: Path) -> None:
    two_people(tmp_path)
    indexed(tmp_path)
    for path in labels_folder(tmp_path).rglob("*.txt"):
        path.write_text("")
    with pytest.raises(InputError, match=r"not hold a usable track\. 5 files or folders could not be used"):
        prepare(tmp_path, tmp_path / "index")
    assert len(read_index(tmp_path / "index").tracks) == 2


def test_tables_of_two_runs_are_not_read_together(tmp_path: Path) -> None:
    two_people(tmp_path)
    indexed(tmp_path)
    tracks = (tmp_path / "index" / "tracks.parquet").read_bytes()
    write_labels(labels_folder(tmp_path) / "Train_Set" / "900-30-1280x720.txt", [ZEROS] * 10)
    indexed(tmp_path)
    (tmp_path / "index" / "tracks.parquet").write_bytes(tracks)
    with pytest.raises(InputError, match="are from two different runs"):
        read_index(tmp_path / "index")


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), (b"junk", "cannot be read")])
def test_a_missing_index_and_a_damaged_one_raise_different_errors(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "frames.parquet").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_index(tmp_path)


def test_a_folder_without_a_data_set_is_refused_with_the_names_that_were_searched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="AU_Detection_Challenge"):
        prepare(tmp_path, tmp_path / "index")
    with pytest.raises(InputError, match="is not a folder"):
        prepare(tmp_path / "nowhere", tmp_path / "index")
    with pytest.raises(InputError, match="'fera' is not a supported data set"):
        prepare(tmp_path, tmp_path / "index", "fera")
