"""Call a function in a new process, so that a crash or a leak of it cannot reach this process.

Unlike the workers of a run (run.py), the process makes one call and sends back its result.

Inputs: a picklable function. Returns: its result.
See also: worker.py (the process), api.py (`auscan.detect(..., isolate=True)`).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from auscan.batch.worker import (
    JobProgress,
    WorkerExit,
    WorkerFailure,
    WorkerProcess,
    describe_exit,
    progress_sender,
    set_up_process,
)
from auscan.core.errors import CrashError

T = TypeVar("T")
"""Type of the result."""

Progress = Callable[[int, int | None], None]
"""Called with the number of processed frames and the expected number (None: unknown)."""


@dataclass(frozen=True)
class CallDone:
    """Message: the function has returned."""

    value: Any
    """Return value of the function."""


def call_in_process(function: Callable[[Progress], T], name: str, progress: Progress | None = None) -> T:
    """Call a function with a progress callback in a new process and return its result.

    name: name of the input, for messages
    progress: called in this process with the numbers that the function reports

    Raises the errors of the function, and CrashError if the process ends without a result.
    """
    process = WorkerProcess(function, _call_main)
    try:
        with _without_main_module():
            process.start()
        while True:
            match process.receive():
                case JobProgress(done=done, total=total):
                    if progress is not None:
                        progress(done, total)
                case CallDone(value=value):
                    return value  # type: ignore[no-any-return]
                case WorkerFailure(error=error):
                    raise error
                case WorkerExit(code=code):
                    raise CrashError(f"{name} could not be read to its end: {describe_exit(code)}.")
    finally:
        process.kill()


def _call_main(function: Callable[[Progress], Any], connection: Connection) -> None:
    """Make the call in the new process."""
    set_up_process()
    message: CallDone | WorkerFailure
    try:
        message = CallDone(function(progress_sender(connection)))
    except Exception as error:
        message = WorkerFailure(error)
    connection.send(message)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep the new process from importing the caller's script, which would run again without a guard."""
    attributes = vars(sys.modules["__main__"])
    before: dict[str, Any] = {n: attributes[n] for n in ("__file__", "__spec__") if n in attributes}
    try:
        attributes.update(dict.fromkeys(before))  # None
        yield
    finally:
        attributes.update(before)
