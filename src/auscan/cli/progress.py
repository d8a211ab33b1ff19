"""Say on stderr how far a run is: a bar in a terminal, a line now and then in a log.

In: frames done and, if known, frames in all.  Out: text on stderr alone; stdout belongs to the results.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from auscan.batch.jobs import Job

Report = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None: unknown)."""

LINE_EVERY_S = float(os.environ.get("AUSCAN_PROGRESS_S", "5"))
"""Seconds between two lines where stderr is not a terminal; the Studio asks for more of them."""


class _Shown(Protocol):
    """What is under way, each with a label."""

    def begin(self, label: str) -> Report:
        """Show one more; call what comes back as its frames are done."""

    def end(self, label: str) -> None:
        """Show one less."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Others may write to the terminal meanwhile."""


@contextmanager
def shown_progress(label: str) -> Iterator[Report]:
    """Yield a function to call as frames are done; `label` says what is worked on."""
    with _shown() as shown:
        yield shown.begin(label)


class Board:
    """Shows how far the inputs of a batch are (a `Watcher` of batch/run.py)."""

    def __init__(self, shown: _Shown, total: int) -> None:
        self._shown, self._total = shown, total
        self._reports: dict[str, tuple[str, Report]] = {}
        self._begun = 0

    def begun(self, job: "Job") -> None:
        """An input is begun."""
        self._begun += 1
        label = f"[{self._begun}/{self._total}] {job.path.name}"
        self._reports[job.key] = label, self._shown.begin(label)

    def step(self, job: "Job", done: int, total: int | None) -> None:
        """Frames done, and frames in all where that is known."""
        self._reports[job.key][1](done, total)

    def ended(self, job: "Job") -> None:
        """An input is done, failed or given up."""
        self._shown.end(self._reports.pop(job.key)[0])

    def stopping(self, running: int) -> None:
        """So many inputs come to their end, and no others are begun."""
        with self.aside():
            print(f"Waiting for {running} inputs to end; Ctrl+C stops them.", file=sys.stderr, flush=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Others may write to the terminal meanwhile."""
        with self._shown.aside():
            yield


@contextmanager
def shown_board(total: int) -> Iterator[Board]:
    """Yield a board for so many inputs."""
    with _shown() as shown:
        yield Board(shown, total)


@contextmanager
def _shown() -> Iterator[_Shown]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.close()


class _Bars:
    """A bar each, gone when it is done."""

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
        # Redirected, stdout would come out on stderr.
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, Any] = {}
        self._progress.start()

    def begin(self, label: str) -> Report:
        began_s = time.monotonic()
        task = self._tasks[label] = self._progress.add_task(label, total=None, fps=0.0)

        def report(done: int, total: int | None) -> None:
            fps = done / max(time.monotonic() - began_s, 1e-6)
            self._progress.update(task, completed=done, total=total, fps=fps)

        return report

    def end(self, label: str) -> None:
        self._progress.remove_task(self._tasks.pop(label))

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """A line now and then."""

    def begin(self, label: str) -> Report:
        began_s = last_s = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s < LINE_EVERY_S:
                return
            last_s = now_s
            print(progress_line(label, done, total, now_s - began_s), file=sys.stderr, flush=True)

        return report

    def end(self, label: str) -> None:
        """Nothing to take away."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield


def progress_line(label: str, done: int, total: int | None, elapsed_s: float) -> str:
    """'talk.mp4: 250 of 1000 frames, 50 fps, 15 s left'; without a total there is no time left to say."""
    fps = done / max(elapsed_s, 1e-6)
    if total is None or done == 0:
        return f"{label}: {done} frames, {fps:.0f} fps"
    return f"{label}: {done} of {total} frames, {fps:.0f} fps, {max(0, total - done) / fps:.0f} s left"
