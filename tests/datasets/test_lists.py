"""Text files around the test set are told apart by what is in them, and placeholders are never read."""

from pathlib import Path

import pytest

from auscan.core.errors import InputError
from auscan.datasets.lists import image_location, kind_of, read_counts, read_list, read_template

from .conftest import HEADER, TEMPLATE_HEADER, write_text


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("Action_Unit_Detection_Challenge_test_set_release.txt", "900-30-1280x720_left\nvideo900\n", "list"),
        ("Valence_Arousal_Estimation_Challenge_test_set_release.txt", "video900\n", "sister"),
        ("Expression_Classification_Challenge_test_set_release.txt", "video900\n", "sister"),
        (
            "CVPR_5th_ABAW_VA_test_set_sample.txt",
            "image_location,valence,arousal\nvideo900/00001.jpg,\n",
            "sister",
        ),
        ("test_set_frames.txt", "video900,402\nvideo901, 12\n", "counts"),
        ("CVPR_5th_ABAW_AU_test_set_sample.txt", f"{TEMPLATE_HEADER}\r\nvideo900/00001.jpg,\r\n", "template"),
        ("train_set.txt", f"image,valence,arousal,expression,{HEADER}\nvideo900/00031.jpg,-5\n", "multitask"),
        ("README.txt", "Please read the licence.\nIt matters.\n", "other"),
        ("empty.txt", "\n\n", "other"),
    ],
)
def test_each_kind_of_text_file_is_recognised(tmp_path: Path, name: str, text: str, kind: str) -> None:
    assert kind_of(write_text(tmp_path / name, text)) == kind


def test_a_list_is_read_without_a_header(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "900-30-1280x720_left \r\nvideo900\r\n\r\nvideo900\r\n")
    assert read_list(path) == ["900-30-1280x720_left", "video900"]


def test_counts_are_read_and_a_strange_line_is_named(tmp_path: Path) -> None:
    assert read_counts(write_text(tmp_path / "a.txt", "video900,402\nvideo901,7\n")) == {
        "video900": 402,
        "video901": 7,
    }
    with pytest.raises(InputError, match="'video901,many'"):
        read_counts(write_text(tmp_path / "b.txt", "video900,402\nvideo901,many\n"))


@pytest.mark.parametrize("rest", ["", "1,0,1,1,1,0,0,1,0,0,0,1"])
def test_a_template_gives_its_frames_in_order_and_nothing_else(tmp_path: Path, rest: str) -> None:
    rows = [f"video900_1/{n:05d}.jpg,{rest}" for n in (1, 2, 3)] + [f"903_left/100000.jpg,{rest}", "nonsense"]
    template = read_template(write_text(tmp_path / "a.txt", "\n".join([TEMPLATE_HEADER, *rows])))
    assert template.numbers == {"video900_1": [1, 2, 3], "903_left": [100000]}
    assert template.strange == ["nonsense"]


def test_a_location_is_split_at_its_last_slash() -> None:
    assert image_location("a/b/00010.jpg") == ("a/b", 10)
    assert image_location("00010.jpg") is None
