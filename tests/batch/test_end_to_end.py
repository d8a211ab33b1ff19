"""Real videos, the shipped model, the command line: killed and stopped runs end as an undisturbed one."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from batch_real import begin, contents
from conftest import GOOD

from auscan.results.manifest import latest, read_entries


def wait_for(true: Callable[[], object]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_killed_and_stopped_runs_end_as_an_undisturbed_one(tmp_path: Path, clips: Path) -> None:
    undisturbed = begin(clips, tmp_path / "one")
    _, told = undisturbed.communicate(timeout=500)
    assert undisturbed.returncode == 2, told
    expected = contents(tmp_path / "one")
    assert {Path(name).parent.name for name in expected} == set(GOOD)
    assert sum(name.endswith("aus.parquet") for name in expected) == len(GOOD)

    out = tmp_path / "two"
    words = "--jobs", "2", "--resume"
    for lines in (0, 1, 2):
        killed = begin(clips, out, *words)
        wait_for(lambda: list(out.glob(".auscan-*/new")) and len(read_entries(out)) >= lines)  # noqa: B023
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert set(contents(out)) - {*expected} == {
            name for name in contents(out) if name.startswith(".auscan-")
        }, "whole results, and what a run that is no more had begun"

    lines = len(read_entries(out))
    stopped = begin(clips, out, "--resume")
    wait_for(lambda: len(read_entries(out)) > lines)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=500)
    left = len(latest(read_entries(out))) < len(GOOD) + 1
    assert stopped.returncode == (130 if left else 2), told
    assert not list(out.glob(".auscan-*"))
    assert told.rstrip().endswith("--threads 1 --resume")

    last = begin(clips, out, *words)
    _, told = last.communicate(timeout=500)
    assert last.returncode == 2, told
    assert "Traceback" not in told
    assert "MediaError" in told
    assert contents(out) == expected
    keys = sorted(entry.key for entry in read_entries(out))
    assert keys == sorted([*(f"{name}.mp4" for name in GOOD), "broken.mp4"]), "one line each"
