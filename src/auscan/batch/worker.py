"""A process that does inputs one after the other, seen from both ends.

A native decoder may crash, hang or ask for all the memory there is. So the work is done in another process:
when it dies, one input is lost, and another process goes on. The model stays loaded between inputs.

Why `spawn`: a forked copy of a process in which ONNX Runtime or torch has threads may hang. Why memory is
watched from outside, as resident memory: a limit on address space (RLIMIT_AS) counts what engines and CUDA
reserve and never use, and where it bites, libraries abort in ways that cannot be told from a bug.

In: jobs.  Out: what the process says, and how it ended.
Not here: which jobs, and when to end a process (run.py).
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import psutil

from auscan.batch.jobs import Job, JobFunction
from auscan.core.errors import AuscanError
from auscan.results.manifest import ManifestRecord

LoadJobFunction = Callable[[], JobFunction]
"""Makes the work ready, in the process that is to do it; must survive pickling."""


@dataclass(frozen=True)
class WorkerReady:
    """The model is loaded."""


@dataclass(frozen=True)
class JobProgress:
    """Frames done, and frames in all where that is known."""

    done: int
    total: int | None


@dataclass(frozen=True)
class JobDone:
    """The job is done, or has failed."""

    record: ManifestRecord


@dataclass(frozen=True)
class WorkerFailure:
    """No job can be done at all."""

    error: Exception


@dataclass(frozen=True)
class WorkerExit:
    """The process has ended."""

    code: int
    """Its exit code; negative: the signal that ended it."""


WorkerMessage = WorkerReady | JobProgress | JobDone | WorkerFailure | WorkerExit
"""What a process says, the last of it by its end."""

PROGRESS_EVERY_S: Final[float] = 0.25
"""Least time between two words about progress."""

_CONTEXT: Final = multiprocessing.get_context("spawn")


class WorkerProcess:
    """The end of it that gives out the work."""

    def __init__(self, load: LoadJobFunction) -> None:
        self.connection, self._child_connection = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_worker_main, args=(load, self._child_connection), daemon=True
        )
        self.ready = False
        self.job: Job | None = None
        self._began_s = 0.0

    def start(self) -> None:
        """Begin to load the model.  Whoever starts it must `kill` it, even where this raises."""
        self._began_s = time.monotonic()
        with _signals_blocked():
            self._process.start()
        self._child_connection.close()

    def assign(self, job: Job, folder: Path) -> None:
        """Let it do a job; it must be ready and have none."""
        self.job, self._began_s = job, time.monotonic()
        with suppress(OSError):  # it died meanwhile, which it will say by `receive`
            self.connection.send((job, folder))

    def receive(self) -> WorkerMessage:
        """The next that it says; waits for it."""
        try:
            message: WorkerMessage = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            return WorkerExit(self._process.exitcode or 0)
        self.ready = self.ready or isinstance(message, WorkerReady)
        return message

    def elapsed_s(self) -> float:
        """How long it has been at its job, or at loading the model."""
        return time.monotonic() - self._began_s

    def memory_bytes(self) -> int:
        """Bytes that it holds resident."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # it is gone

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self.connection.close()


def describe_exit(code: int) -> str:
    """Words for the exit code of a process; negative: the signal that ended it."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started meanwhile does not get signals before it can say that they are not for it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else it would be started meanwhile, and let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_main(load: LoadJobFunction, connection: Connection) -> None:
    """The end of it that does the work."""
    _set_up_process()
    try:
        function = load()
    except Exception as error:
        connection.send(WorkerFailure(error))
        return
    connection.send(WorkerReady())
    with suppress(EOFError, OSError):  # the other end is gone
        while True:
            job, folder = connection.recv()
            try:
                connection.send(JobDone(function(job, folder, _progress_sender(connection))))
            except AuscanError as error:  # the disk is full
                connection.send(WorkerFailure(error))
            release_free_memory()


def release_free_memory() -> None:
    """Hand free memory back to the system, where the C library is glibc, which holds it in pieces.

    Else a process would hold a gigabyte more after some hundred inputs, and limits would count it.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _set_up_process() -> None:
    """Ctrl+C is for the other end, which decides; stdout is for results; a crash leaves no core."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Whoever gave out the work is gone: nobody would put the result in its place."""
    parent: Any = multiprocessing.parent_process()
    wait([parent.sentinel])
    os._exit(1)


def _progress_sender(connection: Connection) -> Callable[[int, int | None], None]:
    last_s = time.monotonic()

    def send_progress(done: int, total: int | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PROGRESS_EVERY_S:
            last_s = time.monotonic()
            connection.send(JobProgress(done, total))

    return send_progress
