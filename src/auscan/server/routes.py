"""Define the routes of finished results, store uploads, and map job ids to folders.

An id is 32 hexadecimal digits and must be in the store, so no URL can address another path. This is the only
way from a request to a folder. An upload is refused if its stated size exceeds the limit; otherwise its bytes
are counted while it is received. It is stored under a fixed name; the subprocess (jobs.py) checks later
whether it is a video.

Inputs: requests. Returns: stored uploads; JSON and files of the folder of one job.
See also: results.py (content of the responses), app.py (routes of jobs).
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from auscan.core.environment import atomic_path
from auscan.media.discover import MEDIA_SUFFIXES
from auscan.results.attributions import ATTRIBUTIONS_FILE
from auscan.results.events import EVENTS_FILE, SOUND_FILE
from auscan.results.exports.write import FORMATS
from auscan.results.result import SUMMARY_FILE
from auscan.results.table import CSV_FILE, TABLE_FILE
from auscan.server import results
from auscan.server.job_store import StudioJob
from auscan.server.jobs import JobQueue
from auscan.server.settings import StudioSettings

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$")]


def job_queue(request: Request) -> JobQueue:
    """Return the job queue of the request's application."""
    jobs: JobQueue = request.app.state.jobs
    return jobs


def find_job(request: Request, job_id: str) -> StudioJob:
    """Return the job with an id. Raises HTTPException 404 if it does not exist."""
    job = job_queue(request).get(job_id)
    if job is None:
        raise HTTPException(404, "No video has this id.")
    return job


def find_done(request: Request, job_id: str) -> StudioJob:
    """Return a finished job. Raises HTTPException 404 if it does not exist, 409 if it is not finished."""
    job = find_job(request, job_id)
    if job.status != "done":
        raise HTTPException(409, f"{job.name} has no result; its status is {job.status}.")
    return job


SPARE_BYTES: Final[int] = 1024**3
"""Disk space that an upload must leave free for results, bytes."""
_NAME_LENGTH: Final[int] = 200


def display_name(given: str) -> str:
    """Return the last part of a path as display text: no control characters, at most _NAME_LENGTH long."""
    last = given.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_NAME_LENGTH] or "unnamed"


def media_suffix(name: str) -> str:
    """Return the suffix in lower case. Raises HTTPException 415 if it is not one of a video or picture."""
    suffix = Path(name).suffix.lower()
    if suffix not in MEDIA_SUFFIXES:
        known = " ".join(sorted(MEDIA_SUFFIXES))
        raise HTTPException(
            415, f"{name} does not have the suffix of a video or picture. Supported: {known}."
        )
    return suffix


def check_content_length(request: Request, settings: StudioSettings) -> None:
    """Raise HTTPException 413 if the stated size exceeds the limit, 507 if the disk has too little space."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > settings.max_upload_bytes:
        raise _too_large(settings)
    if announced + SPARE_BYTES > shutil.disk_usage(settings.folder).free:
        raise HTTPException(
            507, "The disk of the results folder is nearly full. Free some space and try again."
        )


async def save_body(request: Request, path: Path, settings: StudioSettings) -> int:
    """Write a request's body to `path` atomically; return its size in bytes.

    Raises HTTPException 413 if the body is too large, 408 if it pauses for `idle_s`, 400 if it is empty.
    """
    size = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        body = aiter(request.stream())
        while True:
            try:
                chunk = await asyncio.wait_for(anext(body), settings.idle_s)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise HTTPException(408, f"The upload paused for {settings.idle_s:.0f} s.") from None
            size += len(chunk)
            if size > settings.max_upload_bytes:
                raise _too_large(settings)
            file.write(chunk)
        if not size:
            raise HTTPException(400, "The file is empty.")
    return size


def _too_large(settings: StudioSettings) -> HTTPException:
    limit = settings.max_upload_bytes / 1024**3
    return HTTPException(413, f"The file exceeds {limit:.3g} GB. Start the Studio with a higher --max-gb.")


Baseline = Annotated[str, Query(max_length=40)]

router = APIRouter(prefix="/api/results/{job_id}")

FILES: Final[dict[str, str]] = {
    CSV_FILE: "Table (CSV)",
    TABLE_FILE: "Table (Parquet)",
    EVENTS_FILE: "Events (CSV)",
    SOUND_FILE: "Sound level and speech (Parquet)",
    SUMMARY_FILE: "Summary (JSON)",
    ATTRIBUTIONS_FILE: "Attention maps and gates (Parquet)",
    "report.html": "Report (HTML)",
}
"""Files of a result folder that can be downloaded, with their labels; all others are refused."""

_BYTES: Final[str] = "application/octet-stream"
_REPORT_POLICY: Final[str] = "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"
"""Content-Security-Policy of a report: its scripts run in an opaque origin without access to the Studio."""


@router.get("")
def result(job_id: JobId, request: Request) -> dict[str, Any]:
    """Return the video's name, its summary, and whether it has attributions."""
    job = find_done(request, job_id)
    folder = job_queue(request).results(job)
    return {
        "id": job.id,
        "name": job.name,
        "suffix": job.suffix,
        "summary": results.read_summary(folder),
        "evidence": results.has_attributions(folder),
    }


