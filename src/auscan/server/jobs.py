"""The queue: videos wait, are read one after another in a process each, and can be called off.

Jobs that were under way when the Studio stopped begin again when it starts.

    FOLDER/studio.sqlite          what is known of each (job_store.py)
    FOLDER/ID/video.mp4           the file that was given; its own name is only text in the store
    FOLDER/ID/video/              what `auscan detect` made of it

In: jobs whose file is in its place.  Out: their state, and files under FOLDER.
Not here: the process (process.py), taking files in (routes.py).
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
"""What every stored file is called, and the folder of its results."""

_WORKER_ENVIRONMENT: Final[dict[str, str]] = {"AUSCAN_PROGRESS_S": "0.25"}
"""Asks the worker for a line this often (cli/progress.py)."""


@dataclass
class _RunningJob:
    """A job that is under way."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    """It was the Studio that stopped, not the user: it is to begin again."""
    began_s: float = field(default_factory=time.monotonic)
    first_progress: tuple[float, int] | None = None
    """When the first frames were done, and how many; the model is loaded before that."""
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
    """All videos of one folder. `start` before use, `stop` at the end."""

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self.store = JobStore(settings.folder)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._running: dict[str, _RunningJob] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._process_queue, daemon=True)

    def start(self) -> None:
        """Begin with what was left over from last time."""
        for job in self.store.unfinished():
            self.store.save(job.model_copy(update={"status": "queued"}))
            self._queue.put(job.id)
        self._thread.start()

    def stop(self) -> None:
        """End what runs; it begins again with the next start."""
        self._queue.put(None)
        with self._lock:
            for running in self._running.values():
                running.stopped = True
                running.cancelled.set()
        self._thread.join(timeout=30)
        self.store.close()

    def folder(self, job: StudioJob) -> Path:
        """Where all of a job lies."""
        return self.settings.folder / job.id

    def source(self, job: StudioJob) -> Path:
        """The file that was given."""
        return self.folder(job) / f"{STEM}{job.suffix}"

    def results(self, job: StudioJob) -> Path:
        """What was made of it."""
        return self.folder(job) / STEM

    def unfinished_count(self) -> int:
        """Jobs that are not finished."""
        return len(self.store.unfinished())

    def submit(self, job: StudioJob) -> StudioJob:
        """Put a job whose file is in its place at the end of the queue."""
        self.store.save(job)
        self._queue.put(job.id)
        return job

    def get(self, job_id: str) -> StudioJob | None:
        """A job, with how far it is."""
        job = self.store.get(job_id)
        return job and self._with_progress(job)

    def all(self) -> list[StudioJob]:
        """All jobs, newest first."""
        return [self._with_progress(job) for job in self.store.all()]

    def cancel(self, job: StudioJob) -> StudioJob:
        """Call a job off, whether it waits or runs; a finished one stays as it is."""
        with self._lock:
            running = self._running.get(job.id)
            if running is not None:
                running.cancelled.set()
            else:
                current = self.store.get(job.id)
                if current is not None and current.status == "queued":
                    self._save_status(current, "cancelled")
        for _ in range(100):  # its process is ended within a moment
            if job.id not in self._running:
                break
            time.sleep(0.05)
        return self.get(job.id) or job

    def remove(self, job: StudioJob) -> None:
        """Call a job off and delete all of it."""
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
        # The features of a long video wait in a temporary file, which belongs into the results folder too.
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
                job, "failed", seconds, f"It took longer than {self.settings.time_limit_s:.0f} s."
            )
        else:
            self._save_status(job, "failed", seconds, self._error_message(job, result.stderr_tail))

    def _save_status(
        self, job: StudioJob, status: Status, seconds: float | None = None, error: str | None = None
    ) -> None:
        self.store.save(job.model_copy(update={"status": status, "seconds": seconds, "error": error}))

    def _error_message(self, job: StudioJob, stderr_tail: str) -> str:
        """What auscan said, with the user's name for the file and no path of this machine."""
        lines = [
            line.removeprefix("auscan: ") for line in stderr_tail.splitlines() if line.startswith("auscan: ")
        ]
        text = lines[-1] if lines else "The process ended before it was done; it may have run out of memory."
        for path, name in (
            (str(self.source(job)), job.name),
            (str(self.settings.folder.resolve()), "the results folder"),
            (str(self.settings.folder), "the results folder"),
        ):
            text = text.replace(path, name)
        return text
