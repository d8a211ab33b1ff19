"""The manifest is append-only, survives interrupted writes, and returns the records that were written."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from auscan.core.errors import InputError
from auscan.results.manifest import (
    ManifestRecord,
    append,
    folders,
    is_same_failure,
    is_whole,
    latest,
    read_lines,
    read_records,
    to_json_line,
)

RECORD = ManifestRecord(
    path="videos/talk.mp4",
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


def test_a_record_is_read_back_unchanged(tmp_path: Path) -> None:
    strange = replace(RECORD, path="f\udcff/ü\n.mp4", key="ü", ended="2026-01-02")
    for record in (RECORD, strange):
        append(tmp_path / "manifest.jsonl", record)
    assert read_records(tmp_path) == [RECORD, strange]
    assert "ü" in (tmp_path / "manifest.jsonl").read_text("utf-8")


def test_values_common_to_all_records_are_in_memory_once(tmp_path: Path) -> None:
    """A run may read millions of lines, and options and versions are most of each."""
    for record in (RECORD, replace(RECORD, key="b"), replace(RECORD, key="c", config={"keep_all": True})):
        append(tmp_path / "manifest.jsonl", record)
    one, other, third = read_records(tmp_path)
    assert one.config is other.config
    assert one.versions is other.versions is third.versions
    assert third.config == {"keep_all": True}


@pytest.mark.parametrize("kept", [1, 30, 200])
def test_an_incomplete_line_is_ignored_and_does_not_affect_other_lines(tmp_path: Path, kept: int) -> None:
    manifest = tmp_path / "manifest.jsonl"
    append(manifest, RECORD)
    with manifest.open("a") as file:
        file.write(to_json_line(replace(RECORD, key="cut"))[:kept])
    assert read_records(tmp_path) == [RECORD]
    after = replace(RECORD, key="after", ended="2026-01-02")
    append(manifest, after)
    assert read_records(tmp_path) == [RECORD, after]


def test_concurrent_writers_append_whole_lines(tmp_path: Path) -> None:
    records = [replace(RECORD, key=f"{number:03}", ended=f"{number:03}") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda record: append(tmp_path / "manifest.jsonl", record), records))
    assert read_records(tmp_path) == records


def test_the_last_record_of_the_manifests_of_all_shards_counts(tmp_path: Path) -> None:
    again = replace(RECORD, status="failed", folder=None, files={}, ended="2026-01-02")
    append(tmp_path / "manifest.1-of-2.jsonl", again)
    append(tmp_path / "manifest.2-of-2.jsonl", RECORD)
    records = read_records(tmp_path)
    assert latest(records) == {"talk.mp4": again}
    assert folders(records) == {"talk.mp4": "talk"}, "the input keeps its folder name"


def test_a_failure_is_the_same_if_only_time_and_host_differ() -> None:
    failure = replace(RECORD, status="failed", error_class="MediaError", error="cut off")
    again = replace(failure, ended="later", host="there", seconds=9.0)
    assert is_same_failure(failure, again)
    assert not is_same_failure(failure, replace(again, error="empty"))
    assert not is_same_failure(failure, replace(again, mtime_ns=5))
    assert not is_same_failure(RECORD, RECORD)


def test_lines_of_another_version_are_skipped(tmp_path: Path) -> None:
    lines = [
        json.dumps({"path": "a.mp4", "status": "done", "folder": "a"}),
        "[1]",
        to_json_line(RECORD).replace('"rows"', '"more": 1, "rows"'),
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    assert read_records(tmp_path) == [RECORD]
    assert [line["path"] for line in read_lines(tmp_path)] == ["a.mp4", "videos/talk.mp4"]


def test_a_result_is_whole_if_its_files_have_their_recorded_size(tmp_path: Path) -> None:
    (tmp_path / "talk").mkdir()
    assert not is_whole(tmp_path, RECORD)
    (tmp_path / "talk" / "aus.csv").write_text("0123456789")
    assert is_whole(tmp_path, RECORD)
    (tmp_path / "talk" / "aus.csv").write_text("012345678")
    assert not is_whole(tmp_path, RECORD)


OUTSIDE = [
    "/etc",
    "../victim",
    "../../..",
    "a/../../b",
    "",
    ".",
    "..",
    "a\\b",
    "C:x",
    "a\0b",
    "\ud800",
    ".auscan-a",
]
"""Texts that are not plain folder names."""


def changed(**more: object) -> str:
    """Return a line with changed values."""
    return json.dumps({**json.loads(to_json_line(RECORD)), **more})


def refuse(out: Path, line: str, match: str) -> None:
    """Check that both readers refuse an invalid second line with a one-line message that names it."""
    (out / "manifest.jsonl").write_text(f"{to_json_line(RECORD)}\n{line}\n{to_json_line(RECORD)}\n")
    for read in (read_records, lambda out: list(read_lines(out))):
        with pytest.raises(InputError, match=match) as caught:
            read(out)
        message = str(caught.value)
        assert message.startswith(f"{out / 'manifest.jsonl'}, line 2: ")
        assert "Remove that line, or use another folder." in message
        assert len(message.splitlines()) == 1
        assert len(message) < 1000
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("status", ["done", "failed"])
@pytest.mark.parametrize("folder", [*OUTSIDE, 5, 0, True, ["a"], {"a": 1}], ids=ascii)
def test_a_folder_that_is_not_one_plain_name_is_refused_by_its_line(
    tmp_path: Path, folder: object, status: str
) -> None:
    refuse(tmp_path, changed(folder=folder, status=status), "the folder .* is not one plain name")


def test_lines_of_an_older_version_may_have_other_types(tmp_path: Path) -> None:
    line = {"path": "a.mp4", "folder": "a", "files": ["aus.csv"], "warnings": None, "config": "none"}
    (tmp_path / "manifest.jsonl").write_text(f"{json.dumps(line)}\n{to_json_line(RECORD)}\n")
    assert read_records(tmp_path) == [RECORD]


def test_a_line_of_an_older_version_is_refused_for_an_unsafe_folder(tmp_path: Path) -> None:
    refuse(
        tmp_path, json.dumps({"path": "a.mp4", "folder": "../a"}), "the folder '../a' is not one plain name"
    )


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
def test_a_file_that_is_not_one_plain_name_is_refused_by_its_line(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, changed(files={"aus.csv": 10, name: 1}), "the file .* is not one plain name")


@pytest.mark.parametrize(
    "more",
    [
        *(
            {"files": value}
            for value in (None, 1, "aus.csv", ["aus.csv"], {"aus.csv": "10"}, {"aus.csv": None})
        ),
        *(
            {name: value}
            for name in ("path", "key", "ended", "status")
            for value in (None, 1, ["a"], {"a": 1})
        ),
        *({name: value} for name in ("path", "key") for value in ("a\0b", "\ud800")),
        *({name: value} for name in ("config", "versions") for value in (None, 1, "a", ["a"])),
        *(
            {"host": None},
            {"rows": "6"},
            {"warnings": "all"},
            {"size": "3"},
            {"error": 5},
            {"key": "x" * 5000 + "\0"},
        ),
    ],
    ids=lambda more: ascii(more)[:40],
)
def test_a_value_of_another_type_is_refused_by_its_line(tmp_path: Path, more: dict[str, object]) -> None:
    refuse(tmp_path, changed(**more), "is .*, (not|which)")


def test_lines_with_a_huge_number_or_a_deep_list_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(f"{'9' * 9999}\n{'[' * 200_000}\n{to_json_line(RECORD)}\n")
    assert read_records(tmp_path) == [RECORD]


@pytest.mark.parametrize("name", ["/victim", "../victim"])
def test_a_result_with_files_outside_its_folder_is_not_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "talk").mkdir()
    (tmp_path / "victim").write_text("12345")
    outside = str(tmp_path / "victim") if name.startswith("/") else name
    assert not is_whole(tmp_path, replace(RECORD, files={outside: 5}))


def test_an_appended_line_is_synced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, synced = tmp_path / "manifest.jsonl", []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    append(manifest, RECORD)
    assert synced == [(manifest.stat().st_ino, len(to_json_line(RECORD).encode()) + 1)]


def test_a_result_is_not_whole_if_one_file_of_several_changed(tmp_path: Path) -> None:
    record = replace(RECORD, files={"aus.csv": 10, "events.csv": 3, "summary.json": 2})
    (tmp_path / "talk").mkdir()
    for name, size in record.files.items():
        (tmp_path / "talk" / name).write_text("x" * size)
    assert is_whole(tmp_path, record)
    (tmp_path / "talk" / "events.csv").write_text("xx")
    assert not is_whole(tmp_path, record)
    (tmp_path / "talk" / "events.csv").unlink()
    assert not is_whole(tmp_path, record)
