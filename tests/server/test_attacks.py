"""Test malicious and broken requests: nothing is written or read outside the Studio's folder."""

import gzip
import io
import json
import socket
import sqlite3
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.cli.main import main

GB = 1024**3

HANGING_WORKER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
print("video.mp4: 1 of 9 frames, 9 fps, 1 s left", file=sys.stderr, flush=True)
while True: pass
"""
"""Worker that loops forever, ignores SIGTERM and has a child process."""

GREEDY_WORKER = """
import sys
try:
    bytearray(1 << 50)
except MemoryError:
    sys.exit("auscan: There was no memory for it.")
"""


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.mp4",
        "..%2F..%2Fevil.mp4",
        "%2Fetc%2Fcron.d%2Fevil.mp4",
        "..%5C..%5Cevil.mp4",
        "C%3A%5Cevil.mp4",
        "a%00b.mp4",
        "%0d%0aX-Evil:1%0d%0a.mp4",
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E.mp4",
        f"{'x' * 900}.mp4",
        "%F0%9F%98%80%20%E2%80%AE.mp4",
    ],
)
def test_a_file_name_is_text_and_never_a_path(studios: Any, tmp_path: Path, name: str) -> None:
    before = files_below(tmp_path)
    client = studios.start()
    job = client.submit(name=name) if len(name) < 500 else None
    if job is None:
        assert client.request("POST", f"/api/jobs?name={name}", b"film").status == 415
        return
    assert "/" not in job["name"].replace("</script>", "")
    client.wait(job["id"])
    new = files_below(tmp_path) - before
    assert {path.split("/")[0] for path in new} == {"results"}
    assert f"results/{job['id']}/video.mp4" in new
    response = client.request("GET", f"/api/results/{job['id']}/files/summary.json")
    assert response.status == 200
    assert "x-evil" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/static/../../secret.txt",
        "//etc/passwd",
        "/api/results/../../secret.txt",
        "/api/results/{id}/files/..%2f..%2f..%2fsecret.txt",
        "/api/results/{id}/files/../../../secret.txt",
        "/api/results/{id}/files/%2e%2e",
        "/api/results/{id}/files/..%5c..%5csecret.txt",
        "/api/results/{id}/files/video.mp4",
        "/api/results/..%2f..%2fsecret.txt/video",
        "/api/results/%2e%2e/video",
        "/api/jobs/..%2f..",
        "/api/jobs/%00",
        "/studio.sqlite",
        "/api/results/studio.sqlite/video",
    ],
)
def test_no_path_leads_out_of_a_result(studios: Any, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    client = studios.start()
    job = client.submit()
    client.wait(job["id"])
    response = client.request("GET", path.format(id=job["id"]))
    assert response.status in (400, 404, 405, 422), response.body
    assert b"the secret" not in response.body
    assert b"root:" not in response.body
    assert client.request("DELETE", path.format(id=job["id"])).status in (400, 404, 405, 422)
    assert (tmp_path / "secret.txt").exists()


def test_an_upload_with_a_too_large_stated_size_is_refused_before_it_is_read(studios: Any) -> None:
    client = studios.start()
    head = (
        f"POST /api/jobs?name=big.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        f"Content-Length: {5 * GB}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(head.encode())  # without any byte of the body
        assert line.recv(4096).startswith(b"HTTP/1.1 413")
    assert not list(client.folder.glob("*/"))
    assert client.request("GET", "/api/jobs").json == []


def test_an_upload_without_a_stated_size_is_counted(studios: Any) -> None:
    client = studios.start(max_upload_bytes=100_000)
    head = (
        f"POST /api/jobs?name=big.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(head.encode() + 11 * (b"2710\r\n" + 10_000 * b"x" + b"\r\n"))
        assert line.recv(4096).startswith(b"HTTP/1.1 413")
    assert not list(client.folder.glob("*/")), "the received part is deleted"


def test_an_upload_that_stops_half_way_leaves_nothing(studios: Any) -> None:
    client = studios.start(idle_s=0.3)
    head = (
        f"POST /api/jobs?name=a.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nContent-Length: 900\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(head.encode() + b"film")
        assert line.recv(4096).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(head.encode() + b"film")  # and closes the connection
    end = time.monotonic() + 20
    while list(client.folder.glob("*/")):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert client.request("GET", "/api/jobs").json == []


def test_a_zip_bomb_is_not_decompressed(studios: Any, real_worker: tuple[str, ...]) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(200 * 1024**2))
    client = studios.start(real_worker)
    assert client.request("POST", "/api/jobs?name=bomb.zip", bomb.getvalue()).status == 415
    job = client.submit(bomb.getvalue(), "bomb.mp4")
    compressed = gzip.compress(bytes(50 * 1024**2))
    headers = {"Content-Encoding": "gzip"}
    other = client.request("POST", "/api/jobs?name=other.mp4", compressed, headers).json
    for each in (job, other):
        done = client.wait(each["id"])
        assert done["status"] == "failed"
        assert each["name"] in done["error"]
        assert str(client.folder) not in done["error"], "no local path"
    size = sum(path.stat().st_size for path in client.folder.rglob("*") if path.is_file())
    assert size < 2 * 1024**2
    assert client.request("GET", "/api/about").status == 200


def test_a_hung_worker_is_killed_with_its_children_and_the_next_video_is_processed(studios: Any) -> None:
    client = studios.start(HANGING_WORKER, time_limit_s=1.5)
    first, second = client.submit(name="hangs.mp4"), client.submit(name="next.mp4")
    failed = client.wait(first["id"])
    assert failed["status"] == "failed"
    assert "longer than" in failed["error"]
    for pid in (client.folder / first["id"] / "pids").read_text().split():
        assert not is_running(int(pid)), "a child process still runs"
    client.wait_until(second["id"], lambda job: job["status"] == "running" and job["done"] == 1)
    assert client.request("POST", f"/api/jobs/{second['id']}/cancel").json["status"] == "cancelled"
    for pid in (client.folder / second["id"] / "pids").read_text().split():
        assert not is_running(int(pid))


def is_running(pid: int) -> bool:
    """Return whether a process runs; zombies do not count, because init reaps them later."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux can limit the memory of another process.")
