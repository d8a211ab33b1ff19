"""From an id in an address to a job: the only way from a request to a folder.

An id is 32 hexadecimal digits and has to be in the store, so no address can name another path.

Take a file in: its size is known and small enough before a byte is read, or it is counted as it comes.

In: the body of a request, and what the user calls the file.  Out: the file, under a name of our own.
Not here: whether it is a video, which is found out in a process of its own (jobs.py).

Routes to a finished result: summary, table, events, evidence, the video, and files to download.

In: requests.  Out: JSON and files of the one folder that the id names.
Not here: how the answers are made (results.py).
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

from auscan.core.atomic_write import atomic_path
from auscan.core.aus import AU_COUNT
from auscan.media.discover import MEDIA_SUFFIXES
from auscan.results.attributions import ATTRIBUTIONS_FILE
from auscan.results.events import EVENTS_FILE
from auscan.results.exports.write import FORMATS
from auscan.results.speech import SOUND_FILE
from auscan.results.summary import SUMMARY_FILE
from auscan.results.table import CSV_FILE, TABLE_FILE
from auscan.server import results
from auscan.server.job_store import StudioJob
from auscan.server.jobs import JobQueue
from auscan.server.settings import StudioSettings

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$")]


def job_queue(request: Request) -> JobQueue:
    """The jobs of the application that a request came to."""
    jobs: JobQueue = request.app.state.jobs
    return jobs


def find_job(request: Request, job_id: str) -> StudioJob:
    """The job of an id.  404 where there is none."""
    job = job_queue(request).get(job_id)
    if job is None:
        raise HTTPException(404, "There is no such video.")
    return job


def find_done(request: Request, job_id: str) -> StudioJob:
    """The job of an id, which has to be finished.  409 where it is not."""
    job = find_job(request, job_id)
    if job.status != "done":
        raise HTTPException(409, f"{job.name} has no result; it is {job.status}.")
    return job


SPARE_BYTES: Final[int] = 1024**3
"""Left free on the disk, for results."""
_NAME_LENGTH: Final[int] = 200


def display_name(given: str) -> str:
    """The last part of a file name as text to show: no control characters, not endless."""
    last = given.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_NAME_LENGTH] or "unnamed"


def media_suffix(name: str) -> str:
    """The suffix of a video or picture, in small letters.  Refuses (415) any other."""
    suffix = Path(name).suffix.lower()
    if suffix not in MEDIA_SUFFIXES:
        known = " ".join(sorted(MEDIA_SUFFIXES))
        raise HTTPException(415, f"{name} is neither a video nor a picture by its name. Known: {known}.")
    return suffix


def check_content_length(request: Request, settings: StudioSettings) -> None:
    """Refuse a body that says it is too large (413), or larger than the disk has room for (507)."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > settings.max_upload_bytes:
        raise _too_large(settings)
    if announced + SPARE_BYTES > shutil.disk_usage(settings.folder).free:
        raise HTTPException(507, "The disk of the results folder is nearly full. Make room and try again.")


async def save_body(request: Request, path: Path, settings: StudioSettings) -> int:
    """Write a request's body to `path`, whole or not at all; its size in bytes.

    Refuses what grows too large (413), pauses too long (408) or is empty (400).
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
                raise HTTPException(408, f"Nothing came for {settings.idle_s:.0f} s.") from None
            size += len(chunk)
            if size > settings.max_upload_bytes:
                raise _too_large(settings)
            file.write(chunk)
        if not size:
            raise HTTPException(400, "The file is empty.")
    return size


def _too_large(settings: StudioSettings) -> HTTPException:
    limit = settings.max_upload_bytes / 1024**3
    return HTTPException(413, f"A file may have {limit:.3g} GB. Start the Studio with another --max-gb.")


Baseline = Annotated[str, Query(max_length=40)]

router = APIRouter(prefix="/api/results/{job_id}")

FILES: Final[dict[str, str]] = {
    CSV_FILE: "The table, CSV",
    TABLE_FILE: "The table, Parquet",
    EVENTS_FILE: "The events, CSV",
    SOUND_FILE: "Sound level and speech, Parquet",
    SUMMARY_FILE: "The summary, JSON",
    ATTRIBUTIONS_FILE: "What the model went by, Parquet",
    "report.html": "The report, HTML",
}
"""Files of a result folder that may be fetched; whatever is not named here may not."""

_BYTES: Final[str] = "application/octet-stream"
_REPORT_POLICY: Final[str] = "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"
"""A report brings its own scripts: they run, but in an origin of their own, from which nothing here opens."""


@router.get("")
def result(job_id: JobId, request: Request) -> dict[str, Any]:
    """The video's name, its summary, and whether there is evidence."""
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
    """The table by columns: a line of JSON that names them, then their numbers, little-endian."""
    sent = results.table_for_page(job_queue(request).results(find_done(request, job_id)), baseline)
    return Response(sent, media_type=_BYTES)


