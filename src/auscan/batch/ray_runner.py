"""Inputs are done on the machines of a Ray cluster: the third runner.

    this machine                      any machine of the cluster
    RayRunner  --- job, folder --->          RayWorker  -->  PoolRunner  -->  process with the model
               <-- JobDone, WorkerFailure --

A worker is a Ray actor with processors and a share of a GPU to itself. It has one job at a time, and does it
in a process beside it, as a run without Ray does: so crashes and limits come out the same. The job that was
lost with a worker is done again elsewhere, in another folder, as nobody knows whether a machine that does not
answer still writes; lost once more, it has failed. Results become visible by this machine alone (run.py).

In: jobs, the address of a cluster.  Out: as every runner.
Not here: starting a cluster of several machines; that is what `ray start` does.
"""

import logging
import os
import platform
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from auscan.batch.detect_worker import load_detect_worker
from auscan.batch.jobs import Job, failed_record
from auscan.batch.options import DetectRequest, RunMetadata
from auscan.batch.output_folder import LOCK_FILE, StagingFolder, output_error
from auscan.batch.run import (
    MAX_FAILED_STARTS,
    NO_LIMITS,
    POLL_EVERY_S,
    Interrupts,
    JobResult,
    Limits,
    PoolRunner,
    ProgressListener,
)
from auscan.batch.worker import JobDone, LoadJobFunction, WorkerFailure
from auscan.core.environment import require_extra, usable_cores
from auscan.core.errors import CrashError, InputError
from auscan.results.manifest import ManifestRecord

MAX_ATTEMPTS: Final[int] = 2
"""Workers that may be lost with a job until it counts as failed."""

CAPACITY_EVERY_S: Final[float] = 5.0
"""How often the machines of the cluster are counted."""

CONNECT_TIMEOUT_S: Final[float] = 10.0
"""How long the head of a cluster may take to open its door; Ray itself would try for minutes."""

NO_WORKER_TIMEOUT_S: Final[float] = 300.0
"""How long there may be no worker at all."""