def test_a_worker_cannot_allocate_more_than_the_memory_of_the_machine(studios: Any) -> None:
    client = studios.start(GREEDY_WORKER)
    done = client.wait(client.submit()["id"])
    assert (done["status"], done["error"]) == ("failed", "There was no memory for it.")


def test_two_hundred_simultaneous_requests_are_all_answered(studios: Any) -> None:
    client = studios.start(max_waiting=40)

    def send(number: int) -> int:
        if number % 2:
            return int(client.request("POST", f"/api/jobs?name={number}.mp4", b"film").status)
        return int(client.request("GET", "/api/jobs").status)

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(send, range(200)))
    assert {response for number, response in enumerate(answers) if number % 2 == 0} == {200}
    taken = [response for number, response in enumerate(answers) if number % 2]
    assert set(taken) <= {201, 429}
    jobs = client.request("GET", "/api/jobs").json
    assert len(jobs) == taken.count(201) > 0
    assert {path.name for path in client.folder.glob("*/")} == {job["id"] for job in jobs}
    for job in jobs:
        assert client.wait(job["id"])["status"] == "done"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/jobs?name=a.exe", b"MZ"),
        ("POST", "/api/jobs?name=a", b"film"),
        ("POST", "/api/jobs?name=a.mp4", b""),
        ("POST", "/api/jobs", b"film"),
        ("POST", "/api/jobs?name=a.mp4&operating_point=../../x", b"film"),
        ("GET", f"/api/jobs/{'0' * 32}", None),
        ("GET", f"/api/jobs/{'0' * 31}A", None),
        ("POST", f"/api/jobs/{'0' * 32}/cancel", None),
        ("PUT", "/api/jobs", b"x"),
        ("GET", f"/api/results/{'0' * 32}/table", None),
    ],
)
def test_an_invalid_request_is_refused_with_a_reason(
    studios: Any, method: str, path: str, body: bytes
) -> None:
    client = studios.start()
    response = client.request(method, path, body)
    assert response.status in (400, 404, 405, 415, 422)
    assert "detail" in response.json
    assert not list(client.folder.glob("*/")), "nothing was kept"