@router.get("/events")
def events(
    job_id: JobId,
    request: Request,
    threshold: Annotated[list[float] | None, Query()] = None,
    baseline: Baseline = "none",
) -> Response:
    """The events under the result's thresholds, or under twelve others."""
    folder = job_queue(request).results(find_done(request, job_id))
    if threshold is not None and (len(threshold) != AU_COUNT or not all(0 <= t <= 1 for t in threshold)):
        raise HTTPException(422, "Give twelve thresholds from 0 to 1, or none.")
    found = results.events_for_page(folder, threshold, baseline)
    return Response(found, media_type="application/json")


@router.get("/evidence")
def evidence(
    job_id: JobId, request: Request, first: Annotated[int, Query(ge=0, le=2**31)]
) -> list[dict[str, Any]]:
    """What the network went by in some frames from `first` on."""
    folder = job_queue(request).results(find_done(request, job_id))
    if not results.has_attributions(folder):
        raise HTTPException(404, "This run kept no evidence.")
    return results.attributions_for_page(folder, first)


@router.get("/video")
def video(job_id: JobId, request: Request) -> FileResponse:
    """The file that was given; parts of it on request."""
    path = job_queue(request).source(find_job(request, job_id))
    if not path.exists():
        raise HTTPException(404, "The video is gone.")
    return FileResponse(path, content_disposition_type="inline")


@router.get("/files")
def files(job_id: JobId, request: Request) -> dict[str, str]:
    """Names of the files there are, and what they hold."""
    folder = job_queue(request).results(find_done(request, job_id))
    return {name: what for name, what in FILES.items() if (folder / name).exists()}


@router.get("/files/{name}")
def file(job_id: JobId, name: str, request: Request) -> FileResponse:
    """One of these files."""
    job = find_done(request, job_id)
    if name not in FILES or not (path := job_queue(request).results(job) / name).exists():
        raise HTTPException(404, f"There is no file {name}.")
    headers = {"Content-Security-Policy": _REPORT_POLICY} if name.endswith(".html") else {}
    headers["Content-Disposition"] = disposition(job, name)
    return FileResponse(path, headers=headers)


@router.get("/exports/{form}")
def export(job_id: JobId, form: str, request: Request, baseline: Baseline = "none") -> FileResponse:
    """The result in a format of another program; an archive where that takes several files."""
    job, jobs = find_done(request, job_id), job_queue(request)
    if form not in FORMATS:
        raise HTTPException(404, f"There is no format {form!r}. Take {', '.join(FORMATS)}.")
    out = Path(tempfile.mkdtemp(prefix="export-", dir=jobs.folder(job)))  # nobody else's
    try:
        path = results.export(jobs.results(job), form, out, job.name, baseline)
    except BaseException:
        shutil.rmtree(out)
        raise
    return _TemporaryFileResponse(path, headers={"Content-Disposition": disposition(job, path.name)})


class _TemporaryFileResponse(FileResponse):
    """A file that is removed with its folder once it is sent, and where the caller hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)


def disposition(job: StudioJob, name: str) -> str:
    """The header that makes a download of a file, under the name of the video."""
    stem = job.name.removesuffix(job.suffix)
    kind = "inline" if name.endswith(".html") else "attachment"
    return f"{kind}; filename=\"{name}\"; filename*=UTF-8''{quote(f'{stem}_{name}', safe='')}"
