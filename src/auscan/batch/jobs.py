"""One input that is to be done, and what does it.

Light to import: a process of a batch knows its jobs before it loads anything else.

The manifest's line on an input, as far as it does not depend on the work.

In: a job, the run's own facts.  Out: an Entry.
Not here: its form on the disk (results/manifest.py).

Try a job: whatever goes wrong with its input becomes an entry, and the batch goes on.

In: a job and what does it.  Out: an Entry.
Not here: what a job is made into (detect.py, extract.py).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from auscan.batch.fingerprint import state_of
from auscan.batch.options import About
from auscan.batch.output_folder import not_writable, takes_no_more
from auscan.core.errors import AuscanError, OutputError
from auscan.results.manifest import Entry

Progress = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None: unknown)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input that is to be done."""

    path: Path
    key: str
    """What the input is known by (media/discover.py)."""
    name: str
    """Of its folder below OUT."""
    error: AuscanError | None = None
    """Why it cannot be done at all."""
    known: Entry | None = None
    """With --resume the last line on it, where that is a failure, or a result that stands if only the content
    is still the same."""
    why: str = "new"
    """Why it is to be done."""

    def finished(self, made: Path) -> Sequence[Path]:
        """The folders in what was made that take their names below OUT; none where the old result stands."""
        return [made] if made.exists() else []


class Work(Protocol):
    """Does one input after the other."""

    def __call__(self, job: Job, folder: Path, progress: Progress) -> Entry:
        """Do a job, its files into `folder`; whatever goes wrong with the input is in the entry.

        Raises OutputError where the disk takes no more.
        """


def entry_of(job: Job, about: About, status: Literal["done", "failed"]) -> Entry:
    """What is known of an input before it is read: nothing of its result."""
    return Entry(
        path=str(job.path),
        key=job.key,
        status=status,
        **vars(about),
        ended=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def failed(job: Job, about: About, error: Exception, seconds: float) -> Entry:
    """The entry of an input that could not be done."""
    entry = replace(
        entry_of(job, about, "failed"),
        seconds=round(seconds, 3),
        error_class=type(error).__name__,
        error=_one_line(error, job),
    )
    try:
        size, mtime_ns = state_of(job.path)
    except AuscanError:
        return entry
    return replace(entry, size=size, mtime_ns=mtime_ns)


def _one_line(error: Exception, job: Job) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, AuscanError):
        return text
    return f"{job.path} failed on something unforeseen, {type(error).__name__}: {text}. Please report it."


def attempt(job: Job, about: About, out: Path, do: Callable[[], Entry]) -> Entry:
    """What `do` gives, with the seconds it took, or what went wrong.

    out: the folder of all results
    Raises OutputError where the disk takes no more.
    """
    began_s = time.monotonic()
    try:
        if job.error is not None:
            raise job.error
        entry = do()
    except OutputError:
        raise
    except Exception as error:  # foreseen or not, one input must not stop the batch
        if isinstance(error, OSError) and takes_no_more(out, error):
            raise not_writable(out, error) from error
        return failed(job, about, error, time.monotonic() - began_s)
    return replace(entry, seconds=round(time.monotonic() - began_s, 3))
