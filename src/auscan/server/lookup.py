"""From an id in an address to a job: the only way from a request to a folder.

An id is 32 hexadecimal digits and has to be in the index, so no address can name another path.
"""

from typing import Annotated

from fastapi import HTTPException, Request
from fastapi import Path as PathParameter

from auscan.server.index import Job
from auscan.server.jobs import Jobs

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$")]


def jobs_of(request: Request) -> Jobs:
    """The jobs of the application that a request came to."""
    jobs: Jobs = request.app.state.jobs
    return jobs


def find_job(request: Request, job_id: str) -> Job:
    """The job of an id.  404 where there is none."""
    job = jobs_of(request).get(job_id)
    if job is None:
        raise HTTPException(404, "There is no such video.")
    return job


def find_done(request: Request, job_id: str) -> Job:
    """The job of an id, which has to be finished.  409 where it is not."""
    job = find_job(request, job_id)
    if job.status != "done":
        raise HTTPException(409, f"{job.name} has no result; it is {job.status}.")
    return job
