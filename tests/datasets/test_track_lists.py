"""Test the parsing of track names, the folds of recordings, and the text files of the test set."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import InputError
from auscan.datasets.track_lists import (
    assign_folds,
    detect_kind,
    image_location,
    named_rate_hz,
    read_counts,
    read_list,
    read_template,
    source_video,
    video_name,
)

from .conftest import HEADER, TEMPLATE_HEADER, write_text

IDS = st.integers(1, 999)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a recording and the names of its videos, in every form of the specification."""
    number = draw(IDS)
    sized = f"{number}-{draw(st.sampled_from([14, 24, 25, 29, 30, 60]))}-{draw(IDS)}x{draw(IDS)}"
    source, mark = draw(st.sampled_from([(sized, "-"), (str(number), ""), (f"video{number}", "_")]))
    parts = draw(st.sets(st.integers(1, 12), max_size=4)) if mark else set()
    return source, [source, *(f"{source}{mark}{part}" for part in sorted(parts))]


@given(recordings(), st.sampled_from(["", "_left", "_right"]))
def test_every_track_name_is_mapped_to_its_video_and_its_recording(
    recording: tuple[str, list[str]], side: str
) -> None:
    source, videos = recording
    for video in videos:
        assert video_name(video + side) == video
        assert source_video(video + side) == source


@given(recordings())
def test_the_source_of_a_source_is_itself(recording: tuple[str, list[str]]) -> None:
    assert source_video(recording[0]) == recording[0]


@given(st.lists(recordings(), min_size=6, max_size=40), st.integers(2, 6), st.integers(0, 5), st.randoms())
def test_no_recording_is_in_two_folds(found: list[tuple[str, list[str]]], k: int, seed: int, random) -> None:
    sources = {source for source, _ in found}
    tracks = [video + side for _, videos in found for video in videos for side in ("", "_left", "_right")]
    if len(sources) < k:
        return
    fold = assign_folds(tracks, k, seed)
    assert set(fold) == set(tracks)
    for source in sources:
        assert len({fold[track] for track in tracks if source_video(track) == source}) == 1
    sizes = [len({source_video(t) for t in tracks if fold[t] == i}) for i in range(k)]
    assert max(sizes) - min(sizes) <= 1
    random.shuffle(tracks)
    assert assign_folds(tracks, k, seed) == fold
    assert assign_folds(sources, k, seed) == {source: fold[source] for source in sources}


def test_another_seed_gives_other_folds() -> None:
    names = [f"video{i}" for i in range(60)]
    assert assign_folds(names, 6, 0) != assign_folds(names, 6, 1)


def test_folds_are_the_same_on_every_machine_and_version() -> None:
    """Thresholds and ensembles refer to the folds of earlier runs."""
    names = ["900", "901-60-1920x1080-1", "901-60-1920x1080-2_left", "video900", "video901_1", "video901_2"]
    assert assign_folds(names, 2, 0) == {
        "900": 1,
        "901-60-1920x1080-1": 1,
        "901-60-1920x1080-2_left": 1,
        "video900": 0,
        "video901_1": 0,
        "video901_2": 0,
    }


@pytest.mark.parametrize("k", [0, 1, 3])
def test_impossible_folds_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"{k} folds cannot be made from 2 source videos"):
        assign_folds(["video1", "video2_1", "video2_left"], k)


@pytest.mark.parametrize(
    ("track", "video", "source", "rate_hz"),
    [
        ("900-30-1280x720", "900-30-1280x720", "900-30-1280x720", 30),
        ("901-60-1920x1080-2", "901-60-1920x1080-2", "901-60-1920x1080", 60),
        ("901-60-1920x1080-2_right", "901-60-1920x1080-2", "901-60-1920x1080", 60),
        ("video900_1_left", "video900_1", "video900", None),
        # Exactly one side is removed.
        ("903_left_left", "903_left", "903_left", None),
        ("left", "left", "left", None),
        ("video900_leftover", "video900_leftover", "video900_leftover", None),
    ],
)
def test_names_are_parsed_from_their_end(track: str, video: str, source: str, rate_hz: float | None) -> None:
    assert (video_name(track), source_video(track), named_rate_hz(track)) == (video, source, rate_hz)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("Action_Unit_Detection_Challenge_test_set_release.txt", "900-30-1280x720_left\nvideo900\n", "list"),
        ("Valence_Arousal_Estimation_Challenge_test_set_release.txt", "video900\n", "other_task"),
        ("Expression_Classification_Challenge_test_set_release.txt", "video900\n", "other_task"),
        (
            "CVPR_5th_ABAW_VA_test_set_sample.txt",
            "image_location,valence,arousal\nvideo900/00001.jpg,\n",
            "other_task",
        ),
        ("test_set_frames.txt", "video900,402\nvideo901, 12\n", "counts"),
        ("CVPR_5th_ABAW_AU_test_set_sample.txt", f"{TEMPLATE_HEADER}\r\nvideo900/00001.jpg,\r\n", "template"),
        ("train_set.txt", f"image,valence,arousal,expression,{HEADER}\nvideo900/00031.jpg,-5\n", "multitask"),
        ("README.txt", "Please read the licence.\nIt matters.\n", "other"),
        ("empty.txt", "\n\n", "other"),
    ],
)
def test_each_kind_of_text_file_is_recognised(tmp_path: Path, name: str, text: str, kind: str) -> None:
    assert detect_kind(write_text(tmp_path / name, text)) == kind


def test_a_list_is_read_without_a_header(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "900-30-1280x720_left \r\nvideo900\r\n\r\nvideo900\r\n")
    assert read_list(path) == ["900-30-1280x720_left", "video900"]


def test_counts_are_read_and_a_malformed_line_is_named(tmp_path: Path) -> None:
    assert read_counts(write_text(tmp_path / "a.txt", "video900,402\nvideo901,7\n")) == {
        "video900": 402,
        "video901": 7,
    }
    with pytest.raises(InputError, match="'video901,many'"):
        read_counts(write_text(tmp_path / "b.txt", "video900,402\nvideo901,many\n"))


@pytest.mark.parametrize("rest", ["", "1,0,1,1,1,0,0,1,0,0,0,1"])
def test_a_template_is_read_as_frame_numbers_in_order_without_labels(tmp_path: Path, rest: str) -> None:
    rows = [f"video900_1/{n:05d}.jpg,{rest}" for n in (1, 2, 3)] + [f"903_left/100000.jpg,{rest}", "nonsense"]
    template = read_template(write_text(tmp_path / "a.txt", "\n".join([TEMPLATE_HEADER, *rows])))
    assert template.numbers == {"video900_1": [1, 2, 3], "903_left": [100000]}
    assert template.malformed == ["nonsense"]


def test_a_location_is_split_at_its_last_slash() -> None:
    assert image_location("a/b/00010.jpg") == ("a/b", 10)
    assert image_location("00010.jpg") is None
