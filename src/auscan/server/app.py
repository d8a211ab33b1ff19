"""Create the Studio's ASGI application and its server.

    POST   /api/jobs?name=talk.mp4          submit a file (request body)
    GET    /api/jobs, /api/jobs/ID          status and progress
    POST   /api/jobs/ID/cancel
    DELETE /api/jobs/ID
    GET    /api/results/ID/...              routes.py
    WS     /api/live                        camera.py
    GET    /openapi.json                    description of the routes

Inputs: settings. Returns: an ASGI application behind the guard; a uvicorn server.
See also: guard.py, jobs.py, routes.py, results.py, camera.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import VERSION
from auscan.core.errors import AuscanError
from auscan.media.discover import MEDIA_SUFFIXES
from auscan.server import routes
from auscan.server.camera import CameraSessions, add_live
from auscan.server.guard import Guard
from auscan.server.job_store import JobOptions, StudioJob, new_job
from auscan.server.jobs import JobQueue
from auscan.server.routes import JobId, find_job
from auscan.server.settings import StudioSettings

STATIC: Final[Path] = Path(__file__).with_name("static")

_FILE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def create_app(settings: StudioSettings) -> ASGIApp:
    """Create the application for the folder of `settings`, behind its guard."""
    jobs = JobQueue(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        yield
        await run_in_threadpool(jobs.stop)

    # FastAPI's interactive documentation loads scripts from the network, so it is disabled.
    app = FastAPI(
        title="auscan Studio",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.jobs = jobs
    app.add_exception_handler(AuscanError, _error_response)
    _add_about(app, settings)
    _add_jobs(app, jobs)
    app.include_router(routes.router)
    add_live(app, CameraSessions(settings))
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    return Guard(app, settings)


def _add_about(app: FastAPI, settings: StudioSettings) -> None:
    @app.get("/api/about")
    def about() -> dict[str, Any]:
        """Return version, model, meanings of all AUs, accepted suffixes and the size limit."""
        return {
            "version": VERSION,
            "model": settings.model,
            "aus": {name: unit.meaning for name, unit in ACTION_UNITS.items()},
            "suffixes": sorted(MEDIA_SUFFIXES),
            "max_upload_bytes": settings.max_upload_bytes,
        }


def _add_jobs(app: FastAPI, jobs: JobQueue) -> None:
    settings = jobs.settings
    uploading: set[str] = set()

    @app.post("/api/jobs", status_code=201, openapi_extra=_FILE_BODY)
    async def submit(
        request: Request,
        name: Annotated[str, Query(max_length=1000)],
        options: Annotated[JobOptions, Depends()],
    ) -> StudioJob:
        """Store the uploaded file and queue it."""
        file_name = routes.display_name(name)
        job = new_job(file_name, routes.media_suffix(file_name), options)
        routes.check_content_length(request, settings)
        if len(uploading) >= settings.max_uploads:
            raise HTTPException(429, "Too many uploads at the same time. Try again in a moment.")
        if jobs.unfinished_count() + len(uploading) >= settings.max_waiting:
            raise HTTPException(429, f"{settings.max_waiting} videos are already queued. Try again later.")
        uploading.add(job.id)
        try:
            await routes.save_body(request, jobs.source(job), settings)
            return await run_in_threadpool(jobs.submit, job)
        except BaseException:
            await run_in_threadpool(jobs.remove, job)
            raise
        finally:
            uploading.discard(job.id)

    @app.get("/api/jobs")
    def all_jobs() -> list[StudioJob]:
        """Return all jobs, newest first."""
        return jobs.all()

    @app.get("/api/jobs/{job_id}")
    def one_job(job_id: JobId, request: Request) -> StudioJob:
        """Return one job with its status and progress."""
        return find_job(request, job_id)

    @app.post("/api/jobs/{job_id}/cancel")
    def cancel(job_id: JobId, request: Request) -> StudioJob:
        """Cancel a job; a finished job is unchanged."""
        return jobs.cancel(find_job(request, job_id))

    @app.delete("/api/jobs/{job_id}", status_code=204)
    def remove(job_id: JobId, request: Request) -> None:
        """Delete a job with its file and results."""
        jobs.remove(find_job(request, job_id))


def _error_response(_: Request, error: Exception) -> JSONResponse:
    """Return the message of an AuscanError as status 422."""
    return JSONResponse({"detail": str(error)}, status_code=422)


MAX_MESSAGE_BYTES: Final[int] = 2 * 1024**2
"""Largest WebSocket message (one camera picture), bytes."""
MAX_CONNECTIONS: Final[int] = 512
"""Largest number of simultaneous connections."""


def make_server(settings: StudioSettings) -> uvicorn.Server:
    """Create the uvicorn server; call its `run` to start it."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
