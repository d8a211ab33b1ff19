"""Line k of an annotation file is frame k, for every variant of the format."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import InputError
from auscan.results.readers.annotations import label_value, read_annotations

from .conftest import HEADER, label_line, write_text

ONES, ZEROS = ",".join("1" * 12), ",".join("0" * 12)
NOT_ANNOTATED = ",".join(["-1"] * 12)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n", "\t\n", ",\n", "\r"])
@pytest.mark.parametrize("tail", ["", "last", "\n\n", "\r\n  \r\n"])
def test_line_ends_blanks_and_empty_last_lines_change_nothing(tmp_path: Path, end: str, tail: str) -> None:
    text = end.join([HEADER, *(label_line(n) for n in (1, 2, 4095))])
    path = write_text(tmp_path / "a.txt", text if tail == "last" else text + end + tail)
    found = read_annotations(path)
    assert found.labels.dtype == np.int8
    assert ["".join(map(str, row)) for row in found.labels] == [f"{n:012b}" for n in (1, 2, 4095)]
    assert found.warnings == ()


def test_numbers_may_be_floats_and_the_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    text = f"\ufeff{HEADER}\n" + ", ".join(["1.0"] * 11 + [" -1.0 "]) + "\n"
    assert read_annotations(write_text(tmp_path / "a.txt", text)).labels.tolist() == [[1] * 11 + [-1]]


def test_the_header_is_skipped_by_position_whatever_its_text(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", f"some other words\n{ONES}\n")
    assert read_annotations(path).labels.tolist() == [[1] * 12]


def test_a_first_line_of_labels_is_skipped_with_a_warning(tmp_path: Path) -> None:
    found = read_annotations(write_text(tmp_path / "a.txt", f"{ONES}\n{ZEROS}\n"))
    assert found.labels.tolist() == [[0] * 12]
    assert found.warnings == ("its first line contains labels, but was skipped as the header",)


def test_rows_may_be_partly_annotated(tmp_path: Path) -> None:
    line = "-1,0,1,-1,0,0,0,0,0,0,0,1"
    found = read_annotations(write_text(tmp_path / "a.txt", f"{HEADER}\n{NOT_ANNOTATED}\n{line}\n"))
    assert found.labels.tolist() == [[-1] * 12, [-1, 0, 1, -1, 0, 0, 0, 0, 0, 0, 0, 1]]


def test_invalid_lines_keep_their_place(tmp_path: Path) -> None:
    """If one were left out, all later labels would belong to the wrong frame."""
    lines = [ONES, "", "1,1,1", ONES[:-1] + "2", ONES[:-1] + "nan", ZEROS]
    found = read_annotations(write_text(tmp_path / "a.txt", "\n".join([HEADER, *lines])))
    assert found.labels[:, 0].tolist() == [1, -1, -1, 1, 1, 0]
    assert found.labels[:, 11].tolist() == [1, -1, -1, -1, -1, 0]
    assert found.warnings == (
        "1 label lines empty, the first for frame 2: taken as not annotated",
        "2 label lines with a value other than 0, 1 or -1, the first for frame 4: taken as not annotated",
        "1 label lines with other than 12 columns, the first for frame 3: taken as not annotated",
    )


def test_the_eight_columns_of_the_first_edition_are_assigned_to_their_aus(tmp_path: Path) -> None:
    found = read_annotations(write_text(tmp_path / "a.txt", "AU1,...\n1,0,1,0,1,0,1,0\n"))
    assert found.labels.tolist() == [[1, 0, 1, 0, -1, -1, 1, 0, -1, -1, 0, -1]]
    assert "only 8 columns" in found.warnings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no label lines"),
        (HEADER, "no label lines"),
        (f"{HEADER}\n\n \n", "no label lines"),
        ("valence,arousal\n0.1,0.2\n", "2 columns, not 12"),
    ],
)
def test_files_without_labels_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_annotations(write_text(tmp_path / "a.txt", text))


@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=12, max_size=12), min_size=1, max_size=30))
def test_written_labels_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    text = "\n".join([HEADER, *(",".join(map(str, row)) for row in rows)])
    path = write_text(tmp_path_factory.mktemp("labels") / "a.txt", text)
    assert read_annotations(path).labels.tolist() == rows


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("0.0", 0), (" -1 ", -1), ("0.5", None), ("", None), ("x", None)]
)
def test_a_label_value_is_one_zero_minus_one_or_none(text: str, value: int | None) -> None:
    assert label_value(text) == value