def test_nothing_is_written_outside_the_folder(
    studios: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    real_worker: tuple[str, ...],
    portrait: NDArray[np.uint8],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(elsewhere))
    client = studios.start(real_worker)
    picture = bytes(cv2.imencode(".png", portrait[..., ::-1])[1])
    job = client.wait(client.submit(picture, "face.png", "&report=true")["id"])
    assert job["status"] == "done", job
    assert client.request("GET", f"/api/results/{job['id']}/exports/wide").status == 200
    studios.stop()
    assert not list(elsewhere.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"results", "elsewhere"}


def test_temporary_files_of_a_worker_are_in_the_folder_of_its_video(studios: Any) -> None:
    client = studios.start("import tempfile; open('tempdir', 'w').write(tempfile.gettempdir())")
    job = client.wait(client.submit()["id"])
    folder = client.folder / job["id"]
    assert (folder / "tempdir").read_text() == str(folder)


@pytest.mark.parametrize(
    "more",
    [
        *(
            {"id": value}
            for value in ("VICTIM", "../victim", "../..", "", ".", "..", "a\0b", "0" * 31 + "\n", 5, None)
        ),
        *({"suffix": value} for value in ("/../../victim/a", "", "/", ".mp4/..", "\0", ".exe", 5, None)),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("status", ["done", "queued"])
def test_a_job_store_with_names_outside_the_folder_is_refused_and_nothing_changes(
    studios: Any, tmp_path: Path, more: dict[str, Any], status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("precious")
    client = studios.start()
    job_id = client.submit()["id"]
    client.wait(job_id)
    more = {name: str(victim) if value == "VICTIM" else value for name, value in more.items()}
    change_job(client.folder, job_id, {"status": status, **more})
    for method, path in (
        ("GET", "/api/jobs"),
        ("GET", f"/api/jobs/{job_id}"),
        ("GET", f"/api/results/{job_id}/video"),
        ("DELETE", f"/api/jobs/{job_id}"),
    ):
        response = client.request(method, path)
        assert response.status == 422
        assert "studio.sqlite, the job" in response.json["detail"]
    studios.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv", ["auscan", "studio", "--out", str(client.folder), "--port", "0", "--no-open"]
        )
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 2
    stderr = capsys.readouterr().err.splitlines()
    assert len(stderr) == 1
    assert f"{client.folder / 'studio.sqlite'}, the job '{job_id}': " in stderr[0]
    assert [path.name for path in victim.iterdir()] == ["thesis.txt"]
    assert (client.folder / job_id / "video.mp4").exists()


def change_job(folder: Path, job_id: str, more: dict[str, Any]) -> None:
    """Change a stored job, as the sender of a manipulated folder could."""
    with closing(sqlite3.connect(folder / "studio.sqlite", isolation_level=None)) as database:
        (row,) = database.execute("SELECT job FROM jobs WHERE id = ?", (job_id,)).fetchone()
        content = json.dumps({**json.loads(row), **more})
        database.execute(
            "UPDATE jobs SET job = ?, status = ? WHERE id = ?", (content, more["status"], job_id)
        )


def test_deleting_a_job_does_not_follow_a_symbolic_link(studios: Any, tmp_path: Path) -> None:
    client = studios.start()
    job_id = client.submit()["id"]
    client.wait(job_id)
    victim = (client.folder / job_id).rename(tmp_path / "victim")
    (client.folder / job_id).symlink_to(victim)
    assert client.request("DELETE", f"/api/jobs/{job_id}").status == 204
    assert (victim / "video.mp4").exists()
