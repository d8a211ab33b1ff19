"""The queue: videos wait, are read one after another in a process each, and can be called off.

Jobs that were under way when the Studio stopped begin again when it starts.

    FOLDER/studio.sqlite          what is known of each (index.py)
    FOLDER/ID/video.mp4           the file that was given; its own name is only text in the index
    FOLDER/ID/video/              what `auscan detect` made of it

In: jobs whose file is in its place.  Out: their state, and files under FOLDER.
Not here: the process (process.py), taking files in (uploads.py).
"""

import queue
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from auscan.server.index import Index, Job, Status
from auscan.server.process import Ended, run
from auscan.server.settings import StudioSettings

STEM: Final[str] = "video"
"""What every stored file is called, and the folder of its results."""

_PROGRESS: Final[dict[str, str]] = {"AUSCAN_PROGRESS_S": "0.25"}
"""Asks the worker for a line this often (cli/progress.py)."""


@dataclass
class _Run:
    """A job that is under way."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    """It was the Studio that stopped, not the user: it is to begin again."""
    began_s: float = field(default_factory=time.monotonic)
    first: tuple[float, int] | None = None
    """When the first frames were done, and how many; the model is loaded before that."""
    done: int = 0
    total: int | None = None

    def step(self, done: int, total: int | None) -> None:
        self.first = self.first or (time.monotonic(), done)
        self.done, self.total = done, total

    def left_s(self) -> float | None:
        if self.first is None or self.total is None or self.done <= self.first[1]:
            return None
        pace = (time.monotonic() - self.first[0]) / (self.done - self.first[1])
        return max(0, self.total - self.done) * pace


class Jobs:
    """All videos of one folder. `start` before use, `stop` at the end."""

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self.index = Index(settings.folder)
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin with what was left over from last time."""
        for job in self.index.unfinished():
            self.index.put(job.model_copy(update={"status": "queued"}))
            self._waiting.put(job.id)
        self._thread.start()

    def stop(self) -> None:
        """End what runs; it begins again with the next start."""
        self._waiting.put(None)
        with self._lock:
            for run_ in self._runs.values():
                run_.stopped = True
                run_.cancelled.set()
        self._thread.join(timeout=30)
        self.index.close()

    def folder(self, job: Job) -> Path:
        """Where all of a job lies."""
        return self.settings.folder / job.id

    def source(self, job: Job) -> Path:
        """The file that was given."""
        return self.folder(job) / f"{STEM}{job.suffix}"

    def results(self, job: Job) -> Path:
        """What was made of it."""
        return self.folder(job) / STEM

    def waiting(self) -> int:
        """Jobs that are not finished."""
        return len(self.index.unfinished())

    def submit(self, job: Job) -> Job:
        """Put a job whose file is in its place at the end of the queue."""
        self.index.put(job)
        self._waiting.put(job.id)
        return job

    def get(self, job_id: str) -> Job | None:
        """A job, with how far it is."""
        job = self.index.get(job_id)
        return job and self._seen(job)

    def all(self) -> list[Job]:
        """All jobs, newest first."""
        return [self._seen(job) for job in self.index.all()]

    def cancel(self, job: Job) -> Job:
        """Call a job off, whether it waits or runs; a finished one stays as it is."""
        with self._lock:
            run_ = self._runs.get(job.id)
            if run_ is not None:
                run_.cancelled.set()
            else:
                latest = self.index.get(job.id)
                if latest is not None and latest.status == "queued":
                    self._settle(latest, "cancelled")
        for _ in range(100):  # its process is ended within a moment
            if job.id not in self._runs:
                break
            time.sleep(0.05)
        return self.get(job.id) or job

    def remove(self, job: Job) -> None:
        """Call a job off and delete all of it."""
        self.cancel(job)
        self.index.remove(job.id)
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def _seen(self, job: Job) -> Job:
        run_ = self._runs.get(job.id)
        if run_ is None:
            return job
        update = {"done": run_.done, "total": run_.total, "left_s": run_.left_s()}
        return job.model_copy(update=update)

    def _work(self) -> None:
        while (job_id := self._waiting.get()) is not None:
            with self._lock:
                job = self.index.get(job_id)
                if job is None or job.status != "queued":
                    continue
                run_ = self._runs[job_id] = _Run()
                self.index.put(job.model_copy(update={"status": "running"}))
            try:
                ended = self._run(job, run_)
            except OSError as error:
                ended = Ended("failed", f"auscan: The worker could not be started ({error.strerror}).")
            with self._lock:
                self._finish(job, run_, ended)
                del self._runs[job_id]

    def _run(self, job: Job, run_: _Run) -> Ended:
        options = job.options
        words = [str(self.source(job)), "--out", str(self.folder(job))]
        words += ["--operating-point", options.operating_point]
        for name in ("keep_all", "evidence", "report"):
            words += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
        command = [*self.settings.worker, *words]
        limit_s, folder = self.settings.time_limit_s, self.folder(job)
        # The features of a long video wait in a temporary file, which belongs into the results folder too.
        environment = {**_PROGRESS, "TMPDIR": str(folder)}
        return run(command, folder, limit_s, run_.step, run_.cancelled, environment)

    def _finish(self, job: Job, run_: _Run, ended: Ended) -> None:
        if self.index.get(job.id) is None:
            return
        job = job.model_copy(update={"done": run_.done, "total": run_.total})
        seconds = time.monotonic() - run_.began_s
        if ended.how == "done":
            self._settle(job, "done", seconds)
        elif ended.how == "cancelled":
            self._settle(job, "queued" if run_.stopped else "cancelled")
        elif ended.how == "too slow":
            self._settle(job, "failed", seconds, f"It took longer than {self.settings.time_limit_s:.0f} s.")
        else:
            self._settle(job, "failed", seconds, self._reason(job, ended.said))

    def _settle(
        self, job: Job, status: Status, seconds: float | None = None, error: str | None = None
    ) -> None:
        self.index.put(job.model_copy(update={"status": status, "seconds": seconds, "error": error}))

    def _reason(self, job: Job, said: str) -> str:
        """What auscan said, with the user's name for the file and no path of this machine."""
        lines = [line.removeprefix("auscan: ") for line in said.splitlines() if line.startswith("auscan: ")]
        text = lines[-1] if lines else "The process ended before it was done; it may have run out of memory."
        for path, name in (
            (str(self.source(job)), job.name),
            (str(self.settings.folder.resolve()), "the results folder"),
            (str(self.settings.folder), "the results folder"),
        ):
            text = text.replace(path, name)
        return text
