"""Provide running Studios with fake or real workers, and an HTTP client that sends requests unchanged."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")

from auscan.server.app import make_server
from auscan.server.settings import StudioSettings

DETECT_WORKER = (sys.executable, "-c", "from auscan.cli.main import main; main()", "detect", "--threads", "1")
"""Command of the real worker."""

QUICK_WORKER = """
import pathlib, sys
source = pathlib.Path(sys.argv[1])
print("video.mp4: 1 of 2 frames, 9 fps, 0 s left", file=sys.stderr)
(source.parent / "video").mkdir()
(source.parent / "video" / "summary.json").write_text("{}")
"""
"""Worker that finishes at once."""


@dataclass
class Response:
    """Response of the server."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """HTTP client that does not normalise paths and adds only the Host header."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Response(
                response.status, response.read(), {k.lower(): v for k, v in response.getheaders()}
            )
        finally:
            connection.close()

    def submit(self, body: bytes = b"film", name: str = "talk.mp4", rest: str = "") -> Any:
        response = self.request("POST", f"/api/jobs?name={name}{rest}", body)
        assert response.status == 201, response.body
        return response.json

    def wait(self, job_id: str, seconds: float = 240) -> Any:
        """Wait until a job is finished and return it."""
        return self.wait_until(job_id, lambda job: job["status"] not in ("queued", "running"), seconds)

    def wait_until(self, job_id: str, condition: Callable[[Any], bool], seconds: float = 60) -> Any:
        """Wait until a job satisfies a condition and return it."""
        end = time.monotonic() + seconds
        while not condition(job := self.request("GET", f"/api/jobs/{job_id}").json):
            assert time.monotonic() < end, f"still {job}"
            time.sleep(0.05)
        return job


class Studios:
    """Factory of servers; stops all of them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[Any, threading.Thread]] = []

    def start(self, worker: str | tuple[str, ...] = QUICK_WORKER, **settings: Any) -> Client:
        """Start a Studio whose worker is a command or Python source."""
        command = (sys.executable, "-c", worker) if isinstance(worker, str) else worker
        server = make_server(StudioSettings(folder=self.folder, worker=command, **settings))
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        self._running.append((server, thread))
        while not server.started:
            assert thread.is_alive(), "the server ended at once"
            time.sleep(0.01)
        return Client(listening.getsockname()[1], self.folder)

    def stop(self) -> None:
        """Stop all servers, as Ctrl+C does."""
        for server, thread in self._running:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive(), "the server did not stop"
        self._running.clear()


@pytest.fixture
def studios(tmp_path: Path) -> Iterator[Studios]:
    """studios.start(worker, **settings) returns a client of a new server on tmp_path/results."""
    made = Studios(tmp_path / "results")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lasting_studios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studios]:
    """Like `studios`, shared by the read-only tests of a module."""
    made = Studios(tmp_path_factory.mktemp("studio") / "results")
    yield made
    made.stop()


@pytest.fixture
def real_worker() -> tuple[str, ...]:
    return DETECT_WORKER
