"""Command-line arguments find the right inputs, and each input gets its own folder name."""

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import MediaError
from auscan.media.discover import MediaInput, find_media, output_names


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a typical folder and make it the working folder."""
    for name in (
        "talk.mp4",
        "day1/clip10.MOV",
        "day1/clip2.mov",
        "day1/face.jpg",
        "day1/notes.txt",
        "day1/.hidden.mp4",
        "day1/.cache/old.mp4",
        "day1/deep/er/b.webm",
        "texts/readme.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(inputs: list[str], folders_as_video: bool = False) -> list[str]:
    """Return the found paths, or `! message` for errors."""
    found = find_media(inputs, folders_as_video)
    return [f"! {item.error}" if item.error else item.path.as_posix() for item in found]


def test_a_folder_is_searched_at_any_depth_in_natural_order(tree: Path) -> None:
    assert names(["day1"]) == ["day1/clip2.mov", "day1/clip10.MOV", "day1/deep/er/b.webm", "day1/face.jpg"]


def test_a_file_given_by_its_path_may_have_any_suffix(tree: Path) -> None:
    assert names(["day1/notes.txt", "talk.mp4"]) == ["day1/notes.txt", "talk.mp4"]


def test_globs_are_expanded_to_media_and_folders(tree: Path) -> None:
    assert names(["day1/clip*"]) == ["day1/clip2.mov", "day1/clip10.MOV"]
    assert names(["**/*.webm"]) == ["day1/deep/er/b.webm"]
    assert names(["d*"]) == names(["day1"])


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tree: Path) -> None:
    (tree / "take[1].mp4").touch()
    assert names(["take[1].mp4"]) == ["take[1].mp4"]


def test_a_file_given_twice_is_one_input(tree: Path) -> None:
    assert names(["talk.mp4", "./talk.mp4", str(tree / "talk.mp4"), "*.mp4"]) == ["talk.mp4"]


def test_two_broken_links_with_one_target_are_two_errors(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).symlink_to("nothing.mp4")
    found = find_media([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")])
    assert [(item.path.name, item.error is not None) for item in found] == [("a.mp4", True), ("b.mp4", True)]


def test_missing_inputs_are_errors_in_order_and_the_others_are_found(tree: Path) -> None:
    found = find_media(["gone.mp4", "empty", "texts", "*.avi", "talk.mp4"])
    assert [item.path.name for item in found] == ["gone.mp4", "empty", "texts", "*.avi", "talk.mp4"]
    assert all(isinstance(item.error, MediaError) for item in found[:4])
    assert found[4].error is None
    for item, words in zip(
        found, ["does not exist", "contains no video", "contains no video", "matches no"], strict=False
    ):
        assert words in str(item.error)
        assert item.path.name in str(item.error)


def test_a_path_that_cannot_be_reached_is_one_error(tree: Path) -> None:
    found = find_media(["x" * 300, "talk.mp4"])
    assert "cannot be reached" in str(found[0].error)
    assert found[1].error is None


def test_a_folder_read_as_a_video_is_one_input(tree: Path) -> None:
    assert names(["day1", "talk.mp4"], folders_as_video=True) == ["day1", "talk.mp4"]
    assert names(["da*"], folders_as_video=True) == ["day1"]


def output(keys: list[str], assigned: dict[str, str] | None = None) -> list[str]:
    """Return the folder names of inputs with these keys."""
    return output_names([MediaInput(Path(key), key) for key in keys], assigned or {})


def test_the_key_is_the_path_below_the_given_folder(tree: Path) -> None:
    for word in ("day1", "./day1/", str(tree / "day1"), "../" + tree.name + "/day1"):
        assert [item.key for item in find_media([word])] == [
            *("clip2.mov", "clip10.MOV", "deep/er/b.webm", "face.jpg")
        ]
    assert [item.key for item in find_media(["day1/clip2.mov", "da*/*.jpg", "**/*.webm"])] == [
        *("clip2.mov", "day1/face.jpg", "day1/deep/er/b.webm")
    ]


def test_inputs_with_equal_keys_get_their_whole_paths(tree: Path) -> None:
    (tree / "day2").mkdir()
    (tree / "day2" / "face.jpg").touch()
    keys = [item.key for item in find_media(["day1", "day2"])]
    assert keys == ["clip2.mov", "clip10.MOV", "deep/er/b.webm", "day1/face.jpg", "day2/face.jpg"]


def test_a_folder_that_cannot_be_entered_is_an_error_in_the_search(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    *found, unreadable = find_media(["day1"])
    assert [item.path.name for item in found] == ["clip2.mov", "clip10.MOV", "face.jpg"]
    assert "day1/deep cannot be searched (Permission denied)" in str(unreadable.error)


def test_distinct_stems_are_the_names() -> None:
    assert output(["x/a.mp4", "b.tar.mov"]) == ["a", "b.tar"]


def test_equal_stems_get_their_suffix_and_then_their_folders() -> None:
    keys = ["a.mp4", "a.mov", "s1/a.mp4", "s2/A.mp4", "b.mp4"]
    first, *rest = output(keys)
    assert rest == ["a_mov", "s1_a_mp4", "s2_A_mp4", "b"]
    assert re.fullmatch("a_[0-9a-f]{12}", first), "a_mp4 is a candidate of other inputs, too"


def test_a_derived_name_is_never_the_stem_of_another_file() -> None:
    derived, mov, own = output(["a.mp4", "a.mov", "a_mp4.avi"])
    assert re.fullmatch("a_[0-9a-f]{12}", derived)
    assert mov == "a_mov"
    assert own == "a_mp4_avi"


def test_names_do_not_depend_on_the_order() -> None:
    keys = ["a.mp4", "a.mov", "s1/a.mp4", "s2/A.mp4", "a_mp4.avi", "b.mp4"]
    assert dict(zip(keys, output(keys), strict=True)) == dict(
        zip(keys[::-1], output(keys[::-1]), strict=True)
    )


def test_an_input_keeps_its_name_when_others_are_added() -> None:
    assert output(["a.mp4"]) == ["a"]
    assert output(["a.mov", "a.mp4", "s/a.mov"], {"a.mp4": "a"})[1] == "a"
    assert output(["s/a.mp4"], {"a.mp4": "a"}) == ["a_mp4"]


def test_names_of_long_paths_fit_the_limit_of_file_systems() -> None:
    deep = "/".join(["a folder of some length"] * 20)
    names = output([f"{deep}/{'é' * 80}.mp4", f"{deep}/x/{'é' * 80}.mp4"])
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 255 for name in names)


def test_folders_keep_their_dots_and_their_resolved_name(tree: Path) -> None:
    (tree / "v1.5").mkdir()
    items = find_media(["v1.5", "."], folders_as_video=True)
    assert output_names([*items, MediaInput(Path("v1.mp4"), "v1.mp4")], {}) == ["v1.5", tree.name, "v1"]


@given(
    st.sets(
        st.sampled_from(
            ["a.mp4", "a.mov", "s/a.mp4", "a_mp4.mp4", "a_mp4_2.avi", "A.mp4", "t/A_MP4.mov", "a"]
        )
    )
)
def test_names_are_distinct_even_if_case_is_ignored(keys: set[str]) -> None:
    found = [name.casefold() for name in output(sorted(keys))]
    assert len(set(found)) == len(keys)
