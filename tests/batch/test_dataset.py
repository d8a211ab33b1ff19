"""The same results yield the same data set from any number of shards, and SQL queries work on it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import batch_fakes
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auscan.batch import dataset as merging
from auscan.batch.dataset import merge, query
from auscan.batch.jobs import Job
from auscan.batch.output_folder import sync_folder
from auscan.cli.main import main
from auscan.core.errors import InputError
from auscan.results.manifest import ManifestRecord, append, to_json_line
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

HALF = (0.5,) * 12


def _result(seed: int, frames: int) -> Result:
    """Return a result of one face with varying AUs."""
    turn = np.arange(frames)[:, None] / 9 + np.arange(12) + seed
    probabilities = (0.5 + 0.5 * np.sin(turn)).astype(np.float32)
    probabilities[:, 8] = np.nan
    track = TrackScores(
        face_id=0,
        frames=np.arange(frames),
        boxes=np.ones((frames, 4), np.float32),
        points=np.zeros((frames, 5, 2), np.float32),
        scores=np.ones(frames, np.float32),
        quality_features=np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (frames, 1)),
        probabilities=probabilities,
    )
    info = RunInfo(
        source=f"{seed}.mp4",
        duration_s=frames / 25,
        frames=frames + 1,
        has_audio=False,
        seconds=float(np.random.default_rng().random()),
        model="nano",
        thresholds=HALF,
        command="auscan detect",
        versions={"auscan": "0.1.0"},
    )
    return Result(build_table(np.arange(frames + 1) / 25, [track], HALF), (track,), info)


WriteResult = Callable[..., ManifestRecord]


@pytest.fixture
def write_result(tmp_path: Path) -> WriteResult:
    """Return write_result(out, key, manifest, frames, **record): write a result and its manifest line."""

    def put_result(
        out: str,
        key: str,
        manifest: str = "manifest.jsonl",
        frames: int = 40,
        baseline: str = "none",
        **more: object,
    ) -> ManifestRecord:
        name = key.replace("/", "_").removesuffix(".mp4")
        job = Job(path=Path(key), key=key, name=name)
        folder = tmp_path / out / name
        saved = _result(len(key) + ord(key[0]), frames).with_baseline(baseline)
        saved.save(folder)
        record = batch_fakes.make_record(
            job, folder=name, files=sync_folder(folder), rows=len(saved.table), sha256=f"hash of {key}"
        )
        record = replace(record, config={"baseline": baseline}, seconds=1.0, **more)  # type: ignore[arg-type]
        append(tmp_path / out / manifest, record)
        return record

    return put_result


KEYS = ["day2/a.mp4", "b.mp4", "c.mp4", "day1/a.mp4"]


def silent(done: int, total: int) -> None:
    pass


def contents(dataset: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*.parquet")}


def test_two_shards_yield_the_same_bytes_as_one_run(
    tmp_path: Path, write_result: WriteResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "GROUP_ROWS", 50)
    monkeypatch.setattr(merging, "PART_ROWS", 80)
    for key in KEYS:
        write_result("one", key)
    for number, key in enumerate(reversed(KEYS)):
        write_result("shards", key, f"manifest.{number % 2 + 1}-of-2.jsonl")
        write_result(f"machine{number % 2}", key)
    merge([tmp_path / "one"], tmp_path / "set1", silent)
    merge([tmp_path / "shards"], tmp_path / "set2", silent)
    merge([tmp_path / "machine1", tmp_path / "machine0"], tmp_path / "set3", silent)
    whole = contents(tmp_path / "set1")
    assert sorted(whole) == [
        *("events/part-00000.parquet", "frames/part-00000.parquet", "frames/part-00001.parquet"),
        "inputs.parquet",
    ]
    assert contents(tmp_path / "set2") == whole
    assert contents(tmp_path / "set3") == whole


def test_rows_equal_those_of_the_tables_and_of_the_events(tmp_path: Path, write_result: WriteResult) -> None:
    for key in KEYS:
        write_result("out", key)
    merge([tmp_path / "out"], tmp_path / "set", silent)
    frames = pq.read_table(tmp_path / "set" / "frames").to_pandas()
    events = pq.read_table(tmp_path / "set" / "events").to_pandas()
    assert frames["input"].drop_duplicates().tolist() == sorted(KEYS)
    stored = pd.read_parquet(tmp_path / "out" / "b" / "aus.parquet")
    found = frames[frames["input"] == "b.mp4"].drop(columns="input").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, stored, check_dtype=False)
    stored_events = pd.read_csv(tmp_path / "out" / "b" / "events.csv")
    assert len(stored_events) > 5
    found_events = events[events["input"] == "b.mp4"].drop(columns="input").reset_index(drop=True)
    pd.testing.assert_frame_equal(found_events, stored_events, check_dtype=False, atol=1e-6)


def test_at_most_one_row_group_of_an_input_is_in_memory(
    tmp_path: Path, write_result: WriteResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the whole table of a recording of days would be in memory before it is written."""
    monkeypatch.setattr(merging, "GROUP_ROWS", 50)
    monkeypatch.setattr(merging, "READ_ROWS", 20)
    write, written = pq.ParquetWriter.write_table, []

    def watched(self: pq.ParquetWriter, table: pa.Table, **more: object) -> None:
        if "frame" in table.schema.names:
            written.append(len(table))
        write(self, table, **more)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", watched)
    write_result("out", "a.mp4", frames=400)
    written.clear()
    merge([tmp_path / "out"], tmp_path / "set", silent)
    assert max(written) < 50 + 20
    stored = pq.read_table(tmp_path / "set" / "frames")
    assert stored["frame"].to_pylist() == list(range(401))


