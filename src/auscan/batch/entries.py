"""The manifest's line on an input, as far as it does not depend on the work.

In: a job, the run's own facts.  Out: an Entry.
Not here: its form on the disk (results/manifest.py).
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from auscan.batch.identity import state_of
from auscan.batch.job import Job
from auscan.batch.request import About
from auscan.core.errors import AuscanError
from auscan.results.manifest import Entry


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
