"""Define the jobs of `auscan detect`: options, fingerprints of inputs, and the function that runs one job.

A job writes its files into a staging folder and returns a manifest record. `attempt` turns errors of the
input into a failed record, so that the run continues. The files are the same in this process, in a worker
process and on another machine. A resumed run compares the size and time of an input first; it hashes the
content only if they differ.

This module imports no heavy library, because a worker process receives its jobs before it loads the model.

Inputs: the options of `auscan detect`; a job and the path of a folder to create.
Returns: a ManifestRecord, also if the input fails.
See also: plan.py (which inputs to process), output_folder.py (moving the folder into place), extract.py
(jobs of `auscan extract`), pipeline/detect.py (`write_result`), results/manifest.py (the file).
"""

import hashlib
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from auscan.batch.output_folder import is_output_error, output_error, sync_folder
from auscan.core.checkpoint_folder import find_checkpoint, hash_model, read_config
from auscan.core.config import CheckpointConfig, Options, with_operating_point
from auscan.core.environment import versions
from auscan.core.errors import AuscanError, MediaError, OutputError
from auscan.media.container import check_file
from auscan.media.discover import numbered_images
from auscan.results.manifest import ManifestRecord, has_same_content


def size_and_mtime(path: Path) -> tuple[int, int]:
    """Return the size of an input in bytes and its modification time in ns since 1970.

    For a folder: the sum and the maximum over its numbered pictures.

    Raises MediaError if the input does not exist, is empty or cannot be read.
    """
    with _media_errors(path):
        stats = [check_file(file) for file in _files(path)]
    return sum(each.st_size for each in stats), max(each.st_mtime_ns for each in stats)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of an input's content; for a folder, of the names and hashes of its pictures.

    Raises as `size_and_mtime`.
    """
    with _media_errors(path):
        if not path.is_dir():
            check_file(path)
            return _hash_file(path)
        digest = hashlib.sha256()
        for file in _files(path):
            check_file(file)
            digest.update(os.fsencode(file.name) + f" {_hash_file(file)}\n".encode())
        return digest.hexdigest()


@contextmanager
def _media_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}). Copy it again.") from error


def _files(path: Path) -> list[Path]:
    return numbered_images(path) if path.is_dir() else [path]


def _hash_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


OPTION_NAMES = {"as_video_hz": "as_video", "attributions": "evidence"}
"""Command-line names of options whose field has another name."""


@dataclass(frozen=True, kw_only=True)
class DetectRequest:
    """Model, device and options of a run of `auscan detect`."""

    model: str = "nano"
    """Shipped model, checkpoint folder, or user/name@commit on the Hub (`pin_checkpoint`)."""
    backend: Literal["auto", "torch", "onnx"] = "auto"
    """Inference engine."""
    device: str = "auto"
    """Device of the model: auto, cpu or cuda."""
    threads: int | None = None
    """Threads of each process, None for the default; does not change the results."""
    options: Options = field(default_factory=Options)
    """Options that change the files written."""

    def check(self) -> CheckpointConfig:
        """Check the request without loading the model; return the checkpoint's config.

        Raises InputError if the baseline or the operating point does not exist; CheckpointError if the model
        cannot be read.
        """
        from auscan.results.events import parse_baseline  # pandas is slow to load

        parse_baseline(self.options.baseline)
        return with_operating_point(read_config(find_checkpoint(self.model)), self.options.operating_point)

    def config(self) -> dict[str, Any]:
        """Return all options that change the files written, by name."""
        return {"backend": self.backend, "device": self.device, **self.options.stored()}

    def command(self, source: Path, out: Path) -> str:
        """Return the command line that reproduces the result of one input."""
        arguments = ["auscan", "detect", str(source), "--out", str(out)]
        default = DetectRequest()
        for name in ("model", "backend", "device"):
            arguments += _option_arguments(name, getattr(self, name), getattr(default, name))
        for each in fields(Options):
            name = OPTION_NAMES.get(each.name, each.name)
            arguments += _option_arguments(name, getattr(self.options, each.name), each.default)
        return shlex.join(arguments)


def _option_arguments(name: str, value: object, default: object) -> list[str]:
    """Return the command-line arguments of an option; none if it has its default value."""
    if value == default:
        return []
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, float):
        return [flag, f"{value:g}"]
    return [flag] if value is True else [flag, str(value)]


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """Fields that all manifest records of a run on one machine share."""

    model: str
    """Name of the checkpoint."""
    model_sha256: str
    """Hash of the checkpoint (`core.checkpoint_folder.hash_model`)."""
    config: Mapping[str, Any]
    """Options that change the files written, by name."""
    versions: Mapping[str, str]
    """Versions of Python and the relevant packages."""
    host: str
    """Name of the machine."""


def run_metadata(request: DetectRequest) -> RunMetadata:
    """Return the metadata of a request on this machine. Raise as `DetectRequest.check`."""
    return RunMetadata(
        model=request.check().name,
        model_sha256=hash_model(find_checkpoint(request.model)),
        config=request.config(),
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )


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


class DetectWorker:
    """Job function of `auscan detect` (a `JobFunction`); loads the model once."""

    def __init__(self, request: DetectRequest, out: Path) -> None:
        """Load the model.

        out: folder of all results, as written into the commands of summaries

        Raises CheckpointError or InputError if the request is impossible for every input.
        """
        from auscan.inference.load import (  # slow; not for the parent process
            load_engine,
            require_attributions,
        )

        self._request, self._out = request, out
        self._metadata = run_metadata(request)
        self._engine = load_engine(request.model, request.backend, request.device, request.threads)
        if request.options.attributions:
            require_attributions(self._engine)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """Process one input; see `JobFunction`."""
        return attempt(job, self._metadata, self._out, partial(self._detect, job, folder, progress))

    def _detect(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        from auscan.pipeline.detect import missing_baseline_warning, write_result

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
        missing_baseline = missing_baseline_warning(result)
        return replace(
            record,
            rows=len(result.table),
            warnings=[*result.info.warnings, *([] if missing_baseline is None else [missing_baseline])],
            folder=job.name,
            files=sync_folder(folder),
        )


def load_detect_worker(request: DetectRequest, out: Path) -> JobFunction:
    """Build the job function; loads the engine in this process.

    out: folder of all results, as written into the commands of summaries

    Raises CheckpointError or InputError if the request is impossible for every input.
    """
    return DetectWorker(request, out)