def test_failed_inputs_are_reported_and_have_no_rows(tmp_path: Path, write_result: WriteResult) -> None:
    write_result("out", "a.mp4")
    write_result("out", "b.mp4", status="failed", error_class="MediaError", error="cut off")
    merge([tmp_path / "out"], tmp_path / "set", silent)
    result = query(tmp_path / "set", "SELECT input, status, error_class, rows FROM inputs ORDER BY input")
    assert list(result.rows) == [("a.mp4", "done", None, 41), ("b.mp4", "failed", "MediaError", None)]
    assert list(query(tmp_path / "set", "SELECT DISTINCT input FROM frames").rows) == [("a.mp4",)]


def test_an_input_whose_name_is_not_utf8_is_reported_with_escaped_bytes(
    tmp_path: Path, write_result: WriteResult
) -> None:
    write_result("out", "a.mp4")
    failed = {"status": "failed", "error_class": "MediaError", "sha256": None, "folder": None, "files": {}}
    write_result("out", os.fsdecode(b"caf\xe9.mp4"), **failed)
    merge([tmp_path / "out"], tmp_path / "set", silent)
    assert list(query(tmp_path / "set", "SELECT input FROM inputs ORDER BY input").rows) == [
        ("a.mp4",),
        (r"caf\xe9.mp4",),
    ]


def test_a_baseline_in_one_result_leaves_the_others_columns_empty(
    tmp_path: Path, write_result: WriteResult
) -> None:
    write_result("out", "a.mp4")
    write_result("out", "b.mp4", baseline="median")
    merge([tmp_path / "out"], tmp_path / "set", silent)
    counts = query(tmp_path / "set", "SELECT input, count(AU12_b) > 0 FROM frames GROUP BY 1 ORDER BY 1").rows
    assert list(counts) == [("a.mp4", False), ("b.mp4", True)]


def test_results_that_do_not_belong_together_are_refused(tmp_path: Path, write_result: WriteResult) -> None:
    write_result("one", "a.mp4")
    write_result("two", "a.mp4", sha256="another file")
    with pytest.raises(InputError, match=r"both have a result of a\.mp4, but of different files"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "set", silent)
    (tmp_path / "one" / "a" / "aus.csv").unlink()
    with pytest.raises(InputError, match="is incomplete"):
        merge([tmp_path / "one"], tmp_path / "set", silent)
    with pytest.raises(InputError, match=r"has no manifest\.jsonl"):
        merge([tmp_path], tmp_path / "set", silent)
    with pytest.raises(InputError, match="is not a data set of auscan"):
        merge([tmp_path / "two"], tmp_path / "one", silent)
    assert not (tmp_path / "set").exists()


def test_an_input_done_twice_counts_once_the_later_time(tmp_path: Path, write_result: WriteResult) -> None:
    write_result("one", "a.mp4", frames=40)
    write_result("two", "a.mp4", frames=50)
    for folders in (["one", "two"], ["two", "one"]):
        (source,) = merge([tmp_path / each for each in folders], tmp_path / "set", silent)
        assert source.record.rows == 51
    assert not list(tmp_path.glob(".*")), "an earlier data set is replaced"


