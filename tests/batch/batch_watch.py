"""What a test needs on its own side of a batch: jobs, somebody who watches, and a run."""

from collections.abc import Generator, Sequence
from pathlib import Path

import batch_fakes

from auscan.batch.jobs import Job
from auscan.batch.options import About
from auscan.batch.plan import ALL, make_plan
from auscan.batch.ray_runner import OnRay, connect
from auscan.batch.run import NO_LIMITS, InWorkers, Limits, run
from auscan.batch.worker import Load
from auscan.media.discover import find_media
from auscan.results.manifest import Entry, read_entries

ABOUT = About(**batch_fakes.ABOUT)  # type: ignore[arg-type]


class Watch:
    """Remembers who was begun and ended."""

    def __init__(self) -> None:
        self.begun_names: list[str] = []
        self.ended_names: list[str] = []

    def begun(self, job: Job) -> None:
        self.begun_names.append(job.path.name)

    def step(self, job: Job, done: int, total: int | None) -> None:
        pass

    def stopping(self, running: int) -> None:
        pass

    def ended(self, job: Job) -> None:
        self.ended_names.append(job.path.name)


def write_inputs(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").write_text(name)
    return folder


def jobs_of(inputs: Path, out: Path, resume: bool = True) -> Sequence[Job]:
    return make_plan(find_media([inputs]), out, read_entries(out), ABOUT, ALL, resume).jobs


def run_all(
    jobs: Sequence[Job],
    out: Path,
    watch: Watch,
    count: int = 1,
    limits: Limits = NO_LIMITS,
    load: Load = batch_fakes.load,
) -> Generator[tuple[Job, Entry]]:
    return run(jobs, out, ALL.manifest, InWorkers(load, ABOUT, watch, count, limits))


def run_on_ray(jobs: Sequence[Job], out: Path, address: str) -> Generator[tuple[Job, Entry]]:
    return run(jobs, out, ALL.manifest, OnRay(connect(address), batch_fakes.load, ABOUT, Watch(), {"CPU": 1}))
