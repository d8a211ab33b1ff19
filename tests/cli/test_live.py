"""Test `auscan live`: one JSON line per frame and face, and nothing else on stdout."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from auscan.cli.main import main
from auscan.core.aus import AFFWILD2_AUS
from auscan.pipeline.demo import make_demo_clip
from auscan.results.table import table_columns

Auscan = Callable[..., tuple[int, str, str]]
WriteVideo = Callable[..., Path]


@pytest.fixture
def auscan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Auscan:
    """Run the command line; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return run


def test_a_file_is_played_and_every_frame_has_its_line(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    video = write_video(tmp_path / "talk.mp4", 10)
    code, stdout, _ = auscan("live", video, "--lag", "0.1s")
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert all(list(row) == [*table_columns(AFFWILD2_AUS), "dropped"] for row in rows)
    assert len(rows) + rows[-1]["dropped"] == 10
    assert rows[0]["timestamp"] == 0
    assert {row["AU12"] for row in rows} == {None}


def test_keep_all_is_accepted(tmp_path: Path, auscan: Auscan, write_video: WriteVideo) -> None:
    code, stdout, _ = auscan("live", write_video(tmp_path / "talk.mp4", 4), "--keep-all")
    assert code == 0
    assert {json.loads(line)["reason"] for line in stdout.splitlines()} == {"no_face"}


def test_the_engine_can_be_chosen(tmp_path: Path, auscan: Auscan, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "talk.mp4", 4)
    assert auscan("live", video, "--backend", "torch", "--device", "cpu", "--threads", 1)[0] == 0
    code, stdout, stderr = auscan("live", video, "--backend", "onnx", "--device", "cuda:0")
    assert (code, stdout) == (2, "")
    assert "The backend onnx runs on the CPU only" in stderr


@pytest.mark.parametrize("lag", ["-1s", "soon", "inf"])
def test_an_invalid_lag_is_refused(tmp_path: Path, auscan: Auscan, write_video: WriteVideo, lag: str) -> None:
    code, stdout, stderr = auscan("live", write_video(tmp_path / "talk.mp4", 2), f"--lag={lag}")
    assert (code, stdout) == (2, "")
    assert "--lag" in stderr


def test_a_model_without_operating_points_refuses_one(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, tiny_checkpoint: Path
) -> None:
    arguments = ("live", write_video(tmp_path / "talk.mp4", 2), "--model", tiny_checkpoint)
    code, stdout, stderr = auscan(*arguments, "--operating-point", "precise")
    assert (code, stdout) == (2, "")
    assert "has no operating points" in stderr


@pytest.mark.parametrize("source", ["nowhere.mp4", "99"])
def test_a_missing_source_is_reported(auscan: Auscan, source: str) -> None:
    code, stdout, stderr = auscan("live", source)
    assert (code, stdout) == (2, "")
    assert source in stderr


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Disable request logging."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a local HTTP server of the files in tmp_path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_read_as_it_arrives(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo, address: str
) -> None:
    write_video(tmp_path / "talk.mp4", 10)
    code, stdout, _ = auscan("live", f"{address}/talk.mp4")
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert len(rows) + rows[-1]["dropped"] == 10
    code, stdout, stderr = auscan("live", f"{address}/nothing.mp4")
    assert (code, stdout) == (2, "")
    assert f"{address}/nothing.mp4 cannot be read" in stderr


def test_the_mjpeg_page_streams_annotated_frames(tmp_path: Path) -> None:
    make_demo_clip(tmp_path / "demo.mp4")  # lasts ten seconds
    start = "from auscan.cli.main import main; main()"
    arguments = [sys.executable, "-c", start, "live", str(tmp_path / "demo.mp4"), "--mjpeg", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        page = run.stderr.readline().split()[-1]
        with urlopen(page, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            data = b""
            while data.count(b"--frame") < 3:
                data += answer.read1()
        run.kill()
    jpeg = data.split(b"--frame")[1].partition(b"\r\n\r\n")[2]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None


def test_a_clock_that_steps_back_is_stated_once_and_the_rows_go_on(
    tmp_path: Path, auscan: Auscan, write_video: WriteVideo
) -> None:
    part = write_video(tmp_path / "part.ts", 20).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part + part)
    code, stdout, stderr = auscan("live", joined)
    times_s = [json.loads(line)["timestamp"] for line in stdout.splitlines()]
    assert code == 0
    assert times_s == sorted(set(times_s))
    assert times_s[-1] - times_s[0] == pytest.approx(39 / 25, abs=0.2)
    assert stderr.count("the clock steps back by 0.80 s") == 1
