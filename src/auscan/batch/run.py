"""Run all jobs: assign them to workers, publish finished results, write the manifest.

A runner takes jobs and yields (job, record) when each ends, with its files in
`StagingFolder.staging_path(job.name)`. `InProcessRunner`, `PoolRunner` and `RayRunner` (ray_runner.py) take
the same jobs and yield the same records.

Ctrl+C (SIGINT) lets running jobs finish and starts no others; a second one, or SIGTERM, stops at once. The
in-process runner stops at the first one.

Inputs: jobs. Returns: (job, record) after the result is in place and its manifest line is written.
See also: jobs.py (one input), worker.py (one process), output_folder.py (publishing).
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

from auscan.batch.jobs import DetectRequest, Job, JobFunction, RunMetadata, failed_record, load_detect_worker
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
"""Interval at which limits are checked, seconds."""

MAX_FAILED_STARTS: Final[int] = 3
"""Number of processes in a row that fail to load the model before the run is aborted."""

START_TIMEOUT_S: Final[float] = 600.0
"""Time that loading the model may take, in seconds; much longer than from a slow network disk."""

JobResult = tuple[Job, ManifestRecord]
"""Job with its manifest record."""


class ProgressListener(Protocol):
    """Listener for the progress of jobs."""

    def started(self, job: Job) -> None:
        """Handle the start of a job."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """Handle progress: frames processed, and the total number, None if unknown."""

    def finished(self, job: Job) -> None:
        """Handle the end of a job, done or failed."""

    def stopping(self, running: int) -> None:
        """Handle an interrupt: `running` jobs will finish and no others start."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one input; None for no limit."""

    seconds: float | None = None
    """Time."""
    bytes: int | None = None
    """Resident memory of its process, including the model."""


NO_LIMITS: Final = Limits()
"""Limits without a limit."""


class Interrupts:
    """Counter of the signals SIGINT and SIGTERM.

    The `abort_after`-th signal raises KeyboardInterrupt, and so does any SIGTERM.
    """

    def __init__(self, abort_after: int) -> None:
        """Create the counter; `installed` starts it."""
        self._abort_after = abort_after
        self.count = 0
        """Number of signals so far."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Count signals within this context; no effect outside the main thread, where Python forbids it."""
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
                signal.signal(each, signal.SIG_IGN)  # do not interrupt the cleanup
            raise KeyboardInterrupt


class Runner(Protocol):
    """Way of running jobs."""

    abort_after: int
    """Number of SIGINT signals after which the run stops at once."""

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """Run jobs and yield each with its record when it ends; start no job after an interrupt.

        Raises errors that concern every input.
        """


def run(jobs: Sequence[Job], out: Path, manifest: str, runner: Runner) -> Generator[JobResult]:
    """Run jobs; yield each with its record after its result is published and its manifest line is written.

    manifest: name of the file in `out`

    Raises OutputError if results cannot be written, KeyboardInterrupt if stopped at once, and the errors of
    the runner.
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
    """Runner in this process: fastest start, but a crash ends the run."""

    abort_after = 1

    def __init__(self, function: JobFunction, listener: ProgressListener) -> None:
        """Create a runner that calls `function` for each job."""
        self._function, self._listener = function, listener

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """Run jobs; see `Runner`."""
        for job in jobs:
            self._listener.started(job)
            record = self._function(
                job, folder.staging_path(job.name), partial(self._listener.progressed, job)
            )
            self._listener.finished(job)
            yield job, record


class PoolRunner:
    """Runner in worker processes: a crash costs one input."""

    abort_after = 2

    def __init__(
        self,
        load: LoadJobFunction,
        metadata: RunMetadata,
        listener: ProgressListener,
        count: int = 1,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Create the runner.

        load: builds the job function in each process
        metadata: for the records of inputs whose process has ended
        count: number of processes at the same time
        limits: limits of each input
        """
        self._load, self._metadata, self._listener = load, metadata, listener
        self._count, self._limits = count, limits
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """Run jobs; see `Runner`."""
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
        """Assign waiting jobs, wait briefly for messages, enforce limits; yield the jobs that have ended.

        staging_path: returns the path for a result by its name

        Raises errors that concern every input.
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
        """Kill all processes."""
        for worker in self._workers:
            worker.kill()

    def _assign_jobs(self, waiting: deque[Job], staging_path: Callable[[str], Path]) -> None:
        """Assign waiting jobs, stop idle processes, start missing ones."""
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
        """Fail the job of a process that has ended, or count a failed start."""
        if worker.job is not None:
            error = CrashError(f"{worker.job.path} could not be read to its end: {ending}.")
            yield self._fail_job(worker, error)
        else:
            self._count_failed_start(ending)

    def _count_failed_start(self, ending: str) -> None:
        """Count a process that never received a job; raise CrashError after too many in a row."""
        self._failed_starts += 1
        if self._failed_starts == MAX_FAILED_STARTS:
            raise CrashError(
                f"The model cannot be loaded in a worker process: {ending}, {MAX_FAILED_STARTS} times in a "
                "row. Try fewer --jobs; finished results are kept."
            )

    def _enforce_limits(self, worker: WorkerProcess) -> Iterator[JobResult]:
        """Kill a worker that exceeds a limit, and fail its job."""
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
    """Choose in-process execution for a single input without limits, else a pool of worker processes.

    jobs: number of processes at the same time; they share the cores unless the request sets `threads`
    """
    jobs = min(jobs, max(1, inputs))
    if jobs > 1 and request.threads is None:
        request = replace(request, threads=max(1, usable_cores() // jobs))
    load = partial(load_detect_worker, request, out)
    if inputs == 1 and limits == NO_LIMITS:
        return InProcessRunner(load(), listener)
    return PoolRunner(load, metadata, listener, jobs, limits)