def test_merge_and_query_on_the_command_line(
    tmp_path: Path,
    write_result: WriteResult,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def auscan(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    dataset = tmp_path / "it's a set"
    write_result("out", "a.mp4")
    assert auscan("merge", tmp_path / "out", "--out", dataset)[:2] == (
        0,
        f"{dataset}: 1 inputs, 1 with a result, 41 rows\n",
    )
    sql = "SELECT input, count(*) AS rows, max(AU23) AS unknown FROM frames GROUP BY input"
    assert auscan("query", dataset, sql, "--csv") == (0, "input,rows,unknown\na.mp4,41,\n", "")
    code, stdout, _ = auscan("query", dataset, sql, "--json")
    assert json.loads(stdout) == {"input": "a.mp4", "rows": 41, "unknown": None}
    code, stdout, _ = auscan("query", dataset, sql)
    assert code == 0
    assert "a.mp4" in stdout
    assert "41" in stdout
    code, stdout, stderr = auscan("query", dataset, "SELECT nonsense FROM frames")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "DuckDB cannot run the query" in stderr
    code, stdout, stderr = auscan("query", tmp_path, sql)
    assert "is not a data set" in stderr


def test_without_the_extra_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("auscan.core.environment.find_spec", lambda name: None)
    for arguments in (["merge", str(tmp_path), "--out", "x"], ["query", str(tmp_path), "SELECT 1"]):
        monkeypatch.setattr("sys.argv", ["auscan", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2
        assert "pip install 'auscan[batch]'" in capsys.readouterr().err


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A complete result outside RESULTS, which must stay unchanged."""
    folder = tmp_path / "victim"
    _result(1, 10).save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("status", ["done", "failed"])
@pytest.mark.parametrize(
    "name", ["VICTIM", "../victim", "../../..", "", "..", "a\0b", "\ud800", 5, ["a"]], ids=ascii
)
@pytest.mark.parametrize("field", ["folder", "files"])
def test_manifest_paths_outside_the_results_are_refused_with_their_line(
    tmp_path: Path,
    write_result: WriteResult,
    victim: Path,
    field: str,
    name: object,
    status: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_result("out", "a.mp4")
    record = write_result("out", "b.mp4", status=status)
    name = str(victim) if name == "VICTIM" else name
    value = name if field == "folder" else {name: 1} if isinstance(name, str) else name
    manifest = tmp_path / "out" / "manifest.jsonl"
    first, _ = manifest.read_text().splitlines()
    line = json.dumps({**json.loads(to_json_line(record)), field: value})
    manifest.write_text(f"{first}\n{line}\n")
    dataset = tmp_path / "set"
    for arguments in (("merge", tmp_path / "out", "--out", dataset), ("query", tmp_path / "out", "SELECT 1")):
        assert run_command(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert (f"{manifest}, line 2: " in captured.err) == (arguments[0] == "merge")
    assert not dataset.exists()


def run_command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    return int(left.value.code or 0)


def test_a_linked_result_and_a_linked_data_set_are_only_read(
    tmp_path: Path, write_result: WriteResult, victim: Path
) -> None:
    record = write_result("out", "a.mp4")
    shutil.rmtree(tmp_path / "out" / "a")
    (tmp_path / "out" / "a").symlink_to(victim)
    record = replace(record, files=sync_folder(victim), ended="9")
    append(tmp_path / "out" / "manifest.jsonl", record)
    merge([tmp_path / "out"], tmp_path / "first", silent)
    before = contents(tmp_path / "first")
    (tmp_path / "set").symlink_to(tmp_path / "first")
    merge([tmp_path / "out"], tmp_path / "set", silent)
    assert contents(tmp_path / "first") == before == contents(tmp_path / "set")
    assert not (tmp_path / "set").is_symlink(), "the link was replaced, not its target"


def test_a_query_reaches_no_other_file_unless_allowed(tmp_path: Path, write_result: WriteResult) -> None:
    write_result("out", "a.mp4")
    dataset, secret = tmp_path / "set [1] *", tmp_path / "secret.csv"
    assert run_command("merge", tmp_path / "out", "--out", dataset) == 0
    secret.write_text("word\nhidden\n")
    attacks = (
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{secret}')",
        f"COPY (SELECT 1) TO '{dataset / 'planted.csv'}'",
        f"ATTACH '{tmp_path / 'planted.db'}'",
        "SET enable_external_access = true",
        "",
        ";",
    )
    for sql in attacks:
        assert run_command("query", dataset, sql) == 2, sql
    assert not (dataset / "planted.csv").exists()
    assert run_command("query", dataset, "SELECT * FROM frames") == 0
    assert run_command("query", dataset, f"SELECT * FROM '{secret}'", "--allow-external") == 0


def test_a_damaged_data_set_is_one_line(tmp_path: Path, write_result: WriteResult) -> None:
    write_result("out", "a.mp4")
    dataset = tmp_path / "set"
    assert run_command("merge", tmp_path / "out", "--out", dataset) == 0
    part = next(dataset.glob("frames/*.parquet"))
    whole = part.read_bytes()
    for damaged in (b"", whole[:-40], whole[:100] + bytes(len(whole) - 200) + whole[-100:]):
        part.write_bytes(damaged)
        assert run_command("query", dataset, "SELECT * FROM frames") == 2
