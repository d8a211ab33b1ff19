"""Files of coders and of other programs are read as codings; AUs that were not coded are unknown."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pympi
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.exports.openface import write_openface
from auscan.results.exports.pyfeat import write_pyfeat
from auscan.results.exports.tiers import write_elan
from auscan.results.readers.coding import EventCoding, FrameCoding
from auscan.results.readers.read import read_codings
from auscan.results.result import Result
from auscan.results.table import active_columns

from .conftest import HEADER, label_line, write_text

AU12, AU23, AU24 = (AFFWILD2_AUS.index(name) for name in ("AU12", "AU23", "AU24"))


def frame_codings(path: Path) -> list[FrameCoding]:
    """Read codings that are all frame by frame."""
    codings = read_codings(path)
    assert all(isinstance(coding, FrameCoding) for coding in codings)
    return [coding for coding in codings if isinstance(coding, FrameCoding)]


def event_codings(path: Path) -> list[EventCoding]:
    """Read codings that are all events."""
    codings = read_codings(path)
    assert all(isinstance(coding, EventCoding) for coding in codings)
    return [coding for coding in codings if isinstance(coding, EventCoding)]


@pytest.mark.parametrize("name", [".", "aus.parquet", "aus.csv"])
def test_a_result_is_read_from_its_folder_or_a_table_in_it(tmp_path: Path, result: Result, name: str) -> None:
    result.save(tmp_path / "talk")
    codings = frame_codings(tmp_path / "talk" / name)
    assert [coding.face for coding in codings] == [0, 1]
    table = result.table
    for coding in codings:
        rows = table[table["face_id"] == coding.face]
        assert coding.frames.tolist() == [0, 1, 2, 3, 4, 5]
        assert coding.times_s is not None
        assert coding.times_s.tolist() == [0.5, 0.54, 0.6, 0.62, 0.72, 0.76]
        assert_array_equal(coding.labels[rows["frame"]], rows[active_columns(AFFWILD2_AUS)])
        assert np.isnan(np.delete(coding.labels, rows["frame"], axis=0)).all()
        assert coding.probabilities is not None
        assert coding.intensities is None


def test_an_exported_eaf_is_read_back_with_the_same_events(tmp_path: Path, result: Result) -> None:
    (path,) = write_elan(result, tmp_path)
    for coding in event_codings(path):
        events = result.events[result.events["face_id"] == coding.face]
        assert coding.events["AU"].tolist() == events["AU"].tolist()
        assert_allclose(coding.events[["onset", "offset"]], events[["onset", "offset"]], atol=0.0011)
        assert coding.au_names == tuple(name for name in AFFWILD2_AUS if name != "AU23")


def test_exported_openface_and_pyfeat_files_are_read_back_with_the_same_frames(
    tmp_path: Path, result: Result
) -> None:
    table = result.table
    for path in [*write_openface(result, tmp_path), *write_pyfeat(result, tmp_path)]:
        for coding in frame_codings(path):
            rows = table[(table["face_id"] == coding.face) & (table["success"] == 1)]
            there = np.isin(coding.frames, rows["frame"])
            assert there.sum() == len(rows)
            openface, au12 = "openface" in path.name, coding.au_names.index("AU12")
            if openface:
                assert coding.times_s is not None
                assert_allclose(coding.times_s[there], rows["timestamp"], atol=1e-6)
                assert_array_equal(coding.labels[there, au12], rows["AU12_c"])
                assert np.isnan(coding.labels[~there]).all()
            else:
                assert coding.times_s is None
                assert_array_equal(coding.labels[there, au12], rows["AU12"] >= 0.5)
            empty = {"AU23", "AU24"} if openface else {"AU23"}  # AU23 is untrained; OpenFace has no AU24
            assert coding.au_names == tuple(name for name in AFFWILD2_AUS if name not in empty)


def eaf(path: Path, tiers: dict[str, list[tuple[int, int, str]]]) -> Path:
    """Write an .eaf file with annotations (begin ms, end ms, text) by tier; return its path."""
    document = pympi.Eaf()
    document.remove_tier("default")
    for name, annotations in tiers.items():
        document.add_tier(name)
        for annotation in annotations:
            document.add_annotation(name, *annotation)
    document.to_file(str(path))
    return path


def test_tier_names_are_recognised_in_every_spelling(tmp_path: Path) -> None:
    tiers = {
        "AU12": [(1000, 2000, "C"), (3000, 3500, "left")],
        "au_4 face 2": [(500, 700, "")],
        "AU 1@anna": [],
        "gaze": [(0, 100, "up")],
        "AU120": [(0, 100, "")],
    }
    one, other = event_codings(eaf(tmp_path / "anna.eaf", tiers))
    assert (one.face, other.face) == (None, 2)
    assert one.events.to_numpy().tolist() == [["AU12", 1.0, 2.0], ["AU12", 3.0, 3.5]]
    assert other.events.to_numpy().tolist() == [["AU04", 0.5, 0.7]]
    assert one.au_names == ("AU01", "AU12")


def test_tiers_of_aus_that_no_model_detects_are_read(tmp_path: Path) -> None:
    (coding,) = event_codings(eaf(tmp_path / "a.eaf", {"AU33": [(0, 100, "")], "AU17": []}))
    assert coding.au_names == ("AU17", "AU33")
    assert coding.events["AU"].tolist() == ["AU33"]


def test_two_tiers_of_one_au_are_one_coding(tmp_path: Path) -> None:
    tiers = {"AU12 left": [(0, 100, ""), (200, 300, "")], "AU12 right": [(50, 150, "")]}
    (coding,) = event_codings(eaf(tmp_path / "a.eaf", tiers))
    assert coding.events[["onset", "offset"]].to_numpy().tolist() == [[0.0, 0.15], [0.2, 0.3]]


def test_a_text_of_aff_wild2_has_no_times_and_minus_one_is_unknown(tmp_path: Path) -> None:
    lines = [HEADER, label_line(1), ",".join(["-1"] * 12), label_line(2048)]
    (coding,) = frame_codings(write_text(tmp_path / "a.txt", "\n".join(lines)))
    assert coding.times_s is None
    assert coding.frames.tolist() == [0, 1, 2]
    assert_array_equal(coding.labels[:, 0], [0, np.nan, 1])
    assert_array_equal(coding.labels[:, 11], [1, np.nan, 0])


def test_values_of_openface_rows_without_a_face_are_unknown(tmp_path: Path) -> None:
    rows = ["1, 0, 0.0, 0.9, 1, 2.5, 1.0", "2, 0, 0.04, 0.1, 0, 2.5, 1.0"]
    text = "\n".join(["frame, face_id, timestamp, confidence, success, AU12_r, AU12_c", *rows])
    (coding,) = frame_codings(write_text(tmp_path / "a.csv", text))
    assert coding.au_names == ("AU12",)
    assert_array_equal(coding.labels[:, 0], [1, np.nan])
    assert coding.intensities is not None
    assert_array_equal(coding.intensities[:, 0], [2.5, np.nan])
    assert coding.probabilities is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.eaf", "<ANNOTATION_DOCUMENT", "cannot be read as an .eaf"),
        ("a.eaf", "<html/>", "is not an .eaf"),
        ("a.eaf", '<ANNOTATION_DOCUMENT><HEADER/><TIER TIER_ID="gaze"/></ANNOTATION_DOCUMENT>', "gaze"),
        ("a.csv", "a,b\n1,2\n", "is not a supported coding file"),
        ("a.csv", "frame,confidence,success,AU12_c\n1,1,1,1\n", "lacks timestamp"),
        ("a.mp4", "film", "is not a supported coding file"),
        ("a.txt", "", "no label lines"),
    ],
)
def test_an_unsupported_file_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_codings(write_text(tmp_path / name, text))


def test_a_missing_path_and_a_result_without_faces_are_refused(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_codings(tmp_path / "nothing")
    make_result([0.0, 0.04], []).save(tmp_path / "nobody")
    with pytest.raises(InputError, match="has no face"):
        read_codings(tmp_path / "nobody")
