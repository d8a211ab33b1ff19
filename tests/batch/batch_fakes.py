"""Fake job function with inputs that crash, hang or fail; a module that worker processes can import.

The first part of an input's name, up to a dash, is its behaviour: segv-1.mp4 crashes the process that reads
it. As a program (`python batch_fakes.py INPUTS OUT JOBS`) it is a run that tests can kill; with the address
of a Ray cluster in place of JOBS, the run is on that cluster.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from auscan.batch.jobs import Job, Progress
from auscan.core.errors import CheckpointError, OutputError
from auscan.results.manifest import ManifestRecord

METADATA = {
    "model": "fake",
    "model_sha256": "0" * 64,
    "config": {"keep_all": False},
    "versions": {"auscan": "0.1.0"},
    "host": "here",
}


def make_record(job: Job, **more: object) -> ManifestRecord:
    identity = {"path": str(job.path), "key": job.key, "status": "done", "ended": f"{time.time_ns():020}"}
    return ManifestRecord(**{**identity, **METADATA, **more})  # type: ignore[arg-type]


def fake_job(job: Job, folder: Path, progress: Progress) -> ManifestRecord:
    progress(0, 1)
    match job.path.stem.partition("-")[0]:
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "parent":  # the process that assigned the job: on Ray the whole worker
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        case "hang":
            time.sleep(600)
        case "hog":
            blocks = [bytearray(b"x" * 2**24) for _ in range(200)]  # 3.3 GB
            time.sleep(600 + len(blocks))
        case "error":
            return make_record(job, status="failed", error_class="MediaError", error="it is broken")
        case "full":
            raise OutputError("the disk is full")
        case "slow":
            time.sleep(0.5)
    folder.mkdir(parents=True)
    text = job.path.read_text() + "\n"
    (folder / "aus.csv").write_text(text)
    (folder / "summary.json").write_text(f"{os.getpid()}")
    stat = job.path.stat()
    return replace(
        make_record(job, rows=1, folder=job.name, files={"aus.csv": len(text)}),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def load() -> object:
    return fake_job


def load_nothing() -> object:
    raise CheckpointError("there is no model")


def load_and_die() -> object:
    os._exit(3)


def load_and_hang() -> object:
    time.sleep(600)
    return fake_job


def main(arguments: Sequence[str]) -> None:
    """Resume a run; print the name of each input when it ends, and 'at once' if the run is aborted."""
    from batch_watch import RecordingListener, plan_jobs, run_all, run_on_ray

    inputs, out, runner = Path(arguments[0]), Path(arguments[1]), arguments[2]
    jobs = plan_jobs(inputs, out)
    try:
        for job, _ in (
            run_all(jobs, out, RecordingListener(), int(runner))
            if runner.isdecimal()
            else run_on_ray(jobs, out, runner)
        ):
            print(job.path.name, flush=True)
    except KeyboardInterrupt:
        print("at once", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])


def end_by_signal(progress: object) -> None:
    """End this process as the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def process_id(progress: object) -> int:
    """Return the id of this process."""
    return os.getpid()
