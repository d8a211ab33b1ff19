"""What a user may type finds what was meant, and each input gets a folder name of its own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import MediaError
from auscan.media.discover import find_media, output_names


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like those people have; the test runs inside it."""
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
    """The found paths, or `! message`."""
    found = find_media(inputs, folders_as_video)
    return [f"! {item.error}" if item.error else item.path.as_posix() for item in found]


def test_a_folder_is_searched_at_any_depth_in_natural_order(tree: Path) -> None:
    assert names(["day1"]) == ["day1/clip2.mov", "day1/clip10.MOV", "day1/deep/er/b.webm", "day1/face.jpg"]


def test_a_file_is_taken_as_given_whatever_its_name(tree: Path) -> None:
    assert names(["day1/notes.txt", "talk.mp4"]) == ["day1/notes.txt", "talk.mp4"]


def test_globs_are_expanded_to_media_and_folders(tree: Path) -> None:
    assert names(["day1/clip*"]) == ["day1/clip2.mov", "day1/clip10.MOV"]
    assert names(["**/*.webm"]) == ["day1/deep/er/b.webm"]
    assert names(["d*"]) == names(["day1"])


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tree: Path) -> None:
    (tree / "take[1].mp4").touch()
    assert names(["take[1].mp4"]) == ["take[1].mp4"]


def test_a_file_named_twice_is_done_once(tree: Path) -> None:
    assert names(["talk.mp4", "./talk.mp4", str(tree / "talk.mp4"), "*.mp4"]) == ["talk.mp4"]


def test_what_leads_nowhere_is_reported_in_its_place_and_the_rest_is_found(tree: Path) -> None:
    found = find_media(["gone.mp4", "empty", "texts", "*.avi", "talk.mp4"])
    assert [item.path.name for item in found] == ["gone.mp4", "empty", "texts", "*.avi", "talk.mp4"]
    assert all(isinstance(item.error, MediaError) for item in found[:4])
    assert found[4].error is None
    for item, words in zip(
        found, ["does not exist", "has no video", "has no video", "matches no"], strict=False
    ):
        assert words in str(item.error)
        assert item.path.name in str(item.error)


def test_a_path_that_cannot_be_reached_is_an_error_of_its_own(tree: Path) -> None:
    found = find_media(["x" * 300, "talk.mp4"])
    assert "cannot be reached" in str(found[0].error)
    assert found[1].error is None


def test_a_folder_read_as_a_video_is_one_input(tree: Path) -> None:
    assert names(["day1", "talk.mp4"], folders_as_video=True) == ["day1", "talk.mp4"]
    assert names(["da*"], folders_as_video=True) == ["day1"]


def test_stems_that_differ_are_the_names() -> None:
    assert output_names([Path("x/a.mp4"), Path("b.tar.mov")]) == ["a", "b.tar"]


def test_equal_stems_take_their_suffix_and_then_a_number() -> None:
    paths = [Path("a.mp4"), Path("a.mov"), Path("s1/a.mp4"), Path("s2/A.mp4"), Path("b.mp4")]
    assert output_names(paths) == ["a_mp4", "a_mov", "a_mp4_2", "A_mp4_3", "b"]


def test_a_made_up_name_never_takes_one_that_belongs_to_a_file() -> None:
    assert output_names([Path("a.mp4"), Path("a.mov"), Path("a_mp4.avi")]) == ["a_mp4_2", "a_mov", "a_mp4"]


def test_folders_keep_their_dots_and_their_true_name(tree: Path) -> None:
    (tree / "v1.5").mkdir()
    assert output_names([Path("v1.5"), Path("v1.mp4"), Path()]) == ["v1.5", "v1", tree.name]


@given(
    st.lists(
        st.sampled_from(["a.mp4", "a.mov", "s/a.mp4", "a_mp4.mp4", "a_mp4_2.avi", "A.mp4", "t/A_MP4.mov"])
    )
)
def test_names_are_always_distinct_on_every_disk(given_paths: list[str]) -> None:
    found = [name.casefold() for name in output_names([Path(p) for p in given_paths])]
    assert len(found) == len(given_paths)
    assert len(set(found)) == len(found)
