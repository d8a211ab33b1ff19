"""The loop around all inputs: give them out, put finished results in their place, write the manifest.

A runner takes jobs and yields (job, record) as each ends, with its files in
`StagingFolder.staging_path(job.name)`. There are three, `InProcessRunner`, `PoolRunner` and `RayRunner`
(ray_runner.py); they take the same jobs and yield the same records.

Ctrl+C (SIGINT) lets the inputs that run come to their end and begins no others; a second one, or SIGTERM,
stops at once. In this process there is nothing to wait for, so the first one stops.

In: a plan.  Out: records, each when its result is in its place and its line on the disk.
Not here: one input (detect_worker.py), one process (worker.py).
"""

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from auscan.batch.detect_worker import load_detect_worker
from auscan.batch.jobs import Job, JobFunction, failed_record
from auscan.batch.options import DetectRequest, RunMetadata
from auscan.batch.output_folder import StagingFolder, output_error
from auscan.batch.worker import (
    JobDone,
    JobProgress,
    LoadJobFunction,
    WorkerExit,
    WorkerFailure,
    WorkerProcess,
    WorkerReady,
    describe_exit,
)
from auscan.core.environment import usable_cores
from auscan.core.errors import AuscanError, CrashError, InputError, MemoryLimitError, TimeLimitError
from auscan.results.manifest import ManifestRecord, append, is_same_failure

POLL_EVERY_S: Final[float] = 0.1
"""How often limits are looked at."""

MAX_FAILED_STARTS: Final[int] = 3
"""Processes in a row that may die while they load the model, or never come to its end."""

START_TIMEOUT_S: Final[float] = 600.0
"""How long one may take for it: much longer than from the slowest of network disks."""

JobResult = tuple[Job, ManifestRecord]
"""A job, and what became of it."""


class ProgressListener(Protocol):
    """Is told how far the inputs are."""

    def started(self, job: Job) -> None:
        """An input is begun."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """Frames done, and frames in all where that is known."""

    def finished(self, job: Job) -> None:
        """An input is done, failed or given up."""

    def stopping(self, running: int) -> None:
        """So many inputs come to their end, and no others are begun."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one input may take; None: whatever it takes."""

    seconds: float | None = None
    bytes: int | None = None
    """Resident memory of the process that does it, the model included."""


NO_LIMITS: Final = Limits()


class Interrupts:
    """Signals that ask the run to stop, counted while it is entered.

    After `abort_after` of them a KeyboardInterrupt is raised; SIGTERM is out of patience at once.
    """

    def __init__(self, abort_after: int) -> None:
        self._abort_after = abort_after
        self.count = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Signals are only heard in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= self._abort_after or number == signal.SIGTERM:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)  # what follows is tidying up
            raise KeyboardInterrupt


class Runner(Protocol):
    """Does jobs."""

    abort_after: int
    """Signals until it stops at once."""

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """Each job with its record as it ends; none that were not begun when an interrupt came.

        Raises what makes the work impossible for every input.
        """


def run(jobs: Sequence[Job], out: Path, manifest: str, runner: Runner) -> Generator[JobResult]:
    """Do jobs; each with its record, when its result is in its place below `out` and its line is written.

    manifest: name of the file in `out`
    Raises OutputError where results cannot be written, KeyboardInterrupt where it is to stop at once, and
    what the runner raises.
    """
    interrupts = Interrupts(runner.abort_after)
    with (
        interrupts.installed(),
        StagingFolder(out) as folder,
        closing(runner(jobs, folder, interrupts)) as results,
    ):
        for job, record in results:
            try:
                if record.status == "done":
                    for finished in job.result_folders(folder.staging_path(job.name)):
                        folder.publish(finished)
                folder.discard(job.name)
                if job.previous is None or not is_same_failure(job.previous, record):
                    append(out / manifest, record)
            except OSError as error:
                raise output_error(out, error) from error
            yield job, record


class InProcessRunner:
    """Does jobs in this process: no time is lost, but a crash ends it all."""

    abort_after = 1

    def __init__(self, function: JobFunction, listener: ProgressListener) -> None:
        self._function, self._listener = function, listener

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """As `Runner` says."""
        for job in jobs:
            self._listener.started(job)
            record = self._function(
                job, folder.staging_path(job.name), partial(self._listener.progressed, job)
            )
            self._listener.finished(job)
            yield job, record


