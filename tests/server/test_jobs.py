"""Test the job queue: order, progress, cancelling, deleting, and restarts of the server."""

import time
from typing import Any

WAITING_WORKER = """
import os, pathlib, sys, time
source = pathlib.Path(sys.argv[1])
for done in range(1, 101):
    print(f"video.mp4: {done} of 100 frames, 9 fps, 1 s left", file=sys.stderr, flush=True)
    if (source.parent.parent / "go").exists(): break
    time.sleep(0.1)
(source.parent / "video").mkdir()
"""
"""Worker that runs until the file `go` exists in the results folder."""


def test_a_running_job_reports_progress_and_time_left(studios: Any) -> None:
    client = studios.start(WAITING_WORKER)
    job = client.submit()
    assert job["status"] == "queued"
    seen = client.wait_until(job["id"], lambda job: job["done"] >= 4)
    assert (seen["status"], seen["total"]) == ("running", 100)
    assert 0 < seen["left_s"] < 600
    (client.folder / "go").touch()
    done = client.wait(job["id"])
    assert done["status"] == "done"
    assert done["seconds"] > 0


def test_the_newest_video_is_listed_first_and_the_oldest_is_processed_first(studios: Any) -> None:
    client = studios.start(WAITING_WORKER)
    first, second = client.submit(name="first.mp4"), client.submit(name="second.mp4")
    client.wait_until(first["id"], lambda job: job["status"] == "running")
    assert [job["name"] for job in client.request("GET", "/api/jobs").json] == ["second.mp4", "first.mp4"]
    assert client.request("GET", f"/api/jobs/{second['id']}").json["status"] == "queued"
    (client.folder / "go").touch()
    assert {client.wait(job["id"])["status"] for job in (first, second)} == {"done"}


def test_a_queued_or_running_video_can_be_cancelled_and_a_finished_one_is_unchanged(studios: Any) -> None:
    client = studios.start(WAITING_WORKER)
    runs, waits = client.submit(), client.submit()
    client.wait_until(runs["id"], lambda job: job["done"] > 0)
    for job in (waits, runs):
        assert client.request("POST", f"/api/jobs/{job['id']}/cancel").json["status"] == "cancelled"
    (client.folder / "go").touch()
    after = client.wait(client.submit()["id"])
    assert after["status"] == "done"
    assert client.request("POST", f"/api/jobs/{after['id']}/cancel").json["status"] == "done"
    assert client.request("GET", f"/api/jobs/{waits['id']}").json["status"] == "cancelled"
    assert client.request("GET", f"/api/results/{waits['id']}").status == 409


def test_deleting_a_running_video_deletes_its_files(studios: Any) -> None:
    client = studios.start(WAITING_WORKER)
    job = client.submit()
    client.wait_until(job["id"], lambda job: job["done"] > 0)
    assert client.request("DELETE", f"/api/jobs/{job['id']}").status == 204
    assert client.request("GET", f"/api/jobs/{job['id']}").status == 404
    assert not (client.folder / job["id"]).exists()
    time.sleep(0.3)
    assert client.request("GET", "/api/jobs").json == [], "the end of its process does not bring it back"


def test_results_and_the_queue_survive_a_restart(studios: Any) -> None:
    client = studios.start(WAITING_WORKER)
    (client.folder / "go").touch()
    done = client.wait(client.submit(name="done.mp4")["id"])
    (client.folder / "go").unlink()
    runs, waits = client.submit(name="runs.mp4"), client.submit(name="waits.mp4")
    client.wait_until(runs["id"], lambda job: job["done"] > 0)
    studios.stop()
    client = studios.start(WAITING_WORKER)
    assert client.request("GET", f"/api/jobs/{done['id']}").json == done
    client.wait_until(runs["id"], lambda job: job["status"] == "running")
    (client.folder / "go").touch()
    assert {client.wait(job["id"])["status"] for job in (runs, waits)} == {"done"}


def test_a_worker_that_cannot_be_started_fails_its_video_and_not_the_studio(studios: Any) -> None:
    client = studios.start(("/nowhere/python",))
    failed = client.wait(client.submit()["id"])
    assert failed["status"] == "failed"
    assert "could not be started" in failed["error"]
    assert client.wait(client.submit()["id"])["status"] == "failed"
