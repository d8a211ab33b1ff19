"""The loop around all inputs: give them out, put finished results in their place, write the manifest.

A runner takes jobs and gives (job, entry) as each ends, its files in `RunFolder.new(job.name)`. There are
three, `Here`, in this process, `InWorkers`, and `OnRay` (on_ray.py); they take the same jobs and give the
same entries.

Ctrl+C (SIGINT) lets the inputs that run come to their end and begins no others; a second one, or SIGTERM,
stops at once. In this process there is nothing to wait for, so the first one stops.

In: a plan.  Out: entries, each when its result is in its place and its line on the disk.
Not here: one input (detect.py), one process (worker.py).
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

from auscan.batch.detect_worker import load_detection
from auscan.batch.jobs import Job, Work, failed
from auscan.batch.options import About, Request
from auscan.batch.output_folder import RunFolder, not_writable
from auscan.batch.worker import Ended, Gone, Load, Ready, Refused, Step, Worker, how_it_ended
from auscan.core.environment import usable_cores
from auscan.core.errors import AuscanError, CrashError, InputError, MemoryLimitError, TimeLimitError
from auscan.results.manifest import Entry, append, is_same_failure

LOOK_EVERY_S: Final[float] = 0.1
"""How often limits are looked at."""

STARTS: Final[int] = 3
"""Processes in a row that may die while they load the model, or never come to its end."""

START_S: Final[float] = 600.0
"""How long one may take for it: much longer than from the slowest of network disks."""

Settled = tuple[Job, Entry]
"""A job, and what became of it."""


class Watcher(Protocol):
    """Is told how far the inputs are."""

    def begun(self, job: Job) -> None:
        """An input is begun."""

    def step(self, job: Job, done: int, total: int | None) -> None:
        """Frames done, and frames in all where that is known."""

    def ended(self, job: Job) -> None:
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

    After `patience` of them a KeyboardInterrupt is raised; SIGTERM is out of patience at once.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.count = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Signals are only heard in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= self._patience or number == signal.SIGTERM:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)  # what follows is tidying up
            raise KeyboardInterrupt


class Runner(Protocol):
    """Does jobs."""

    patience: int
    """Signals until it stops at once."""

    def __call__(self, jobs: Sequence[Job], folder: RunFolder, interrupts: Interrupts) -> Generator[Settled]:
        """Each job with its entry as it ends; none that were not begun when an interrupt came.

        Raises what makes the work impossible for every input.
        """


def run(jobs: Sequence[Job], out: Path, manifest: str, runner: Runner) -> Generator[Settled]:
    """Do jobs; each with its entry, when its result is in its place below `out` and its line is written.

    manifest: name of the file in `out`
    Raises OutputError where results cannot be written, KeyboardInterrupt where it is to stop at once, and
    what the runner raises.
    """
    interrupts = Interrupts(runner.patience)
    with (
        interrupts.heard(),
        RunFolder(out) as folder,
        closing(runner(jobs, folder, interrupts)) as ends,
    ):
        for job, entry in ends:
            try:
                if entry.status == "done":
                    for finished in job.finished(folder.new(job.name)):
                        folder.put_in_place(finished)
                folder.discard(job.name)
                if job.known is None or not is_same_failure(job.known, entry):
                    append(out / manifest, entry)
            except OSError as error:
                raise not_writable(out, error) from error
            yield job, entry


class Here:
    """Does jobs in this process: no time is lost, but a crash ends it all."""

    patience = 1

    def __init__(self, work: Work, watcher: Watcher) -> None:
        self._work, self._watcher = work, watcher

    def __call__(self, jobs: Sequence[Job], folder: RunFolder, interrupts: Interrupts) -> Generator[Settled]:
        """As `Runner` says."""
        for job in jobs:
            self._watcher.begun(job)
            entry = self._work(job, folder.new(job.name), partial(self._watcher.step, job))
            self._watcher.ended(job)
            yield job, entry


class InWorkers:
    """Does jobs in processes of their own: what kills one of them costs one input."""

    patience = 2

    def __init__(
        self, load: Load, about: About, watcher: Watcher, count: int = 1, limits: Limits = NO_LIMITS
    ) -> None:
        """count: processes at the same time; about: for the entries of inputs whose process is gone"""
        self._load, self._about, self._watcher = load, about, watcher
        self._count, self._limits = count, limits
        self._crew: list[Worker] = []
        self._lost = 0

    def __call__(self, jobs: Sequence[Job], folder: RunFolder, interrupts: Interrupts) -> Generator[Settled]:
        """As `Runner` says."""
        waiting = deque(jobs)
        try:
            while waiting or self._crew:
                if interrupts.count and waiting:
                    waiting.clear()
                    self._watcher.stopping(sum(worker.job is not None for worker in self._crew))
                yield from self.turn(waiting, folder.new)
        finally:
            self.end()

    def turn(self, waiting: deque[Job], place: Callable[[str], Path]) -> Iterator[Settled]:
        """Give out what is waiting, and see for a moment what becomes of what is under way.

        place: where the result of a name is to be made
        Raises what makes the work impossible for every input.
        """
        self._staff(waiting, place)
        speaking = wait([worker.link for worker in self._crew], LOOK_EVERY_S) if self._crew else []
        for worker in [each for each in self._crew if each.link in speaking]:
            yield from self._hear(worker)
        for worker in list(self._crew):
            yield from self._check(worker)

    def end(self) -> None:
        """End all processes at once."""
        for worker in self._crew:
            worker.end()

    def _staff(self, waiting: deque[Job], place: Callable[[str], Path]) -> None:
        """Give out work, dismiss who has none, take on who is needed."""
        for worker in list(self._crew):
            if worker.job is not None:
                continue
            if not waiting:
                self._dismiss(worker)
            elif worker.ready:
                job = waiting.popleft()
                self._watcher.begun(job)
                worker.give(job, place(job.name))
        starting = sum(not worker.ready for worker in self._crew)
        for _ in range(min(self._count - len(self._crew), len(waiting) - starting)):
            worker = Worker(self._load)
            self._crew.append(worker)
            worker.start()

    def _hear(self, worker: Worker) -> Iterator[Settled]:
        match worker.hear():
            case Ready():
                self._lost = 0
            case Step(done, total) if worker.job is not None:
                self._watcher.step(worker.job, done, total)
            case Ended(entry):
                yield self._take(worker, entry)
            case Refused(error):
                raise error
            case Gone(code):
                self._dismiss(worker)
                yield from self._gone(worker, how_it_ended(code))

    def _gone(self, worker: Worker, how: str) -> Iterator[Settled]:
        if worker.job is not None:
            error = CrashError(f"{worker.job.path} could not be read to its end: {how}.")
            yield self._fail(worker, error)
        else:
            self._lose(how)

    def _lose(self, how: str) -> None:
        """A process never came to its first job."""
        self._lost += 1
        if self._lost == STARTS:
            raise CrashError(
                f"The model cannot be loaded in a process of its own: {how}, {STARTS} times in a row. "
                "Try fewer --jobs; what is finished is kept."
            )

    def _check(self, worker: Worker) -> Iterator[Settled]:
        """Hold a worker to the limits."""
        if worker.job is None:
            if not worker.ready and worker.seconds() > START_S:
                self._dismiss(worker)
                self._lose(f"it took longer than {START_S:g} s")
            return
        path, most_s, most_bytes = worker.job.path, self._limits.seconds, self._limits.bytes
        error: InputError | None = None
        if most_s is not None and worker.seconds() > most_s:
            error = TimeLimitError(f"{path} took longer than the {most_s:g} s of --time-limit.")
        elif most_bytes is not None and worker.memory() > most_bytes:
            limit = f"{most_bytes / 1e9:g} GB of --memory-limit"
            error = MemoryLimitError(f"{path} took more memory than the {limit}.")
        if error is not None:
            self._dismiss(worker)
            yield self._fail(worker, error)

    def _fail(self, worker: Worker, error: AuscanError) -> Settled:
        assert worker.job is not None
        return self._take(worker, failed(worker.job, self._about, error, worker.seconds()))

    def _take(self, worker: Worker, entry: Entry) -> Settled:
        job = worker.job
        assert job is not None
        worker.job = None
        self._watcher.ended(job)
        return job, entry

    def _dismiss(self, worker: Worker) -> None:
        worker.end()
        self._crew.remove(worker)


def choose_runner(
    request: Request, about: About, out: Path, inputs: int, jobs: int, limits: Limits, watcher: Watcher
) -> Runner:
    """Who does so many inputs: this process where nothing else could be lost, else processes of their own.

    jobs: processes at the same time; they share the cores unless the request says how many threads each has
    """
    jobs = min(jobs, max(1, inputs))
    if jobs > 1 and request.threads is None:
        request = replace(request, threads=max(1, usable_cores() // jobs))
    load = partial(load_detection, request, out)
    if inputs == 1 and limits == NO_LIMITS:
        return Here(load(), watcher)
    return InWorkers(load, about, watcher, jobs, limits)