class PoolRunner:
    """Does jobs in processes of their own: what kills one of them costs one input."""

    abort_after = 2

    def __init__(
        self,
        load: LoadJobFunction,
        metadata: RunMetadata,
        listener: ProgressListener,
        count: int = 1,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """count: processes at the same time; metadata: for the records of inputs whose process is gone"""
        self._load, self._metadata, self._listener = load, metadata, listener
        self._count, self._limits = count, limits
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """As `Runner` says."""
        waiting = deque(jobs)
        try:
            while waiting or self._workers:
                if interrupts.count and waiting:
                    waiting.clear()
                    self._listener.stopping(sum(worker.job is not None for worker in self._workers))
                yield from self.poll(waiting, folder.staging_path)
        finally:
            self.kill_workers()

    def poll(self, waiting: deque[Job], staging_path: Callable[[str], Path]) -> Iterator[JobResult]:
        """Give out what is waiting, and see for a moment what becomes of what is under way.

        staging_path: where the result of a name is to be made
        Raises what makes the work impossible for every input.
        """
        self._assign_jobs(waiting, staging_path)
        readable = (
            wait([worker.connection for worker in self._workers], POLL_EVERY_S) if self._workers else []
        )
        for worker in [each for each in self._workers if each.connection in readable]:
            yield from self._receive(worker)
        for worker in list(self._workers):
            yield from self._enforce_limits(worker)

    def kill_workers(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            worker.kill()

    def _assign_jobs(self, waiting: deque[Job], staging_path: Callable[[str], Path]) -> None:
        """Give out work, dismiss who has none, take on who is needed."""
        for worker in list(self._workers):
            if worker.job is not None:
                continue
            if not waiting:
                self._stop_worker(worker)
            elif worker.ready:
                job = waiting.popleft()
                self._listener.started(job)
                worker.assign(job, staging_path(job.name))
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(self._count - len(self._workers), len(waiting) - starting)):
            worker = WorkerProcess(self._load)
            self._workers.append(worker)
            worker.start()

    def _receive(self, worker: WorkerProcess) -> Iterator[JobResult]:
        match worker.receive():
            case WorkerReady():
                self._failed_starts = 0
            case JobProgress(done, total) if worker.job is not None:
                self._listener.progressed(worker.job, done, total)
            case JobDone(record):
                yield self._finish_job(worker, record)
            case WorkerFailure(error):
                raise error
            case WorkerExit(code):
                self._stop_worker(worker)
                yield from self._worker_exited(worker, describe_exit(code))

    def _worker_exited(self, worker: WorkerProcess, ending: str) -> Iterator[JobResult]:
        if worker.job is not None:
            error = CrashError(f"{worker.job.path} could not be read to its end: {ending}.")
            yield self._fail_job(worker, error)
        else:
            self._count_failed_start(ending)

    def _count_failed_start(self, ending: str) -> None:
        """A process never came to its first job."""
        self._failed_starts += 1
        if self._failed_starts == MAX_FAILED_STARTS:
            raise CrashError(
                f"The model cannot be loaded in a process of its own: {ending}, {MAX_FAILED_STARTS} times "
                "in a row. Try fewer --jobs; what is finished is kept."
            )

    def _enforce_limits(self, worker: WorkerProcess) -> Iterator[JobResult]:
        """Hold a worker to the limits."""
        if worker.job is None:
            if not worker.ready and worker.elapsed_s() > START_TIMEOUT_S:
                self._stop_worker(worker)
                self._count_failed_start(f"it took longer than {START_TIMEOUT_S:g} s")
            return
        path, limit_s, limit_bytes = worker.job.path, self._limits.seconds, self._limits.bytes
        error: InputError | None = None
        if limit_s is not None and worker.elapsed_s() > limit_s:
            error = TimeLimitError(f"{path} took longer than the {limit_s:g} s of --time-limit.")
        elif limit_bytes is not None and worker.memory_bytes() > limit_bytes:
            limit = f"{limit_bytes / 1e9:g} GB of --memory-limit"
            error = MemoryLimitError(f"{path} took more memory than the {limit}.")
        if error is not None:
            self._stop_worker(worker)
            yield self._fail_job(worker, error)

    def _fail_job(self, worker: WorkerProcess, error: AuscanError) -> JobResult:
        assert worker.job is not None
        return self._finish_job(worker, failed_record(worker.job, self._metadata, error, worker.elapsed_s()))

    def _finish_job(self, worker: WorkerProcess, record: ManifestRecord) -> JobResult:
        job = worker.job
        assert job is not None
        worker.job = None
        self._listener.finished(job)
        return job, record

    def _stop_worker(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._workers.remove(worker)


def choose_runner(
    request: DetectRequest,
    metadata: RunMetadata,
    out: Path,
    inputs: int,
    jobs: int,
    limits: Limits,
    listener: ProgressListener,
) -> Runner:
    """Who does so many inputs: this process where nothing else could be lost, else processes of their own.

    jobs: processes at the same time; they share the cores unless the request says how many threads each has
    """
    jobs = min(jobs, max(1, inputs))
    if jobs > 1 and request.threads is None:
        request = replace(request, threads=max(1, usable_cores() // jobs))
    load = partial(load_detect_worker, request, out)
    if inputs == 1 and limits == NO_LIMITS:
        return InProcessRunner(load(), listener)
    return PoolRunner(load, metadata, listener, jobs, limits)
