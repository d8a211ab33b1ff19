"""Real videos, the shipped model, the command line: killed and stopped runs end as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.results.manifest import latest, read_entries

GOOD = ["a", "b", "c", "d"]


@pytest.fixture
def clips(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """Four short videos of a face that moves a little, and one that is cut off."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(GOOD):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 256
            stream.pix_fmt = "yuv420p"
            for index in range(8):
                left = 100 + 3 * number + index
                image = np.ascontiguousarray(portrait[:256, left : left + 256])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    whole = (folder / "a.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


def begin(clips: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """`auscan detect` in a process group of its own."""
    code = "from auscan.cli.main import main; main()"
    command = [sys.executable, "-c", code, "detect", str(clips), "--out", str(out), "--threads", "1", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(true: Callable[[], object]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


def contents(out: Path) -> dict[str, object]:
    """Every file of every result, but for what a summary says of the run itself."""
    found: dict[str, object] = {}
    for file in out.rglob("*"):
        if file.is_file() and not file.name.startswith("manifest"):
            found[str(file.relative_to(out))] = file.read_bytes()
            if file.name == "summary.json":
                found[str(file.relative_to(out))] = {
                    **json.loads(file.read_text()),
                    "seconds": 0,
                    "command": "",
                }
    return found


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
