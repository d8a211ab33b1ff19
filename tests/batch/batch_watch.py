"""Helpers of batch tests: inputs, jobs, a recording listener, and runs."""

from collections.abc import Generator, Sequence
from pathlib import Path

import batch_fakes

from auscan.batch.jobs import Job, RunMetadata
from auscan.batch.plan import UNSHARDED, make_plan
from auscan.batch.ray_runner import RayRunner, connect
from auscan.batch.run import NO_LIMITS, Limits, PoolRunner, run
from auscan.batch.worker import LoadJobFunction
from auscan.media.discover import find_media
from auscan.results.manifest import ManifestRecord, read_records

METADATA = RunMetadata(**batch_fakes.METADATA)  # type: ignore[arg-type]


class RecordingListener:
    """Listener that records the names of started and finished inputs."""

    def __init__(self) -> None:
        self.started_names: list[str] = []
        self.finished_names: list[str] = []

    def started(self, job: Job) -> None:
        self.started_names.append(job.path.name)

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        pass

    def stopping(self, running: int) -> None:
        pass

    def finished(self, job: Job) -> None:
        self.finished_names.append(job.path.name)


def write_inputs(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").write_text(name)
    return folder


def plan_jobs(inputs: Path, out: Path, resume: bool = True) -> Sequence[Job]:
    return make_plan(find_media([inputs]), out, read_records(out), METADATA, UNSHARDED, resume).jobs


def run_all(
    jobs: Sequence[Job],
    out: Path,
    listener: RecordingListener,
    count: int = 1,
    limits: Limits = NO_LIMITS,
    load: LoadJobFunction = batch_fakes.load,
) -> Generator[tuple[Job, ManifestRecord]]:
    return run(jobs, out, UNSHARDED.manifest, PoolRunner(load, METADATA, listener, count, limits))


def run_on_ray(jobs: Sequence[Job], out: Path, address: str) -> Generator[tuple[Job, ManifestRecord]]:
    return run(
        jobs,
        out,
        UNSHARDED.manifest,
        RayRunner(connect(address), batch_fakes.load, METADATA, RecordingListener(), {"CPU": 1}),
    )
