"""The manifest only grows, survives being cut off, and gives back what was put into it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from auscan.results.manifest import (
    Entry,
    append,
    as_line,
    folders,
    is_same_failure,
    is_whole,
    latest,
    read_entries,
    read_lines,
)

ENTRY = Entry(
    path="films/talk.mp4",
    key="talk.mp4",
    status="done",
    rows=6,
    seconds=1.5,
    folder="talk",
    files={"aus.csv": 10},
    sha256="ab",
    size=3,
    mtime_ns=4,
    model="nano",
    model_sha256="cd",
    config={"keep_all": False, "as_video_hz": None},
    versions={"auscan": "0.1.0"},
    host="here",
    ended="2026-01-01T00:00:00.000000+00:00",
)


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    strange = replace(ENTRY, path="f\udcff/ü\n.mp4", key="ü", ended="2026-01-02")
    for entry in (ENTRY, strange):
        append(tmp_path / "manifest.jsonl", entry)
    assert read_entries(tmp_path) == [ENTRY, strange]
    assert "ü" in (tmp_path / "manifest.jsonl").read_text("utf-8")


def test_what_all_lines_have_in_common_is_in_memory_once(tmp_path: Path) -> None:
    """Millions of lines are read before a run begins; options and versions are most of each."""
    for entry in (ENTRY, replace(ENTRY, key="b"), replace(ENTRY, key="c", config={"keep_all": True})):
        append(tmp_path / "manifest.jsonl", entry)
    one, other, third = read_entries(tmp_path)
    assert one.config is other.config
    assert one.versions is other.versions is third.versions
    assert third.config == {"keep_all": True}


@pytest.mark.parametrize("kept", [1, 30, 200])
def test_a_line_that_was_cut_off_is_no_line_and_harms_no_other(tmp_path: Path, kept: int) -> None:
    manifest = tmp_path / "manifest.jsonl"
    append(manifest, ENTRY)
    with manifest.open("a") as file:
        file.write(as_line(replace(ENTRY, key="cut"))[:kept])
    assert read_entries(tmp_path) == [ENTRY]
    after = replace(ENTRY, key="after", ended="2026-01-02")
    append(manifest, after)
    assert read_entries(tmp_path) == [ENTRY, after]


def test_many_writers_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    entries = [replace(ENTRY, key=f"{number:03}", ended=f"{number:03}") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: append(tmp_path / "manifest.jsonl", entry), entries))
    assert read_entries(tmp_path) == entries


def test_the_last_entry_counts_over_the_manifests_of_all_shards(tmp_path: Path) -> None:
    again = replace(ENTRY, status="failed", folder=None, files={}, ended="2026-01-02")
    append(tmp_path / "manifest.1-of-2.jsonl", again)
    append(tmp_path / "manifest.2-of-2.jsonl", ENTRY)
    entries = read_entries(tmp_path)
    assert latest(entries) == {"talk.mp4": again}
    assert folders(entries) == {"talk.mp4": "talk"}, "the name stays its own"


def test_a_failure_is_the_same_if_all_but_the_run_is() -> None:
    failure = replace(ENTRY, status="failed", error_class="MediaError", error="cut off")
    again = replace(failure, ended="later", host="there", seconds=9.0)
    assert is_same_failure(failure, again)
    assert not is_same_failure(failure, replace(again, error="empty"))
    assert not is_same_failure(failure, replace(again, mtime_ns=5))
    assert not is_same_failure(ENTRY, ENTRY)


def test_lines_of_another_make_are_left_out(tmp_path: Path) -> None:
    lines = [
        json.dumps({"path": "a.mp4", "status": "done", "folder": "a"}),
        "[1]",
        as_line(ENTRY).replace('"rows"', '"more": 1, "rows"'),
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    assert read_entries(tmp_path) == [ENTRY]
    assert [line["path"] for line in read_lines(tmp_path)] == ["a.mp4", "films/talk.mp4"]


def test_a_result_is_whole_if_its_files_have_their_size(tmp_path: Path) -> None:
    (tmp_path / "talk").mkdir()
    assert not is_whole(tmp_path, ENTRY)
    (tmp_path / "talk" / "aus.csv").write_text("0123456789")
    assert is_whole(tmp_path, ENTRY)
    (tmp_path / "talk" / "aus.csv").write_text("012345678")
    assert not is_whole(tmp_path, ENTRY)
