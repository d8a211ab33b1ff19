"""A submission repeats the template row for row and byte for byte, with values 0 and 1."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training.smoothing import Smoothing
from auscan.training.submission import (
    TRACK_HEADER,
    FileTemplate,
    TrackTemplate,
    check_submission,
    read_template,
    write_submission,
)
from auscan.training.thresholds import Decision

Make = Callable[..., pd.DataFrame]
HEADER = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
TRACKS = {"900-30-1280x720_left": 4, "video900_1": 3, "903": 5}
PLACEHOLDER = "1,0,1,1,1,0,0,1,0,0,0,1"


def rows_of(tracks: dict[str, int]) -> list[str]:
    return [f"{track}/{number:05d}.jpg" for track, count in tracks.items() for number in range(1, count + 1)]


def write_template(path: Path, style: int, tracks: dict[str, int] = TRACKS, end: str = "\n") -> Path:
    """Write a template as of edition 5 (nothing after the comma) or 6 (placeholder labels)."""
    labels = "" if style == 5 else PLACEHOLDER
    lines = [HEADER, *(f"{location},{labels}" for location in rows_of(tracks))]
    path.write_bytes((end.join(lines) + end).encode())
    return path


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return write_template(tmp_path / "template.txt", style=6)


@pytest.fixture
def submission(tmp_path: Path, template: Path, make_scores: Make) -> Path:
    write_submission(make_scores(TRACKS), template, tmp_path / "predictions.txt")
    return tmp_path / "predictions.txt"


@pytest.mark.parametrize("style", [5, 6])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_header_and_rows_are_the_templates_byte_for_byte(
    style: int, end: str, tmp_path: Path, make_scores: Make
) -> None:
    template = write_template(tmp_path / "template.txt", style, end=end)
    scores = make_scores(TRACKS)
    submission, _ = write_submission(scores, template, tmp_path / "out.txt")
    written = (tmp_path / "out.txt").read_bytes()
    by_row = scores.set_index(["track", "frame"])[list(AFFWILD2_AUS)]
    expected = [HEADER]
    for track, count in TRACKS.items():
        for number in range(1, count + 1):
            labels = ",".join(str(int(value >= 0.5)) for value in by_row.loc[(track, number)])
            expected.append(f"{track}/{number:05d}.jpg,{labels}")
    assert written == ("\n".join(expected) + "\n").encode()
    assert (submission.tracks, submission.rows) == (3, 12)


def test_tracks_may_be_in_any_order_and_interleaved(tmp_path: Path, make_scores: Make) -> None:
    locations = rows_of(TRACKS)
    shuffled = [locations[i] for i in np.random.default_rng(0).permutation(len(locations))]
    template = tmp_path / "template.txt"
    template.write_text("\n".join([HEADER, *(f"{location}," for location in shuffled)]) + "\n")
    scores = make_scores(TRACKS)
    write_submission(scores, template, tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == shuffled
    by_row = scores.set_index(["track", "frame"])[list(AFFWILD2_AUS)]
    for line in lines:
        location, _, labels = line.partition(",")
        track, _, image = location.rpartition("/")
        expected = by_row.loc[(track, int(image[:-4]))] >= 0.5
        assert labels == ",".join(str(int(value)) for value in expected)


def test_a_header_with_blanks_and_numbers_of_six_digits_are_kept_unchanged(
    tmp_path: Path, make_scores: Make
) -> None:
    header = HEADER.replace(",", ", ") + " "
    template = tmp_path / "template.txt"
    template.write_text(f"{header}\na/99999.jpg,\na/100000.jpg,\n\n \n")
    scores = make_scores({"a": 2})
    scores["frame"] += 99998
    write_submission(scores, template, tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text().split("\n")
    assert lines[0] == header
    assert [line[:10] for line in lines[1:3]] == ["a/99999.jp", "a/100000.j"]


def test_frames_without_a_face_are_filled_and_never_minus_one(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    scores = make_scores(TRACKS, missing=0.5, seed=2)
    scores["AU23"] = np.float32(np.nan)
    out = tmp_path / "out.txt"
    submission, repairs = write_submission(scores, template, out)
    assert "-" not in "".join(line.partition(",")[2] for line in out.read_text().splitlines())
    assert repairs.without_face == (~scores["has_face"]).sum() > 0
    assert repairs.without_score == 12
    assert submission.active["AU23"] == 0


def test_scores_need_the_twelve_aus_and_further_ones_are_left_out(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    scores = make_scores(TRACKS)
    write_submission(scores, template, tmp_path / "twelve.txt")
    more = scores[["track", "frame", "has_face", *AFFWILD2_AUS[::-1]]].assign(AU45=0.9, AU14=0.1)
    _, repairs = write_submission(more, template, tmp_path / "more.txt")
    assert repairs.aus_left_out == ("AU45", "AU14")
    assert (tmp_path / "more.txt").read_bytes() == (tmp_path / "twelve.txt").read_bytes()
    with pytest.raises(InputError, match=r"scores lack AU07, AU24\."):
        write_submission(more.drop(columns=["AU07", "AU24"]), template, tmp_path / "fewer.txt")
    assert not (tmp_path / "fewer.txt").exists()


def test_thresholds_and_smoothing_are_used(tmp_path: Path, template: Path, make_scores: Make) -> None:
    scores = make_scores(TRACKS)
    scores[list(AFFWILD2_AUS)] = np.float32(0.3)
    all_yes, _ = write_submission(
        scores, template, tmp_path / "1.txt", Decision(AFFWILD2_AUS, (0.3,) * 12, (Smoothing(5),) * 12)
    )
    all_no, _ = write_submission(scores, template, tmp_path / "2.txt")
    assert set(all_yes.active.values()) == {1.0}
    assert set(all_no.active.values()) == {0.0}


def test_too_few_predictions_repeat_the_last_and_too_many_are_cut(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    right = make_scores(TRACKS)
    last = right["frame"] == right.groupby("track")["frame"].transform("max")
    extra = right[last & (right["track"] == "903")]
    scores = pd.concat([right[~last | (right["track"] == "903")], extra.assign(frame=6)])
    write_submission(right, template, tmp_path / "right.txt")
    _, repairs = write_submission(scores, template, tmp_path / "out.txt")
    assert (repairs.repeated, repairs.cut) == (2, 1)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[4].partition(",")[2] == lines[3].partition(",")[2]
    assert lines[8:] == (tmp_path / "right.txt").read_text().splitlines()[8:]


def test_a_large_difference_in_length_is_refused_unless_allowed(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    out = tmp_path / "out.txt"
    for frames in (2, 8):
        scores = make_scores(TRACKS | {"903": frames})
        with pytest.raises(InputError, match=rf"903 ends at frame 5 in .* and at {frames} in the scores"):
            write_submission(scores, template, out)
        assert not out.exists()
        write_submission(scores, template, out, allowed_difference=3)
        out.unlink()


def test_a_missing_track_is_refused_by_name(tmp_path: Path, template: Path, make_scores: Make) -> None:
    with pytest.raises(InputError, match="lack 1 of 3 tracks: 903"):
        write_submission(make_scores({"900-30-1280x720_left": 4, "video900_1": 3}), template, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_the_bare_name_does_not_replace_the_person_on_the_left(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    with pytest.raises(InputError, match="900-30-1280x720_left"):
        write_submission(
            make_scores({"900-30-1280x720": 4, "video900_1": 3, "903": 5}), template, tmp_path / "o"
        )


def test_tracks_outside_the_template_are_left_out_and_counted(
    tmp_path: Path, template: Path, make_scores: Make
) -> None:
    _, repairs = write_submission(make_scores(TRACKS | {"z": 3}), template, tmp_path / "out.txt")
    assert repairs.tracks_left_out == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER], "has no rows"),
        ([HEADER.replace("AU2,AU4", "AU4,AU2"), "a/00001.jpg,"], "line 1"),
        ([HEADER + ",AU27", "a/00001.jpg,"], "line 1"),
        ([HEADER, "a/00001.jpg,", "a/00001.jpg,"], "line 3: .* is already in line 2"),
        ([HEADER, "a/00001.jpg,", "", "a/00002.jpg,"], "line 3"),
        ([HEADER, "00001.jpg,"], "line 2"),
        ([HEADER, "a/1.jpg,"], "line 2"),
        ([HEADER, "a/00000.jpg,"], "line 2"),
        ([HEADER, "a/00001.png,"], "line 2"),
        (["a", "a"], "line 2: track a is repeated"),
        (["a,0"], "line 1"),
        (["a,many"], "line 1"),
        (["../a"], "line 1"),
        ([], "has no rows"),
    ],
)
def test_an_invalid_template_is_refused_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "template.txt"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(InputError, match=message):
        read_template(path)


def test_a_template_is_split_at_the_first_comma_and_the_last_slash(tmp_path: Path) -> None:
    path = tmp_path / "template.txt"
    path.write_text(f"{HEADER}\nbatch/video900_1/00007.jpg,{PLACEHOLDER}\n")
    template = read_template(path)
    assert isinstance(template, FileTemplate)
    assert (template.tracks, template.frames) == (("batch/video900_1",), (7,))


FAULTS: dict[str, Callable[[list[str]], list[str]]] = {
    "another header": lambda lines: [lines[0].lower(), *lines[1:]],
    "no header": lambda lines: lines[1:],
    "a row is missing": lambda lines: lines[:5] + lines[6:],
    "the last row is missing": lambda lines: lines[:-1],
    "a repeated row": lambda lines: [*lines[:5], lines[4], *lines[5:]],
    "a repeated row at the end": lambda lines: [*lines, lines[-1]],
    "two rows have changed places": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "a surplus row": lambda lines: [*lines, "903/00006.jpg," + PLACEHOLDER],
    "a blank line at the end": lambda lines: [*lines, ""],
    "-1": lambda lines: [*lines[:3], lines[3][:-1] + "-1", *lines[4:]],
    "2": lambda lines: [*lines[:3], lines[3][:-1] + "2", *lines[4:]],
    "a float": lambda lines: [*lines[:3], lines[3] + ".0", *lines[4:]],
    "a space": lambda lines: [*lines[:3], lines[3].replace(",", ", "), *lines[4:]],
    "eleven values": lambda lines: [*lines[:3], lines[3][:-2], *lines[4:]],
    "thirteen values": lambda lines: [*lines[:3], lines[3] + ",0", *lines[4:]],
    "an empty value": lambda lines: [*lines[:3], lines[3][:-1], *lines[4:]],
    "five digits became four": lambda lines: [lines[0], *(line.replace("/0", "/") for line in lines[1:])],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_submission_is_found(fault: str, submission: Path, template: Path) -> None:
    check_submission(submission, template)
    lines = submission.read_text().removesuffix("\n").split("\n")
    submission.write_text("\n".join(FAULTS[fault](lines)) + "\n")
    with pytest.raises(InputError, match=r"predictions\.txt"):
        check_submission(submission, template)


def test_faults_in_bytes_are_found(submission: Path, template: Path, tmp_path: Path) -> None:
    right = submission.read_bytes()
    for wrong in (right[:-1], right.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + right, right + b"\xff\n", b""):
        submission.write_bytes(wrong)
        with pytest.raises(InputError):
            check_submission(submission, template)
    with pytest.raises(InputError, match="cannot be read"):
        check_submission(tmp_path / "nowhere.txt", template)


def test_an_unchanged_template_is_refused_as_a_submission(template: Path, tmp_path: Path) -> None:
    """The template of edition 6 has meaningless labels and has the form of a submission."""
    copy = tmp_path / "copy.txt"
    copy.write_bytes(template.read_bytes())
    with pytest.raises(InputError, match="placeholders"):
        check_submission(copy, template)


@settings(max_examples=60)
@given(data=st.data())
def test_every_changed_byte_is_detected_unless_it_swaps_0_and_1(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    template = write_template(folder / "template.txt", style=5)
    lines = [HEADER, *(f"{location},{PLACEHOLDER}" for location in rows_of(TRACKS))]
    right = ("\n".join(lines) + "\n").encode()
    place = data.draw(st.integers(0, len(right) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != right[place]))
    (folder / "out.txt").write_bytes(right[:place] + bytes([byte]) + right[place + 1 :])
    line = right[:place].count(b"\n")
    in_labels = line > 0 and b"," in right[:place].split(b"\n")[-1] and right[place : place + 1] in b"01"
    if in_labels and byte in b"01":
        check_submission(folder / "out.txt", template)
    else:
        with pytest.raises(InputError):
            check_submission(folder / "out.txt", template)


def test_a_list_with_numbers_of_frames_yields_one_file_per_track(tmp_path: Path, make_scores: Make) -> None:
    template = tmp_path / "expected.txt"
    template.write_text("".join(f"{track},{count}\r\n" for track, count in TRACKS.items()))
    assert read_template(template) == TrackTemplate(tuple(TRACKS), tuple(TRACKS.values()))
    scores = make_scores(TRACKS | {"903": 4})
    submission, repairs = write_submission(scores, template, tmp_path / "new" / "out")
    assert (submission.tracks, submission.rows, repairs.repeated) == (3, 12, 1)
    written = {path.name: path.read_text().splitlines() for path in (tmp_path / "new" / "out").iterdir()}
    assert {name: len(lines) - 1 for name, lines in written.items()} == {
        f"{t}.txt": n for t, n in TRACKS.items()
    }
    assert HEADER.partition(",")[2] == TRACK_HEADER
    assert {lines[0] for lines in written.values()} == {TRACK_HEADER}
    truth = scores.loc[scores["track"] == "video900_1", list(AFFWILD2_AUS)].to_numpy() >= 0.5
    assert written["video900_1.txt"][1:] == [",".join(str(int(v)) for v in row) for row in truth]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_plain_list_takes_the_length_from_the_scores(tmp_path: Path, make_scores: Make) -> None:
    template = tmp_path / "list.txt"
    template.write_text("903\nvideo900_1\n")
    submission, _ = write_submission(make_scores(TRACKS), template, tmp_path / "out")
    assert (submission.tracks, submission.rows) == (2, 8)
    with pytest.raises(InputError, match="lack 1 of 2 tracks: 903"):
        write_submission(make_scores({"video900_1": 3}), template, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_faults_of_a_folder_are_found(tmp_path: Path, make_scores: Make) -> None:
    template, out = tmp_path / "list.txt", tmp_path / "out"
    template.write_text("903,5\nvideo900_1,3\n")
    write_submission(make_scores(TRACKS), template, out)
    file = out / "903.txt"
    right = file.read_text()
    for wrong, message in (
        (right.rpartition("\n0")[0] if "\n0" in right else right[:-25] + "\n", "903"),
        (right + right.splitlines()[-1] + "\n", "6 rows"),
        (right.replace("AU1,", "AU01,"), "header"),
        (right[:-2] + "-1\n", "twelve values"),
        (TRACK_HEADER + "\n", "0 rows"),
    ):
        file.write_text(wrong)
        with pytest.raises(InputError, match=message):
            check_submission(out, template)
    file.write_text(right)
    (out / "904.txt").write_text(right)
    with pytest.raises(InputError, match=r"should not contain 904\.txt"):
        check_submission(out, template)
    (out / "904.txt").rename(out / "x")
    file.rename(out / "904.txt")
    with pytest.raises(InputError, match=r"lacks 903\.txt"):
        check_submission(out, template)
    with pytest.raises(InputError, match="not a folder"):
        check_submission(template, template)


def test_an_existing_folder_is_refused(tmp_path: Path, make_scores: Make) -> None:
    template = tmp_path / "list.txt"
    template.write_text("903\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="already exists"):
        write_submission(make_scores(TRACKS), template, tmp_path / "out")
