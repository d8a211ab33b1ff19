"""Show the progress of a run on stderr: a bar in a terminal, otherwise a line every few seconds.

Inputs: finished frames and, if known, the total. Returns: text on stderr only; stdout is for results.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.batch.jobs import Job

ProgressCallback = Callable[[int, int | None], None]
"""Function called with finished frames and total frames (None: unknown)."""

LINE_EVERY_S = 5.0
"""Default time between two progress lines if stderr is not a terminal, seconds."""

LINE_EVERY_VARIABLE = "AUSCAN_PROGRESS_S"
"""Environment variable that replaces LINE_EVERY_S; the Studio sets it for its workers."""


class ProgressDisplay(Protocol):
    """Display of several running inputs, each with a label."""

    def begin(self, label: str) -> ProgressCallback:
        """Add an input; return the function to call with its finished frames."""

    def end(self, label: str) -> None:
        """Remove an input."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the display while the caller writes to the terminal."""


@contextmanager
def show_progress(label: str) -> Iterator[ProgressCallback]:
    """Yield the function to call with finished frames; `label` names the input."""
    with _open_display() as display:
        yield display.begin(label)


class BatchProgress:
    """Progress display of a batch (a `ProgressListener` of batch/run.py)."""

    def __init__(self, display: ProgressDisplay, total: int) -> None:
        self._display, self._total = display, total
        self._callbacks: dict[str, tuple[str, ProgressCallback]] = {}
        self._started = 0

    def started(self, job: "Job") -> None:
        """Add a started input."""
        self._started += 1
        label = f"[{self._started}/{self._total}] {job.path.name}"
        self._callbacks[job.key] = label, self._display.begin(label)

    def progressed(self, job: "Job", done: int, total: int | None) -> None:
        """Update the finished and, if known, total frames of an input."""
        self._callbacks[job.key][1](done, total)

    def finished(self, job: "Job") -> None:
        """Remove an input that succeeded, failed or was stopped."""
        self._display.end(self._callbacks.pop(job.key)[0])

    def stopping(self, running: int) -> None:
        """Print that `running` inputs are finished and no others are started."""
        with self.paused():
            print(
                f"Finishing {running} running inputs; press Ctrl+C again to stop them.",
                file=sys.stderr,
                flush=True,
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the display while the caller writes to the terminal."""
        with self._display.paused():
            yield


@contextmanager
def show_batch_progress(total: int) -> Iterator[BatchProgress]:
    """Yield the progress display of a batch of `total` inputs."""
    with _open_display() as display:
        yield BatchProgress(display, total)


@contextmanager
def _open_display() -> Iterator[ProgressDisplay]:
    line_every_s = read_line_every_s()
    if not sys.stderr.isatty():
        yield _LineDisplay(line_every_s)
        return
    bars = _BarDisplay()
    try:
        yield bars
    finally:
        bars.close()


class _BarDisplay:
    """Progress bars in a terminal, one per running input."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.0f} fps"),
            TimeRemainingColumn(),
        )
        # With redirection rich would print stdout to stderr.
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}
        self._progress.start()

    def begin(self, label: str) -> ProgressCallback:
        began_s = time.monotonic()
        task = self._tasks[label] = self._progress.add_task(label, total=None, fps=0.0)

        def report(done: int, total: int | None) -> None:
            fps = done / max(time.monotonic() - began_s, 1e-6)
            self._progress.update(task, completed=done, total=total, fps=fps)

        return report

    def end(self, label: str) -> None:
        self._progress.remove_task(self._tasks.pop(label))

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def close(self) -> None:
        self._progress.stop()


def read_line_every_s() -> float:
    """Return the seconds between two progress lines: AUSCAN_PROGRESS_S or LINE_EVERY_S.

    Raises InputError if the variable is not a number of at least 0.
    """
    text = os.environ.get(LINE_EVERY_VARIABLE)
    if text is None:
        return LINE_EVERY_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # also refuses NaN
        raise InputError(
            f"The environment variable {LINE_EVERY_VARIABLE} is {text!r}, not a number of seconds. "
            "Set it to a number such as 5, or unset it."
        )
    return seconds


class _LineDisplay:
    """Progress lines on stderr, for logs."""

    def __init__(self, line_every_s: float) -> None:
        self._line_every_s = line_every_s

    def begin(self, label: str) -> ProgressCallback:
        began_s = last_s = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s < self._line_every_s:
                return
            last_s = now_s
            print(progress_line(label, done, total, now_s - began_s), file=sys.stderr, flush=True)

        return report

    def end(self, label: str) -> None:
        """Do nothing: printed lines stay."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield


def progress_line(label: str, done: int, total: int | None, elapsed_s: float) -> str:
    """Return e.g. 'talk.mp4: 250 of 1000 frames, 50 fps, 15 s left'; without a total, no time left."""
    fps = done / max(elapsed_s, 1e-6)
    if total is None or done == 0:
        return f"{label}: {done} frames, {fps:.0f} fps"
    return f"{label}: {done} of {total} frames, {fps:.0f} fps, {max(0, total - done) / fps:.0f} s left"
