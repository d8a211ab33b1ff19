"""Try a job: whatever goes wrong with its input becomes an entry, and the batch goes on.

In: a job and what does it.  Out: an Entry.
Not here: what a job is made into (detect.py, extract.py).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from auscan.batch.entries import failed
from auscan.batch.job import Job
from auscan.batch.place import not_writable, takes_no_more
from auscan.batch.request import About
from auscan.core.errors import OutputError
from auscan.results.manifest import Entry


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
