"""A plan skips inputs with a current result and states a reason for every other input."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from batch_watch import METADATA, write_inputs
from hypothesis import given
from hypothesis import strategies as st

from auscan.batch.jobs import RunMetadata, content_hash, make_record, size_and_mtime
from auscan.batch.plan import UNSHARDED, Plan, Shard, make_plan, parse_shard
from auscan.core.environment import is_plain_name
from auscan.core.errors import InputError, MediaError
from auscan.media.discover import find_media
from auscan.results.manifest import ManifestRecord, append, read_records


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return write_inputs(tmp_path / "in", "a", "b")


def plan(
    inputs: Path, metadata: RunMetadata = METADATA, resume: bool = True, shard: Shard = UNSHARDED
) -> Plan:
    out = inputs.parent / "out"
    return make_plan(find_media([inputs]), out, read_records(out), metadata, shard, resume)


def store_result(inputs: Path, name: str, **more: object) -> ManifestRecord:
    """Write a result and its manifest line as a run does."""
    (job,) = [job for job in plan(inputs, resume=False).jobs if job.name == name]
    folder = inputs.parent / "out" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "aus.csv").write_text("table")
    size, mtime_ns = size_and_mtime(job.path)
    fingerprint = {"size": size, "mtime_ns": mtime_ns, "sha256": content_hash(job.path)}
    result = {"folder": name, "files": {"aus.csv": 5}}
    record = replace(make_record(job, METADATA, "done"), **{**fingerprint, **result, **more})
    append(inputs.parent / "out" / "manifest.jsonl", record)
    return record


def reasons(found: Plan) -> dict[str, str]:
    return {job.name: job.reason for job in found.jobs}


def test_unchanged_inputs_with_a_result_are_skipped_only_with_resume(inputs: Path) -> None:
    store_result(inputs, "a")
    assert plan(inputs).unchanged == [inputs / "a.mp4"]
    assert reasons(plan(inputs)) == {"b": "new"}
    assert plan(inputs, resume=False).unchanged == []
    assert set(reasons(plan(inputs, resume=False))) == {"a", "b"}


def test_stale_results_are_planned_again_and_the_reason_is_reported(inputs: Path) -> None:
    store_result(inputs, "a")
    store_result(inputs, "b", status="failed", error_class="MediaError", folder=None, files={})
    assert reasons(plan(inputs)) == {"b": "it failed (MediaError)"}
    for metadata, reason in (
        (replace(METADATA, config={"keep_all": True}), "its options changed (keep_all)"),
        (replace(METADATA, config={"keep_all": False, "new": 1}), "its options changed (new)"),
        (replace(METADATA, model_sha256="1" * 64), "the model changed"),
        (
            replace(METADATA, versions={"auscan": "0.2.0"}),
            "auscan changed from 0.1.0 to 0.2.0",
        ),
    ):
        assert reasons(plan(inputs, metadata))["a"] == reason
    assert "a" not in reasons(
        plan(inputs, replace(METADATA, host="there", versions={"auscan": "0.1.0", "av": "9"}))
    )
    (inputs.parent / "out" / "a" / "aus.csv").write_text("tab")
    assert reasons(plan(inputs))["a"] == "its result is missing or damaged"


def test_if_size_or_time_differ_the_content_decides(inputs: Path) -> None:
    record = store_result(inputs, "a")
    os.utime(inputs / "a.mp4", ns=(0, 0))
    (job,) = [job for job in plan(inputs).jobs if job.name == "a"]
    assert job.reason == "its size or time changed"
    assert job.previous == record, "the job function compares the hash first"


def test_a_moved_folder_changes_nothing(inputs: Path) -> None:
    store_result(inputs, "a")
    store_result(inputs, "b")
    moved = inputs.rename(inputs.parent / "moved")
    assert plan(moved).unchanged == [moved / "a.mp4", moved / "b.mp4"]


def test_a_result_keeps_its_name_when_inputs_with_the_same_stem_are_added(inputs: Path) -> None:
    store_result(inputs, "a")
    (inputs / "a.mov").write_text("another")
    found = plan(inputs)
    assert found.unchanged == [inputs / "a.mp4"]
    assert reasons(found) == {"a_mov": "new", "b": "new"}


def test_a_complete_result_costs_no_further_calls_of_stat(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine calls of stat for each of 100,000 results take minutes on a network disk."""
    store_result(inputs, "a")
    monkeypatch.setattr("auscan.batch.plan.is_result", lambda folder: pytest.fail("checked again"))
    assert plan(inputs).unchanged == [inputs / "a.mp4"]


