"""Define the jobs of a run, and build their manifest records.

`attempt` runs one job and turns errors of its input into a failed record, so that the run continues. This
module imports no heavy library, because a worker process receives its jobs before it loads the model.

Inputs: a job, the metadata of the run, a function. Returns: a ManifestRecord.
See also: detect_worker.py, extract.py (job functions), results/manifest.py (the file).
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
"""Called with the number of processed frames and the total number (None: unknown)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Input to process."""

    path: Path
    """Path of the input."""
    key: str
    """Key of the input, the same in all runs (media/discover.py)."""
    name: str
    """Name of its result folder below OUT."""
    error: AuscanError | None = None
    """Error that makes the input impossible to process; None if there is none."""
    previous: ManifestRecord | None = None
    """With --resume: last record of the input if it failed, or if its result is current unless the
    content changed; else None."""
    reason: str = "new"
    """Reason for processing the input."""

    def result_folders(self, staged: Path) -> Sequence[Path]:
        """Return the folders to move below OUT; none if the stored result is kept."""
        return [staged] if staged.exists() else []


class JobFunction(Protocol):
    """Function that processes one input per call."""

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """Process a job and write its files into `folder`; errors of the input are stored in the record.

        Raises OutputError if results cannot be written.
        """


def make_record(job: Job, metadata: RunMetadata, status: Literal["done", "failed"]) -> ManifestRecord:
    """Return a record without fingerprint, result or error."""
    return ManifestRecord(
        path=str(job.path),
        key=job.key,
        status=status,
        **vars(metadata),
        ended=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def failed_record(job: Job, metadata: RunMetadata, error: Exception, seconds: float) -> ManifestRecord:
    """Return the record of an input that failed with `error` after `seconds`."""
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
    return f"{job.path} failed with an unexpected error, {type(error).__name__}: {text}. Please report it."


def attempt(
    job: Job, metadata: RunMetadata, out: Path, function: Callable[[], ManifestRecord]
) -> ManifestRecord:
    """Call `function` and return its record with the seconds it took, or a failed record.

    out: folder of all results

    Raises OutputError if results cannot be written.
    """
    began_s = time.monotonic()
    try:
        if job.error is not None:
            raise job.error
        record = function()
    except OutputError:
        raise
    except Exception as error:  # no error of one input may stop the run
        if isinstance(error, OSError) and is_output_error(out, error):
            raise output_error(out, error) from error
        return failed_record(job, metadata, error, time.monotonic() - began_s)
    return replace(record, seconds=round(time.monotonic() - began_s, 3))
