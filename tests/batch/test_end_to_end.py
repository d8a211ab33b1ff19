"""With real videos, the shipped model and the command line, resumed runs equal an undisturbed one."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from batch_real import begin, contents
from conftest import GOOD

from auscan.batch.dataset import merge
from auscan.results.manifest import latest, read_records


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_killed_and_stopped_runs_equal_an_undisturbed_one_after_resuming(tmp_path: Path, clips: Path) -> None:
    undisturbed = begin(clips, tmp_path / "one")
    _, stderr = undisturbed.communicate(timeout=500)
    assert undisturbed.returncode == 2, stderr
    expected = contents(tmp_path / "one")
    assert {Path(name).parent.name for name in expected} == set(GOOD)
    assert sum(name.endswith("aus.parquet") for name in expected) == len(GOOD)

    out = tmp_path / "two"
    arguments = "--jobs", "2", "--resume"
    for lines in (0, 1, 2):
        killed = begin(clips, out, *arguments)
        wait_for(lambda: list(out.glob(".auscan-*/new")) and len(read_records(out)) >= lines)  # noqa: B023
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert set(contents(out)) - {*expected} == {
            name for name in contents(out) if name.startswith(".auscan-")
        }, "besides complete results, only the staging folders of killed runs"

    lines = len(read_records(out))
    stopped = begin(clips, out, "--resume")
    wait_for(lambda: len(read_records(out)) > lines)
    stopped.send_signal(signal.SIGINT)
    _, stderr = stopped.communicate(timeout=500)
    unfinished = len(latest(read_records(out))) < len(GOOD) + 1
    assert stopped.returncode == (130 if unfinished else 2), stderr
    assert not list(out.glob(".auscan-*"))
    assert stderr.rstrip().endswith("--threads 1 --resume")

    last = begin(clips, out, *arguments)
    _, stderr = last.communicate(timeout=500)
    assert last.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert "MediaError" in stderr
    assert contents(out) == expected
    keys = sorted(record.key for record in read_records(out))
    assert keys == sorted([*(f"{name}.mp4" for name in GOOD), "broken.mp4"]), "one line per input"


def test_two_shards_in_two_places_merge_to_the_data_set_of_one_run(tmp_path: Path, clips: Path) -> None:
    """Like two machines without a shared disk, each with its own copy of the videos under its own path."""
    begin(clips, tmp_path / "whole").communicate(timeout=500)
    machines = [tmp_path / "here", tmp_path / "far" / "away"]
    for number, machine in enumerate(machines, start=1):
        shutil.copytree(clips, machine / "videos")
        begin(machine / "videos", machine / "out", "--shard", f"{number}/2").communicate(timeout=500)
        assert read_records(machine / "out"), "both shards have inputs"
    merge([tmp_path / "whole"], tmp_path / "one", lambda done, total: None)
    merge([machine / "out" for machine in machines], tmp_path / "two", lambda done, total: None)
    assert pq.read_table(tmp_path / "two" / "frames").num_rows == 8 * len(GOOD)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
