"""What the Studio remembers of its videos: one row each in studio.sqlite, which survives restarts.

In: jobs as they come, and what becomes of them.  Out: the same, newest first.
Not here: running them (jobs.py), the results themselves, which are files (results.py).
"""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from auscan.core.operating import OperatingPoint

Status = Literal["queued", "running", "done", "failed", "cancelled"]

INDEX_FILE: Final[str] = "studio.sqlite"

_TABLE: Final[str] = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    created_s REAL NOT NULL,
    status TEXT NOT NULL,
    job TEXT NOT NULL
)
"""


class JobOptions(BaseModel):
    """What is to be made of a video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operating_point: OperatingPoint = "default"
    keep_all: bool = False
    evidence: bool = True
    report: bool = False


class Job(BaseModel):
    """One video and what became of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """32 hexadecimal digits; also the name of its folder."""
    name: str
    """What the user called the file: text to show, never a path."""
    suffix: str
    """Of the stored file, one of the known ones."""
    status: Status = "queued"
    created_s: float
    """Since 1970."""
    seconds: float | None = None
    """How long it took."""
    error: str | None = None
    options: JobOptions = JobOptions()
    done: int = 0
    """Frames read."""
    total: int | None = None
    """Frames there are, where the file tells."""
    left_s: float | None = None
    """How long it will still take, once that can be said."""


def new_job(name: str, suffix: str, options: JobOptions) -> Job:
    """A job that nobody has seen before."""
    return Job(id=uuid4().hex, name=name, suffix=suffix, options=options, created_s=time.time())


class Index:
    """The table of jobs; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / INDEX_FILE, check_same_thread=False, isolation_level=None)
        self._database.execute(_TABLE)

    def put(self, job: Job) -> None:
        """Add a job, or say what it is now."""
        row = (job.id, job.created_s, job.status, job.model_dump_json())
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)

    def get(self, job_id: str) -> Job | None:
        """The job of an id, if there is one."""
        found = self._select("WHERE id = ?", job_id)
        return found[0] if found else None

    def all(self) -> list[Job]:
        """All jobs, newest first."""
        return self._select("ORDER BY created_s DESC, rowid DESC")

    def unfinished(self) -> list[Job]:
        """Those that wait or were being run, oldest first."""
        return self._select("WHERE status IN ('queued', 'running') ORDER BY created_s, rowid")

    def remove(self, job_id: str) -> None:
        """Forget a job."""
        with self._lock:
            self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def close(self) -> None:
        """No more of it."""
        with self._lock:
            self._database.close()

    def _select(self, rest: str, *values: str) -> list[Job]:
        with self._lock:
            rows = self._database.execute(f"SELECT job FROM jobs {rest}", values).fetchall()
        return [Job.model_validate_json(row[0]) for row in rows]
