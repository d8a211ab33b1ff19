"""Process queued videos one after another, each in a subprocess; jobs can be cancelled.

Jobs that were running when the Studio stopped are queued again at its next start.

    FOLDER/studio.sqlite          job records (job_store.py)
    FOLDER/ID/video.mp4           uploaded file; the user's file name is stored only as text
    FOLDER/ID/video/              result of `auscan detect`

Inputs: jobs with a stored file. Returns: their status, and files below FOLDER.
See also: process.py (subprocess), routes.py (uploads).
"""

import queue
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from auscan.server.job_store import JobStore, Status, StudioJob
from auscan.server.process import ProcessResult, run_process
from auscan.server.settings import StudioSettings

STEM: Final[str] = "video"
"""Name of every stored file without its suffix, and of its result folder."""

_WORKER_ENVIRONMENT: Final[dict[str, str]] = {"AUSCAN_PROGRESS_S": "0.25"}
"""Environment of the worker: seconds between its progress lines (cli/progress.py)."""


@dataclass
class _RunningJob:
    """State of the running job."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    """Cancelled because the Studio stops, not by the user; the job is queued again."""
    began_s: float = field(default_factory=time.monotonic)
    first_progress: tuple[float, int] | None = None
    """Time and frame count of the first progress line, which excludes the loading of the model."""
    done: int = 0
    total: int | None = None

    def update_progress(self, done: int, total: int | None) -> None:
        self.first_progress = self.first_progress or (time.monotonic(), done)
        self.done, self.total = done, total

    def left_s(self) -> float | None:
        if self.first_progress is None or self.total is None or self.done <= self.first_progress[1]:
            return None
        seconds_per_frame = (time.monotonic() - self.first_progress[0]) / (self.done - self.first_progress[1])
        return max(0, self.total - self.done) * seconds_per_frame


class JobQueue:
    """Queue of the videos in one folder; call `start` before use and `stop` at the end."""

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self.store = JobStore(settings.folder)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._running: dict[str, _RunningJob] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._process_queue, daemon=True)

    def start(self) -> None:
        """Queue the unfinished jobs of the last run and start the worker thread."""
        for job in self.store.unfinished():
            self.store.save(job.model_copy(update={"status": "queued"}))
            self._queue.put(job.id)
        self._thread.start()

    def stop(self) -> None:
        """Stop the running job, which is queued again at the next start, and close the store."""
        self._queue.put(None)
        with self._lock:
            for running in self._running.values():
                running.stopped = True
                running.cancelled.set()
        self._thread.join(timeout=30)
        self.store.close()

    def folder(self, job: StudioJob) -> Path:
        """Return the folder of a job."""
        return self.settings.folder / job.id

    def source(self, job: StudioJob) -> Path:
        """Return the path of the uploaded file."""
        return self.folder(job) / f"{STEM}{job.suffix}"

    def results(self, job: StudioJob) -> Path:
        """Return the result folder."""
        return self.folder(job) / STEM

    def unfinished_count(self) -> int:
        """Return the number of queued and running jobs."""
        return len(self.store.unfinished())

    def submit(self, job: StudioJob) -> StudioJob:
        """Queue a job whose file is already stored."""
        self.store.save(job)
        self._queue.put(job.id)
        return job

    def get(self, job_id: str) -> StudioJob | None:
        """Return a job with its progress, or None."""
        job = self.store.get(job_id)
        return job and self._with_progress(job)

    def all(self) -> list[StudioJob]:
        """Return all jobs with their progress, newest first."""
        return [self._with_progress(job) for job in self.store.all()]

    def cancel(self, job: StudioJob) -> StudioJob:
        """Cancel a queued or running job; a finished job is unchanged."""
        with self._lock:
            running = self._running.get(job.id)
            if running is not None:
                running.cancelled.set()
            else:
                current = self.store.get(job.id)
                if current is not None and current.status == "queued":
                    self._save_status(current, "cancelled")
        for _ in range(100):  # at most 5 s; the process is killed sooner
            if job.id not in self._running:
                break
            time.sleep(0.05)
        return self.get(job.id) or job

    def remove(self, job: StudioJob) -> None:
        """Cancel a job and delete its record, file and results."""
        self.cancel(job)
        self.store.remove(job.id)
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def _with_progress(self, job: StudioJob) -> StudioJob:
        running = self._running.get(job.id)
        if running is None:
            return job
        update = {"done": running.done, "total": running.total, "left_s": running.left_s()}
        return job.model_copy(update=update)

    def _process_queue(self) -> None:
        while (job_id := self._queue.get()) is not None:
            with self._lock:
                job = self.store.get(job_id)
                if job is None or job.status != "queued":
                    continue
                running = self._running[job_id] = _RunningJob()
                self.store.save(job.model_copy(update={"status": "running"}))
            try:
                result = self._run_worker(job, running)
            except OSError as error:
                result = ProcessResult(
                    "failed", f"auscan: The worker could not be started ({error.strerror})."
                )
            with self._lock:
                self._finish(job, running, result)
                del self._running[job_id]

    def _run_worker(self, job: StudioJob, running: _RunningJob) -> ProcessResult:
        options = job.options
        arguments = [str(self.source(job)), "--out", str(self.folder(job))]
        arguments += ["--operating-point", options.operating_point]
        for name in ("keep_all", "evidence", "report"):
            arguments += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
        command = [*self.settings.worker, *arguments]
        limit_s, folder = self.settings.time_limit_s, self.folder(job)
        # Features of long videos are spooled to temporary files, which belong in the results folder, too.
        environment = {**_WORKER_ENVIRONMENT, "TMPDIR": str(folder)}
        return run_process(command, folder, limit_s, running.update_progress, running.cancelled, environment)

    def _finish(self, job: StudioJob, running: _RunningJob, result: ProcessResult) -> None:
        if self.store.get(job.id) is None:
            return
        job = job.model_copy(update={"done": running.done, "total": running.total})
        seconds = time.monotonic() - running.began_s
        if result.outcome == "done":
            self._save_status(job, "done", seconds)
        elif result.outcome == "cancelled":
            self._save_status(job, "queued" if running.stopped else "cancelled")
        elif result.outcome == "too slow":
            self._save_status(
                job, "failed", seconds, f"Processing took longer than {self.settings.time_limit_s:.0f} s."
            )
        else:
            self._save_status(job, "failed", seconds, self._error_message(job, result.stderr_tail))

    def _save_status(
        self, job: StudioJob, status: Status, seconds: float | None = None, error: str | None = None
    ) -> None:
        self.store.save(job.model_copy(update={"status": status, "seconds": seconds, "error": error}))

    def _error_message(self, job: StudioJob, stderr_tail: str) -> str:
        """Return the last error line of auscan with the user's file name in place of local paths."""
        lines = [
            line.removeprefix("auscan: ") for line in stderr_tail.splitlines() if line.startswith("auscan: ")
        ]
        text = lines[-1] if lines else "The worker process ended unexpectedly; it may have run out of memory."
        for path, name in (
            (str(self.source(job)), job.name),
            (str(self.settings.folder.resolve()), "the results folder"),
            (str(self.settings.folder), "the results folder"),
        ):
            text = text.replace(path, name)
        return text
