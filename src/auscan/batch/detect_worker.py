"""One input: its files into a folder that nobody else knows yet, and its line for the manifest.

This is all the work there is; who calls it, here, in another process or on another machine, makes no
difference to what is written.

In: a job and an empty place for its folder.  Out: an Entry, whatever goes wrong with the input.
Not here: putting the folder where it belongs (place.py).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from auscan.batch.fingerprint import hash_of, state_of
from auscan.batch.jobs import Job, Progress, Work, attempt, entry_of
from auscan.batch.options import Request, about
from auscan.batch.output_folder import sync
from auscan.core.errors import MediaError
from auscan.inference.engine import load, need_evidence
from auscan.pipeline.outputs import without_baseline, write_result
from auscan.results.manifest import Entry, stands


class Detection:
    """What `auscan detect` does to an input (a `Work`); the model is loaded once."""

    def __init__(self, request: Request, out: Path) -> None:
        """out: the folder of all results, as it is to stand in commands.

        Raises CheckpointError or InputError where the request cannot be met for any input.
        """
        self._request, self._out = request, out
        self._about = about(request)
        self._stages = load(request.model, request.backend, request.device, request.threads)
        if request.options.evidence:
            need_evidence(self._stages)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> Entry:
        """As `Work` says."""
        return attempt(job, self._about, self._out, partial(self._read, job, folder, progress))

    def _read(self, job: Job, folder: Path, progress: Progress) -> Entry:
        size, mtime_ns = state = state_of(job.path)
        entry = entry_of(job, self._about, "done")
        entry = replace(entry, size=size, mtime_ns=mtime_ns, sha256=hash_of(job.path))
        if stands(job.known, entry):
            same = {name: getattr(job.known, name) for name in ("rows", "folder", "files", "warnings")}
            return replace(entry, **same)
        command = self._request.command(job.path, self._out)
        result = write_result(job.path, folder, self._stages, self._request.options, command, progress)
        if state_of(job.path) != state:
            raise MediaError(f"{job.path} changed while it was read. Run it again when it is complete.")
        warning = without_baseline(result)
        return replace(
            entry,
            rows=len(result.table),
            warnings=[] if warning is None else [warning],
            folder=job.name,
            files=sync(folder),
        )


def load_detection(request: Request, out: Path) -> Work:
    """What does one input after the other; the engine loads here, in the process that is to use it.

    out: the folder of all results, as it is to stand in commands
    Raises CheckpointError or InputError where the request cannot be met for any input.
    """
    return Detection(request, out)
