"""Say on stderr how far a run is: a bar in a terminal, a line now and then in a log.

In: frames done and, if known, frames in all.  Out: text on stderr alone; stdout belongs to the results.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None: unknown)."""

LINE_EVERY_S = float(os.environ.get("AUSCAN_PROGRESS_S", "5"))
"""Seconds between two lines where stderr is not a terminal; the Studio asks for more of them."""


@contextmanager
def shown_progress(label: str) -> Iterator[Report]:
    """Yield a function to call as frames are done; `label` says what is worked on."""
    if sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield _lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.0f} fps"),
        TimeRemainingColumn(),
    )
    began_s = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None, fps=0.0)

        def report(done: int, total: int | None) -> None:
            fps = done / max(time.monotonic() - began_s, 1e-6)
            progress.update(task, completed=done, total=total, fps=fps)

        yield report


def _lines(label: str) -> Report:
    began_s = last_s = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < LINE_EVERY_S:
            return
        last_s = now_s
        print(progress_line(label, done, total, now_s - began_s), file=sys.stderr, flush=True)

    return report


def progress_line(label: str, done: int, total: int | None, elapsed_s: float) -> str:
    """'talk.mp4: 250 of 1000 frames, 50 fps, 15 s left'; without a total there is no time left to say."""
    fps = done / max(elapsed_s, 1e-6)
    if total is None or done == 0:
        return f"{label}: {done} frames, {fps:.0f} fps"
    return f"{label}: {done} of {total} frames, {fps:.0f} fps, {max(0, total - done) / fps:.0f} s left"
