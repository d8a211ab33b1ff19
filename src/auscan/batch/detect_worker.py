"""Process one input of `auscan detect`: write its files into a staging folder, return its manifest record.

The files are the same in this process, in a worker process and on another machine.

Inputs: a job and the path of a folder to create. Returns: a ManifestRecord, also if the input fails.
See also: output_folder.py (moving the folder into place), pipeline/outputs.py (the files).
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
    """Job function of `auscan detect` (a `JobFunction`); loads the model once."""

    def __init__(self, request: DetectRequest, out: Path) -> None:
        """Load the model.

        out: folder of all results, as written into the commands of summaries

        Raises CheckpointError or InputError if the request is impossible for every input.
        """
        self._request, self._out = request, out
        self._metadata = run_metadata(request)
        self._engine = load_engine(request.model, request.backend, request.device, request.threads)
        if request.options.attributions:
            require_attributions(self._engine)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """Process one input; see `JobFunction`."""
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
    """Build the job function; loads the engine in this process.

    out: folder of all results, as written into the commands of summaries

    Raises CheckpointError or InputError if the request is impossible for every input.
    """
    return DetectWorker(request, out)
