"""Store the Studio's jobs in studio.sqlite, one row each, so that they survive restarts.

Inputs: new and changed jobs. Returns: stored jobs, newest first.
See also: jobs.py (processing), results.py (result files).
"""

import re
import sqlite3
import threading
import time
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from auscan.core.config import OperatingPoint
from auscan.core.environment import is_plain_name
from auscan.core.errors import InputError
from auscan.media.discover import MEDIA_SUFFIXES

Status = Literal["queued", "running", "done", "failed", "cancelled"]

STORE_FILE: Final[str] = "studio.sqlite"
"""Name of the database below the Studio's folder."""

_TABLE: Final[str] = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    created_s REAL NOT NULL,
    status TEXT NOT NULL,
    job TEXT NOT NULL
)
"""


def _check_id(text: str) -> str:
    if not (is_plain_name(text) and re.fullmatch("[0-9a-f]{32}", text)):
        raise ValueError(f"the id {text!a} is not 32 hexadecimal digits")
    return text


def _check_suffix(text: str) -> str:
    if text not in MEDIA_SUFFIXES:
        raise ValueError(f"the suffix {text!a} is not one of a video or picture")
    return text


class JobOptions(BaseModel):
    """Options of one video, passed to `auscan detect`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operating_point: OperatingPoint = "default"
    keep_all: bool = False
    evidence: bool = True
    report: bool = False


class StudioJob(BaseModel):
    """One video with its status."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, AfterValidator(_check_id)]
    """32 hexadecimal digits; also the name of the job's folder."""
    name: str
    """The user's file name; display text, never a path."""
    suffix: Annotated[str, AfterValidator(_check_suffix)]
    """Suffix of the stored file, one of MEDIA_SUFFIXES."""
    status: Status = "queued"
    created_s: float
    """Time of submission, seconds since 1970."""
    seconds: float | None = None
    """Processing time, seconds; None before the end."""
    error: str | None = None
    options: JobOptions = JobOptions()
    done: int = 0
    """Processed frames."""
    total: int | None = None
    """Total frames; None if the file does not state them."""
    left_s: float | None = None
    """Estimated remaining time, seconds; None if unknown."""


def new_job(name: str, suffix: str, options: JobOptions) -> StudioJob:
    """Create a queued job with a new random id."""
    return StudioJob(id=uuid4().hex, name=name, suffix=suffix, options=options, created_s=time.time())


class JobStore:
    """Table of jobs in SQLite; thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open or create the database. Raises InputError if a stored job is invalid."""
        self._file = folder / STORE_FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        self._database.execute(_TABLE)
        try:
            self.all()
        except InputError:
            self.close()
            raise

    def save(self, job: StudioJob) -> None:
        """Insert a job or replace its row."""
        row = (job.id, job.created_s, job.status, job.model_dump_json())
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)

    def get(self, job_id: str) -> StudioJob | None:
        """Return the job with an id, or None."""
        found = self._select("WHERE id = ?", job_id)
        return found[0] if found else None

    def all(self) -> list[StudioJob]:
        """Return all jobs, newest first."""
        return self._select("ORDER BY created_s DESC, rowid DESC")

    def unfinished(self) -> list[StudioJob]:
        """Return queued and running jobs, oldest first."""
        return self._select("WHERE status IN ('queued', 'running') ORDER BY created_s, rowid")

    def remove(self, job_id: str) -> None:
        """Delete the row of a job."""
        with self._lock:
            self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _select(self, clause: str, *values: str) -> list[StudioJob]:
        with self._lock:
            rows = self._database.execute(f"SELECT id, job FROM jobs {clause}", values).fetchall()
        return [self._parse_job(*row) for row in rows]

    def _parse_job(self, job_id: object, content: str | bytes) -> StudioJob:
        """Parse a row. Raises InputError if it is invalid, because id and suffix become parts of paths."""
        try:
            job = StudioJob.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "job"
            raise self._damaged_error(job_id, f"{field}: {first['msg']}") from error
        if job.id != job_id:
            raise self._damaged_error(job_id, f"it is stored under another id than {job.id}")
        return job

    def _damaged_error(self, job_id: object, why: str) -> InputError:
        return InputError(
            f"{self._file}, the job {str(job_id)[:80]!a}: {' '.join(why.split())[:300]}. The Studio does not "
            "write such a job, so the file was changed or damaged. No files were changed. Delete that row, "
            "or start the Studio with another folder."
        )
