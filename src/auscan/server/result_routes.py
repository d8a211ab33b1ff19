"""Routes to a finished result: summary, table, events, evidence, the video, and files to download.

In: requests.  Out: JSON and files of the one folder that the id names.
Not here: how the answers are made (results.py).
"""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from auscan.core.aus import AU_COUNT
from auscan.results.events import EVENTS_FILE
from auscan.results.evidence import EVIDENCE_FILE
from auscan.results.exports.write import FORMATS
from auscan.results.speech import SOUND_FILE
from auscan.results.summary import SUMMARY_FILE
from auscan.results.table import CSV_FILE, TABLE_FILE
from auscan.server import results
from auscan.server.index import Job
from auscan.server.lookup import JobId, find_done, find_job, jobs_of

Baseline = Annotated[str, Query(max_length=40)]

router = APIRouter(prefix="/api/results/{job_id}")

FILES: Final[dict[str, str]] = {
    CSV_FILE: "The table, CSV",
    TABLE_FILE: "The table, Parquet",
    EVENTS_FILE: "The events, CSV",
    SOUND_FILE: "Sound level and speech, Parquet",
    SUMMARY_FILE: "The summary, JSON",
    EVIDENCE_FILE: "What the model went by, Parquet",
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
    folder = jobs_of(request).results(job)
    return {
        "id": job.id,
        "name": job.name,
        "suffix": job.suffix,
        "summary": results.read_summary(folder),
        "evidence": results.has_evidence(folder),
    }


@router.get("/table", response_class=Response, responses={200: {"content": {_BYTES: {}}}})
def table(job_id: JobId, request: Request, baseline: Baseline = "none") -> Response:
    """The table by columns: a line of JSON that names them, then their numbers, little-endian."""
    sent = results.table_for_page(jobs_of(request).results(find_done(request, job_id)), baseline)
    return Response(sent, media_type=_BYTES)


@router.get("/events")
def events(
    job_id: JobId,
    request: Request,
    threshold: Annotated[list[float] | None, Query()] = None,
    baseline: Baseline = "none",
) -> Response:
    """The events under the result's thresholds, or under twelve others."""
    folder = jobs_of(request).results(find_done(request, job_id))
    if threshold is not None and (len(threshold) != AU_COUNT or not all(0 <= t <= 1 for t in threshold)):
        raise HTTPException(422, "Give twelve thresholds from 0 to 1, or none.")
    found = results.events_for_page(folder, threshold, baseline)
    return Response(found, media_type="application/json")


@router.get("/evidence")
def evidence(
    job_id: JobId, request: Request, first: Annotated[int, Query(ge=0, le=2**31)]
) -> list[dict[str, Any]]:
    """What the network went by in some frames from `first` on."""
    folder = jobs_of(request).results(find_done(request, job_id))
    if not results.has_evidence(folder):
        raise HTTPException(404, "This run kept no evidence.")
    return results.evidence_for_page(folder, first)


@router.get("/video")
def video(job_id: JobId, request: Request) -> FileResponse:
    """The file that was given; parts of it on request."""
    path = jobs_of(request).source(find_job(request, job_id))
    if not path.exists():
        raise HTTPException(404, "The video is gone.")
    return FileResponse(path, content_disposition_type="inline")


@router.get("/files")
def files(job_id: JobId, request: Request) -> dict[str, str]:
    """Names of the files there are, and what they hold."""
    folder = jobs_of(request).results(find_done(request, job_id))
    return {name: what for name, what in FILES.items() if (folder / name).exists()}


@router.get("/files/{name}")
def file(job_id: JobId, name: str, request: Request) -> FileResponse:
    """One of these files."""
    job = find_done(request, job_id)
    if name not in FILES or not (path := jobs_of(request).results(job) / name).exists():
        raise HTTPException(404, f"There is no file {name}.")
    headers = {"Content-Security-Policy": _REPORT_POLICY} if name.endswith(".html") else {}
    headers["Content-Disposition"] = disposition(job, name)
    return FileResponse(path, headers=headers)


@router.get("/exports/{form}")
def export(job_id: JobId, form: str, request: Request, baseline: Baseline = "none") -> FileResponse:
    """The result in a format of another program; an archive where that takes several files."""
    job, jobs = find_done(request, job_id), jobs_of(request)
    if form not in FORMATS:
        raise HTTPException(404, f"There is no format {form!r}. Take {', '.join(FORMATS)}.")
    out = Path(tempfile.mkdtemp(prefix="export-", dir=jobs.folder(job)))  # nobody else's
    try:
        path = results.export(jobs.results(job), form, out, job.name, baseline)
    except BaseException:
        shutil.rmtree(out)
        raise
    return _SentOnce(path, headers={"Content-Disposition": disposition(job, path.name)})


class _SentOnce(FileResponse):
    """A file that is removed with its folder once it is sent, and where the caller hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)


def disposition(job: Job, name: str) -> str:
    """The header that makes a download of a file, under the name of the video."""
    stem = job.name.removesuffix(job.suffix)
    kind = "inline" if name.endswith(".html") else "attachment"
    return f"{kind}; filename=\"{name}\"; filename*=UTF-8''{quote(f'{stem}_{name}', safe='')}"