def test_a_folder_that_is_not_a_result_is_never_replaced(inputs: Path) -> None:
    (inputs.parent / "out" / "a").mkdir(parents=True)
    (inputs.parent / "out" / "b").mkdir()
    (inputs.parent / "out" / "a" / "holiday.jpg").touch()
    errors = {job.name: job.error for job in plan(inputs).jobs}
    assert errors["b"] is None
    assert isinstance(errors["a"], InputError)
    assert "is not a result of auscan and is not replaced" in str(errors["a"])


@given(st.sets(st.text(min_size=1)), st.integers(1, 7))
def test_each_input_belongs_to_exactly_one_shard(keys: set[str], count: int) -> None:
    for key in keys:
        assert sum(Shard(index, count).contains(key) for index in range(1, count + 1)) == 1


def test_shards_agree_on_names_and_are_of_similar_size(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(60):
        write_inputs(folder, f"{number}")
        (folder / f"{number}.mov").write_text("same stem")
    whole = {job.key: job.name for job in plan(folder).jobs}
    parts = [plan(folder, shard=Shard(index, 3)).jobs for index in (1, 2, 3)]
    assert {job.key: job.name for part in parts for job in part} == whole
    assert all(20 <= len(part) <= 60 for part in parts)


def test_a_shard_skips_inputs_that_other_shards_have_processed(inputs: Path) -> None:
    store_result(inputs, "a")
    shards = [plan(inputs, shard=Shard(index, 2)) for index in (1, 2)]
    assert [path for each in shards for path in each.unchanged] == [inputs / "a.mp4"]


def test_a_shard_is_parsed_from_its_number_and_the_count() -> None:
    assert parse_shard("2/8") == Shard(2, 8)
    assert Shard(2, 8).manifest == "manifest.2-of-8.jsonl"
    assert parse_shard("1/1").manifest == "manifest.jsonl"


def test_the_fingerprint_of_a_folder_is_that_of_its_numbered_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("1.png", "2.png", "notes.txt"):
        (folder / name).write_text(name)
    before = content_hash(folder), size_and_mtime(folder)
    (folder / "notes.txt").write_text("something else")
    assert (content_hash(folder), size_and_mtime(folder)) == before
    (folder / "2.png").rename(folder / "3.png")
    assert content_hash(folder) != before[0]
    with pytest.raises(MediaError, match="does not exist"):
        size_and_mtime(tmp_path / "gone.mp4")


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("status", ["done", "failed"])
@pytest.mark.parametrize("folder", ["/victim", "../victim", "../../..", "", "..", "a\0", None])
def test_a_manifest_record_with_a_path_outside_the_results_stops_the_plan(
    inputs: Path, folder: str | None, status: str, resume: bool
) -> None:
    """None: the name of a file leads elsewhere instead of the folder."""
    store_result(
        inputs, "a", **({"files": {"../victim": 1}} if folder is None else {"folder": folder}), status=status
    )
    with pytest.raises(InputError, match=r"manifest\.jsonl, line 1: .* is not one plain name"):
        plan(inputs, resume=resume)


def test_a_link_in_place_of_a_result_fails_only_that_input(inputs: Path) -> None:
    out = inputs.parent / "out"
    store_result(inputs, "a")
    (out / "a").rename(inputs.parent / "elsewhere")
    (out / "a").symlink_to(inputs.parent / "elsewhere")
    assert plan(inputs).unchanged == [inputs / "a.mp4"], "reading through a link is harmless"
    os.utime(inputs / "a.mp4", ns=(0, 0))
    for resume in (True, False):
        jobs = {job.name: job for job in plan(inputs, resume=resume).jobs}
        assert "a is a symbolic link" in str(jobs["a"].error)
        assert jobs["b"].error is None


@pytest.mark.parametrize("name", ["...mp4", "..mp4", " .mp4", "a\\b.mp4", "C:x.mp4", ".auscan-a.mp4"])
def test_an_input_with_an_unusual_name_has_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    """The stem of '...mp4' is '..'."""
    (tmp_path / name).write_text("video")
    (job,) = make_plan(find_media([tmp_path / name]), tmp_path / "out", [], METADATA, UNSHARDED, False).jobs
    assert is_plain_name(job.name)
    assert job.error is None


def test_a_result_with_one_damaged_file_is_planned_again(inputs: Path) -> None:
    store_result(inputs, "a", files={"aus.csv": 5, "summary.json": 2})
    summary = inputs.parent / "out" / "a" / "summary.json"
    for content, expected in (
        ("{}", {"b": "new"}),
        ("{", {"a": "its result is missing or damaged", "b": "new"}),
    ):
        summary.write_text(content)
        assert reasons(plan(inputs)) == expected