def connect(address: str) -> Any:
    """Join a cluster, or with 'local' start one on this machine alone; the module `ray`, ready for use.

    It reports nothing to anybody and starts no dashboard, and what is on this machine alone cannot be reached
    from others.  Raises InputError where there is no cluster, or no Ray.
    """
    require_extra("--ray", "ray", "ray")
    if address.startswith("ray://"):
        raise InputError(
            f"{address} is for Ray's client. Run auscan on a machine of the cluster, with --ray auto."
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # what Ray will do anyway; else it warns
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # else its news goes to stdout, which is for data
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else it looks for a lost head ten minutes
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        settings |= {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": 10**8}
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # stay on the loopback interface
    import ray

    try:
        if ":" in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        ray.init(address=address, **settings)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and others
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"There is no Ray cluster at {address!r} to work with ({reason}). Start one with "
            "`ray start --head`, or give --ray local."
        ) from error
    return ray


class RayWorker:
    """The end of a worker that is on a machine of the cluster; an actor."""

    def __init__(
        self, load: LoadJobFunction, metadata: RunMetadata, limits: Limits, working_directory: Path
    ) -> None:
        """working_directory: what relative paths start from, if it is there"""
        with suppress(OSError):
            os.chdir(working_directory)
        sys.modules["__main__"].__file__ = None  # Ray's own; else the process beside it would load Ray, too
        self._pool = PoolRunner(
            load, replace(metadata, host=platform.node()), _SilentListener(), limits=limits
        )

    def find_missing(self, paths: Sequence[Path]) -> str | None:
        """What to tell where this machine does not have some of the paths; else None."""
        for path in paths:
            if not path.exists():
                return f"{path.absolute()} on {platform.node()}"
        return None

    def run_job(self, job: Job, folder: Path) -> JobDone | WorkerFailure:
        """Do a job, its files into `folder`."""
        waiting = deque([job])
        try:
            while True:
                for _, record in self._pool.poll(waiting, lambda name: folder):
                    return JobDone(record)
        except Exception as error:
            return WorkerFailure(error)


class _SilentListener:
    """Nobody looks on (a `ProgressListener`)."""

    def started(self, job: Job) -> None:
        """Nothing."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """Nothing."""

    def finished(self, job: Job) -> None:
        """Nothing."""

    def stopping(self, running: int) -> None:
        """Nothing."""


@dataclass(eq=False)
class WorkerHandle:
    """The end of a worker that is here."""

    actor: Any
    reply: Any
    """What it will say next; None where it has nothing to do."""
    job: Job | None = None
    folder: Path = Path()
    """Where it makes the result."""
    began_s: float = 0.0


class RayRunner:
    """Does jobs on the machines of a cluster (a `Runner`), which it leaves in the end."""

    abort_after = 2

    def __init__(
        self,
        ray: Any,
        load: LoadJobFunction,
        metadata: RunMetadata,
        listener: ProgressListener,
        resources: Mapping[str, float],
        count: int | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """ray: as `connect` gives it; resources: of a worker, in Ray's words: CPU, GPU, memory (bytes).

        count: of workers; None: as many as there is room for
        """
        self._ray, self._load, self._metadata, self._listener = ray, load, metadata, listener
        self._resources, self._count, self._limits = resources, count, limits
        self._workers: list[WorkerHandle] = []
        self._lost_workers: Counter[str] = Counter()
        """Workers lost with a job, by its key."""
        self._failed_starts = 0
        """Workers lost in a row before they could do anything."""
        self._capacity, self._counted_s = 1, -CAPACITY_EVERY_S

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """As `Runner` says."""
        waiting = deque(jobs)
        self._last_reply_s = time.monotonic()
        try:
            while waiting or self._workers:
                if interrupts.count and waiting:
                    waiting.clear()
                    self._listener.stopping(sum(worker.job is not None for worker in self._workers))
                self._assign_jobs(waiting, folder)
                yield from self._collect_replies(waiting, folder)
        finally:
            self._ray.shutdown()

    def _assign_jobs(self, waiting: deque[Job], folder: StagingFolder) -> None:
        """Give out work, dismiss who has none, take on who is needed."""
        for worker in [each for each in self._workers if each.reply is None]:
            if waiting:
                self._assign(worker, waiting.popleft(), folder)
            else:
                self._stop_worker(worker)
        starting = [worker for worker in self._workers if worker.job is None]
        if not waiting:
            for worker in starting:
                self._stop_worker(worker)
        for _ in range(min(self._max_workers() - len(self._workers), len(waiting) - len(starting))):
            actor = self._start_actor()
            self._workers.append(
                WorkerHandle(actor, actor.find_missing.remote(_paths_to_find(waiting, folder)))
            )

    def _start_actor(self) -> Any:
        kind = self._ray.remote(RayWorker).options(
            num_cpus=self._resources.get("CPU"),
            num_gpus=self._resources.get("GPU"),
            memory=self._resources.get("memory"),
            scheduling_strategy="SPREAD",
        )
        return kind.remote(self._load, self._metadata, self._limits, Path.cwd())

    def _max_workers(self) -> int:
        """How many workers there may be now; one at least, so that a cluster that can grow is asked to."""
        if time.monotonic() - self._counted_s >= CAPACITY_EVERY_S:
            self._counted_s = time.monotonic()
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._capacity = max(1, sum(map(self._workers_fitting, nodes)))
        return self._capacity if self._count is None else min(self._capacity, self._count)

    def _workers_fitting(self, resources: Mapping[str, float]) -> int:
        """Workers that a machine has room for."""
        return min(int(resources.get(name, 0.0) / need + 1e-6) for name, need in self._resources.items())

    def _assign(self, worker: WorkerHandle, job: Job, folder: StagingFolder) -> None:
        if job.key not in self._lost_workers:
            self._listener.started(job)
        worker.job, worker.began_s, worker.folder = (
            job,
            time.monotonic(),
            folder.staging_path(f".{uuid4().hex}"),
        )
        worker.reply = worker.actor.run_job.remote(job, worker.folder)

    def _collect_replies(self, waiting: deque[Job], folder: StagingFolder) -> Iterator[JobResult]:
        workers = {worker.reply: worker for worker in self._workers if worker.reply is not None}
        replies = self._ray.wait(list(workers), timeout=POLL_EVERY_S)[0] if workers else []
        if replies or any(worker.job is not None for worker in self._workers):
            self._last_reply_s = time.monotonic()
        elif time.monotonic() - self._last_reply_s > NO_WORKER_TIMEOUT_S:
            raise CrashError(
                f"The Ray cluster had no room for a worker for {NO_WORKER_TIMEOUT_S:g} s; one needs "
                f"{self._describe_resources()}. What is finished is kept; run the same again with --resume "
                "when there is room."
            )
        for reply in replies:
            yield from self._handle_reply(workers[reply], waiting, folder)

    def _handle_reply(
        self, worker: WorkerHandle, waiting: deque[Job], folder: StagingFolder
    ) -> Iterator[JobResult]:
        try:
            reply = self._ray.get(worker.reply)
        except self._ray.exceptions.RayTaskError:
            raise  # a mistake of auscan
        except self._ray.exceptions.RayError as lost:
            self._stop_worker(worker)
            yield from self._worker_lost(worker, waiting, lost)
            return
        worker.reply = None
        self._failed_starts = 0
        match reply:
            case JobDone(record):
                yield self._accept_result(worker, record, folder)
            case WorkerFailure(error):
                raise error
            case str():
                raise InputError(
                    f"There is no {reply}. All machines must find inputs and --out under the same paths, on "
                    "a file system that they share."
                )

    def _accept_result(
        self, worker: WorkerHandle, record: ManifestRecord, folder: StagingFolder
    ) -> JobResult:
        job = worker.job
        assert job is not None
        expected = self._metadata.model_sha256, self._metadata.versions["auscan"]
        if (record.model_sha256, record.versions["auscan"]) != expected:
            raise InputError(
                f"{record.host} has another auscan or another model than this machine. "
                "Install the same on all."
            )
        try:
            if worker.folder.exists():
                worker.folder.rename(folder.staging_path(job.name))
        except OSError as error:
            raise output_error(folder.path.parent, error) from error
        return self._release(worker, record)

    def _worker_lost(
        self, worker: WorkerHandle, waiting: deque[Job], error: Exception
    ) -> Iterator[JobResult]:
        """A worker was lost, and with it what it was at."""
        job = worker.job
        if job is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS * self._max_workers():
                reason = " ".join(str(error).split())
                raise CrashError(
                    f"No worker can be started on the Ray cluster; what is finished is kept. {reason}"
                )
            return
        self._lost_workers[job.key] += 1
        if self._lost_workers[job.key] < MAX_ATTEMPTS:
            waiting.appendleft(job)
            return
        lost = CrashError(
            f"{job.path} could not be read to its end: its Ray worker or the whole machine was lost, "
            f"{MAX_ATTEMPTS} times."
        )
        yield self._release(
            worker, failed_record(job, self._metadata, lost, time.monotonic() - worker.began_s)
        )

    def _release(self, worker: WorkerHandle, record: ManifestRecord) -> JobResult:
        job, worker.job = worker.job, None
        assert job is not None
        self._listener.finished(job)
        return job, record

    def _stop_worker(self, worker: WorkerHandle) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker.actor)

    def _describe_resources(self) -> str:
        return ", ".join(f"{need:g} {name}" for name, need in self._resources.items())


def _paths_to_find(waiting: Iterable[Job], folder: StagingFolder) -> list[Path]:
    """What every machine must see: the folder of the run, and an input that is there."""
    existing = (job.path for job in waiting if job.path.exists())
    return [folder.path / LOCK_FILE, *islice(existing, 1)]


def make_ray_runner(
    request: DetectRequest,
    metadata: RunMetadata,
    out: Path,
    address: str,
    jobs: int | None,
    gpus: float | None,
    limits: Limits,
    listener: ProgressListener,
) -> RayRunner:
    """The runner on a cluster; connects to it.

    address: 'auto', 'local', or where a cluster is
    jobs: workers in all; None: as many as there is room for.  Each has as many processors as threads, 1
    unless the request says more.
    gpus: of each worker, also a part of one; None: 1 where the device is a GPU
    Raises InputError where there is no cluster.
    """
    threads = request.threads or 1
    resources = worker_resources(threads, request.device, gpus)
    if limits.bytes is not None:
        resources["memory"] = float(limits.bytes)
    load = partial(load_detect_worker, replace(request, threads=threads), out)
    return RayRunner(connect(address), load, metadata, listener, resources, jobs, limits)


def worker_resources(threads: int, device: str, gpus: float | None) -> dict[str, float]:
    """What a worker takes, in Ray's words.

    gpus: also a part of one; None: 1 where the device is a GPU
    Raises InputError where there are GPUs for another device.
    """
    on_gpu = device.startswith("cuda")
    if gpus is not None and not on_gpu:
        raise InputError("--gpus-per-worker is for --device cuda.")
    resources = {"CPU": float(threads)}
    if on_gpu:
        resources["GPU"] = 1.0 if gpus is None else gpus
    return resources
