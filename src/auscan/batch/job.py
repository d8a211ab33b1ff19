"""One input that is to be done, and what does it.

Light to import: a process of a batch knows its jobs before it loads anything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from auscan.core.errors import AuscanError
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