@router.get("/table", response_class=Response, responses={200: {"content": {_BYTES: {}}}})
def table(job_id: JobId, request: Request, baseline: Baseline = "none") -> Response:
    """Return the table: a line of JSON with the columns, then their values as little-endian arrays."""
    sent = results.table_for_page(job_queue(request).results(find_done(request, job_id)), baseline)
    return Response(sent, media_type=_BYTES)


@router.get("/events")
def events(
    job_id: JobId,
    request: Request,
    threshold: Annotated[list[float] | None, Query()] = None,
    baseline: Baseline = "none",
) -> Response:
    """Return the events at the result's thresholds, or at others, one for each AU."""
    folder = job_queue(request).results(find_done(request, job_id))
    count = len(results.read_summary(folder)["thresholds"])
    if threshold is not None and (len(threshold) != count or not all(0 <= t <= 1 for t in threshold)):
        raise HTTPException(422, f"Give {count} thresholds from 0 to 1, one for each AU, or none.")
    found = results.events_for_page(folder, threshold, baseline)
    return Response(found, media_type="application/json")


@router.get("/evidence")
def evidence(
    job_id: JobId, request: Request, first: Annotated[int, Query(ge=0, le=2**31)]
) -> list[dict[str, Any]]:
    """Return the attributions of up to 64 frames from `first` on."""
    folder = job_queue(request).results(find_done(request, job_id))
    if not results.has_attributions(folder):
        raise HTTPException(404, "This result has no evidence.parquet.")
    return results.attributions_for_page(folder, first)


@router.get("/video")
def video(job_id: JobId, request: Request) -> FileResponse:
    """Return the uploaded file; supports range requests."""
    path = job_queue(request).source(find_job(request, job_id))
    if not path.exists():
        raise HTTPException(404, "The video file no longer exists.")
    return FileResponse(path, content_disposition_type="inline")


@router.get("/files")
def files(job_id: JobId, request: Request) -> dict[str, str]:
    """Return the names and labels of the existing files."""
    folder = job_queue(request).results(find_done(request, job_id))
    return {name: what for name, what in FILES.items() if (folder / name).exists()}


@router.get("/files/{name}")
def file(job_id: JobId, name: str, request: Request) -> FileResponse:
    """Return one of the files in FILES."""
    job = find_done(request, job_id)
    if name not in FILES or not (path := job_queue(request).results(job) / name).exists():
        raise HTTPException(404, f"The result has no file {name}.")
    headers = {"Content-Security-Policy": _REPORT_POLICY} if name.endswith(".html") else {}
    headers["Content-Disposition"] = disposition(job, name)
    return FileResponse(path, headers=headers)


@router.get("/exports/{form}")
def export(job_id: JobId, form: str, request: Request, baseline: Baseline = "none") -> FileResponse:
    """Return the result in an export format; a ZIP archive if the format has several files."""
    job, jobs = find_done(request, job_id), job_queue(request)
    if form not in FORMATS:
        raise HTTPException(404, f"The format {form!r} is not supported. Choose one of {', '.join(FORMATS)}.")
    out = Path(tempfile.mkdtemp(prefix="export-", dir=jobs.folder(job)))  # deleted after sending
    try:
        path = results.export(jobs.results(job), form, out, job.name, baseline)
    except BaseException:
        shutil.rmtree(out)
        raise
    return _TemporaryFileResponse(path, headers={"Content-Disposition": disposition(job, path.name)})


class _TemporaryFileResponse(FileResponse):
    """Response of a file that is deleted with its folder after sending, also after a broken connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)


def disposition(job: StudioJob, name: str) -> str:
    """Return the Content-Disposition header of a file, which contains the name of the video."""
    stem = job.name.removesuffix(job.suffix)
    kind = "inline" if name.endswith(".html") else "attachment"
    return f"{kind}; filename=\"{name}\"; filename*=UTF-8''{quote(f'{stem}_{name}', safe='')}"
