"""One input that is to be done, and what does it.

Light to import: a process of a batch knows its jobs before it loads anything else.

The manifest's line on an input, as far as it does not depend on the work.

In: a job, the run's own facts.  Out: a ManifestRecord.
Not here: its form on the disk (results/manifest.py).

Try a job: whatever goes wrong with its input becomes a record, and the batch goes on.

In: a job and what does it.  Out: a ManifestRecord.
Not here: what a job is made into (detect_worker.py, extract.py).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from auscan.batch.fingerprint import size_and_mtime
from auscan.batch.options import RunMetadata
from auscan.batch.output_folder import is_output_error, output_error
from auscan.core.errors import AuscanError, OutputError
from auscan.results.manifest import ManifestRecord

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
    previous: ManifestRecord | None = None
    """With --resume the last line on it, where that is a failure, or a result that stands if only the content
    is still the same."""
    reason: str = "new"
    """Why it is to be done."""

    def result_folders(self, staged: Path) -> Sequence[Path]:
        """The folders in what was made that take their names below OUT; none where the old result stands."""
        return [staged] if staged.exists() else []


class JobFunction(Protocol):
    """Does one input after the other."""

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """Do a job, its files into `folder`; whatever goes wrong with the input is in the record.

        Raises OutputError where the disk takes no more.
        """


def make_record(job: Job, metadata: RunMetadata, status: Literal["done", "failed"]) -> ManifestRecord:
    """What is known of an input before it is read: nothing of its result."""
    return ManifestRecord(
        path=str(job.path),
        key=job.key,
        status=status,
        **vars(metadata),
        ended=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def failed_record(job: Job, metadata: RunMetadata, error: Exception, seconds: float) -> ManifestRecord:
    """The record of an input that could not be done."""
    record = replace(
        make_record(job, metadata, "failed"),
        seconds=round(seconds, 3),
        error_class=type(error).__name__,
        error=_error_line(error, job),
    )
    try:
        size, mtime_ns = size_and_mtime(job.path)
    except AuscanError:
        return record
    return replace(record, size=size, mtime_ns=mtime_ns)


def _error_line(error: Exception, job: Job) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, AuscanError):
        return text
    return f"{job.path} failed on something unforeseen, {type(error).__name__}: {text}. Please report it."


def attempt(
    job: Job, metadata: RunMetadata, out: Path, function: Callable[[], ManifestRecord]
) -> ManifestRecord:
    """What `function` gives, with the seconds it took, or what went wrong.

    out: the folder of all results
    Raises OutputError where the disk takes no more.
    """
    began_s = time.monotonic()
    try:
        if job.error is not None:
            raise job.error
        record = function()
    except OutputError:
        raise
    except Exception as error:  # foreseen or not, one input must not stop the batch
        if isinstance(error, OSError) and is_output_error(out, error):
            raise output_error(out, error) from error
        return failed_record(job, metadata, error, time.monotonic() - began_s)
    return replace(record, seconds=round(time.monotonic() - began_s, 3))
