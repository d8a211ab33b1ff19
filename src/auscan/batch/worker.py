"""Run jobs in a worker process: parent and child side.

A native decoder may crash, hang or exhaust memory. In a separate process this costs one input, and a new
process continues. The model stays loaded between inputs.

Processes are spawned, because a forked copy of a process with threads of ONNX Runtime or torch may hang.
Memory is measured from outside as resident memory: a limit on address space (RLIMIT_AS) also counts memory
that engines and CUDA reserve but never use, and libraries that hit it abort as if they had a bug.

Inputs: jobs. Returns: messages of the process, and its exit code.
See also: run.py (assigning jobs, enforcing limits).
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
"""Build the job function in the process that runs it; must be picklable."""


@dataclass(frozen=True)
class WorkerReady:
    """Message: the model is loaded."""


@dataclass(frozen=True)
class JobProgress:
    """Message: progress of the current job."""

    done: int
    """Number of processed frames."""
    total: int | None
    """Total number of frames; None if unknown."""


@dataclass(frozen=True)
class JobDone:
    """Message: the job is done or has failed."""

    record: ManifestRecord
    """Manifest record of the job."""


@dataclass(frozen=True)
class WorkerFailure:
    """Message: no job can be processed."""

    error: Exception
    """Reason, an error that concerns every input."""


@dataclass(frozen=True)
class WorkerExit:
    """Message: the process has ended."""

    code: int
    """Exit code; if negative, the number of the signal that ended the process."""


WorkerMessage = WorkerReady | JobProgress | JobDone | WorkerFailure | WorkerExit
"""Message of a worker process; `WorkerExit` is the last one."""

PROGRESS_EVERY_S: Final[float] = 0.25
"""Minimum interval between two progress messages, seconds."""

_CONTEXT: Final = multiprocessing.get_context("spawn")


class WorkerProcess:
    """Parent-side handle of a worker process."""

    def __init__(self, load: Any, main: Callable[[Any, Connection], None] | None = None) -> None:
        """Create the process; `start` starts it.

        load: argument of `main`; by default a `LoadJobFunction`
        main: main function of the process; by default it runs jobs
        """
        self.connection, self._child_connection = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=main or _worker_main, args=(load, self._child_connection), daemon=True
        )
        self.ready = False
        """Whether the model is loaded."""
        self.job: Job | None = None
        """Job being processed; None if the process is idle or loads the model."""
        self._began_s = 0.0

    def start(self) -> None:
        """Start the process, which loads the model. `kill` must be called later, even if this raises."""
        self._began_s = time.monotonic()
        with _signals_blocked():
            self._process.start()
        self._child_connection.close()

    def assign(self, job: Job, folder: Path) -> None:
        """Send a job to the process, which must be ready and idle."""
        self.job, self._began_s = job, time.monotonic()
        with suppress(OSError):  # the process has died; `receive` will return WorkerExit
            self.connection.send((job, folder))

    def receive(self) -> WorkerMessage:
        """Wait for the next message and return it."""
        try:
            message: WorkerMessage = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            return WorkerExit(self._process.exitcode or 0)
        self.ready = self.ready or isinstance(message, WorkerReady)
        return message

    def elapsed_s(self) -> float:
        """Return the seconds since the job, or the loading of the model, began."""
        return time.monotonic() - self._began_s

    def memory_bytes(self) -> int:
        """Return the resident memory of the process in bytes."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # the process has ended

    def kill(self) -> None:
        """Kill the process and close the connection."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self.connection.close()


def describe_exit(code: int) -> str:
    """Describe the exit code of a process; if negative, the signal that ended it."""
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
    """Block SIGINT and SIGTERM, so that a process started meanwhile receives none before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started within the block, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_main(load: LoadJobFunction, connection: Connection) -> None:
    """Run jobs in the worker process."""
    set_up_process()
    try:
        function = load()
    except Exception as error:
        connection.send(WorkerFailure(error))
        return
    connection.send(WorkerReady())
    with suppress(EOFError, OSError):  # the parent has ended
        while True:
            job, folder = connection.recv()
            try:
                connection.send(JobDone(function(job, folder, progress_sender(connection))))
            except AuscanError as error:  # the disk is full
                connection.send(WorkerFailure(error))
            release_free_memory()


def release_free_memory() -> None:
    """Return free memory to the system; glibc keeps it otherwise.

    Without this, a process holds a gigabyte more after some hundred inputs, which the memory limit would
    count.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def set_up_process() -> None:
    """Leave signals to the parent, send stdout to stderr, disable core dumps, watch the parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit once the parent process has ended, as no other process would publish the result."""
    parent: Any = multiprocessing.parent_process()
    wait([parent.sentinel])
    os._exit(1)


def progress_sender(connection: Connection) -> Callable[[int, int | None], None]:
    """Return a progress callback that sends messages to the parent, at most one every PROGRESS_EVERY_S."""
    last_s = time.monotonic()

    def send_progress(done: int, total: int | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PROGRESS_EVERY_S:
            last_s = time.monotonic()
            connection.send(JobProgress(done, total))

    return send_progress
