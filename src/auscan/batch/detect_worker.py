"""One input: its files into a folder that nobody else knows yet, and its line for the manifest.

This is all the work there is; who calls it, here, in another process or on another machine, makes no
difference to what is written.

In: a job and an empty place for its folder.  Out: a ManifestRecord, whatever goes wrong with the input.
Not here: putting the folder where it belongs (output_folder.py).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from auscan.batch.fingerprint import content_hash, size_and_mtime
from auscan.batch.jobs import Job, JobFunction, Progress, attempt, make_record
from auscan.batch.options import DetectRequest, run_metadata
from auscan.batch.output_folder import sync_folder
from auscan.core.errors import MediaError
from auscan.inference.load import load_engine, require_attributions
from auscan.pipeline.outputs import missing_baseline_warning, write_result
from auscan.results.manifest import ManifestRecord, has_same_content


class DetectWorker:
    """What `auscan detect` does to an input (a `JobFunction`); the model is loaded once."""

    def __init__(self, request: DetectRequest, out: Path) -> None:
        """out: the folder of all results, as it is to stand in commands.

        Raises CheckpointError or InputError where the request cannot be met for any input.
        """
        self._request, self._out = request, out
        self._metadata = run_metadata(request)
        self._engine = load_engine(request.model, request.backend, request.device, request.threads)
        if request.options.attributions:
            require_attributions(self._engine)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """As `JobFunction` says."""
        return attempt(job, self._metadata, self._out, partial(self._detect, job, folder, progress))

    def _detect(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        size, mtime_ns = before = size_and_mtime(job.path)
        record = make_record(job, self._metadata, "done")
        record = replace(record, size=size, mtime_ns=mtime_ns, sha256=content_hash(job.path))
        if has_same_content(job.previous, record):
            unchanged = {
                name: getattr(job.previous, name) for name in ("rows", "folder", "files", "warnings")
            }
            return replace(record, **unchanged)
        command = self._request.command(job.path, self._out)
        result = write_result(job.path, folder, self._engine, self._request.options, command, progress)
        if size_and_mtime(job.path) != before:
            raise MediaError(f"{job.path} changed while it was read. Run it again when it is complete.")
        warning = missing_baseline_warning(result)
        return replace(
            record,
            rows=len(result.table),
            warnings=[] if warning is None else [warning],
            folder=job.name,
            files=sync_folder(folder),
        )


def load_detect_worker(request: DetectRequest, out: Path) -> JobFunction:
    """What does one input after the other; the engine loads here, in the process that is to use it.

    out: the folder of all results, as it is to stand in commands
    Raises CheckpointError or InputError where the request cannot be met for any input.
    """
    return DetectWorker(request, out)
