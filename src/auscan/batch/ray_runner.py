"""Run jobs on the machines of a Ray cluster.

    this machine                             any machine of the cluster
    RayRunner  --- job, folder --->          RayWorker  -->  PoolRunner  -->  process with the model
               <-- JobDone, WorkerFailure --

A worker is a Ray actor with its own CPUs and share of a GPU. It has one job at a time and runs it in a
process on the same machine, so crashes and limits behave as without Ray. A job lost with its worker is
repeated elsewhere, in another folder, because a machine that does not answer may still be writing. A job lost
twice has failed. Only this machine publishes results (run.py).

Inputs: jobs, the address of a cluster. Returns: (job, record), as every runner.
See also: `ray start` (starting a cluster of several machines), tests/batch/ray_cluster.py.
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

from auscan.batch.jobs import DetectRequest, Job, RunMetadata, failed_record, load_detect_worker
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
"""Number of lost workers after which a job has failed."""

CAPACITY_EVERY_S: Final[float] = 5.0
"""Interval at which the machines of the cluster are counted, seconds."""

CONNECT_TIMEOUT_S: Final[float] = 10.0
"""Time in seconds to connect to the head of a cluster; Ray itself tries for minutes."""

NO_WORKER_TIMEOUT_S: Final[float] = 300.0
"""Time in seconds without any worker after which the run is aborted."""


def connect(address: str) -> Any:
    """Connect to a cluster, or with 'local' start one on this machine; return the initialised module `ray`.

    Usage reports and the dashboard are off, and a local cluster cannot be reached from other machines.

    Raises InputError if there is no cluster or Ray is not installed.
    """
    require_extra("--ray", "ray", "ray")
    if address.startswith("ray://"):
        raise InputError(
            f"{address} is an address for Ray's client, which auscan does not support. Run auscan on a "
            "machine of the cluster, with --ray auto."
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # Ray's future default; avoids a warning
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # keeps Ray's log lines off stdout, which is for data
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # otherwise Ray tries a lost head for ten minutes
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
            f"Cannot connect to a Ray cluster at {address!r} ({reason}). Start one with `ray start --head`, "
            "or use --ray local."
        ) from error
    return ray


class RayWorker:
    """Worker on a machine of the cluster (a Ray actor)."""

    def __init__(
        self, load: LoadJobFunction, metadata: RunMetadata, limits: Limits, working_directory: Path
    ) -> None:
        """Create the worker.

        working_directory: base of relative paths; ignored if it does not exist on this machine
        """
        with suppress(OSError):
            os.chdir(working_directory)
        sys.modules["__main__"].__file__ = None  # Ray's file, which the worker process would load otherwise
        self._pool = PoolRunner(
            load, replace(metadata, host=platform.node()), _SilentListener(), limits=limits
        )

    def find_missing(self, paths: Sequence[Path]) -> str | None:
        """Return the first path that does not exist on this machine, as 'PATH on HOST'; None if all exist."""
        for path in paths:
            if not path.exists():
                return f"{path.absolute()} on {platform.node()}"
        return None

    def run_job(self, job: Job, folder: Path) -> JobDone | WorkerFailure:
        """Process one job and write its files into `folder`."""
        waiting = deque([job])
        try:
            while True:
                for _, record in self._pool.poll(waiting, lambda name: folder):
                    return JobDone(record)
        except Exception as error:
            return WorkerFailure(error)


class _SilentListener:
    """Listener that ignores all events (a `ProgressListener`)."""

    def started(self, job: Job) -> None:
        """Do nothing."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """Do nothing."""

    def finished(self, job: Job) -> None:
        """Do nothing."""

    def stopping(self, running: int) -> None:
        """Do nothing."""


@dataclass(eq=False)
class WorkerHandle:
    """Handle of a worker on the machine that runs `auscan detect`."""

    actor: Any
    """Ray's handle of the actor."""
    reply: Any
    """Ray's reference to the pending reply; None if the worker is idle."""
    job: Job | None = None
    """Job being processed; None before the first one."""
    folder: Path = Path()
    """Folder that the worker writes to."""
    began_s: float = 0.0
    """Monotonic time at which the job began, seconds."""


class RayRunner:
    """Runner on a Ray cluster (a `Runner`); disconnects at the end."""

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
        """Create the runner.

        ray: module as returned by `connect`
        resources: resources of a worker by Ray's names: CPU, GPU, memory (bytes)
        count: number of workers; None for as many as the cluster has resources for
        """
        self._ray, self._load, self._metadata, self._listener = ray, load, metadata, listener
        self._resources, self._count, self._limits = resources, count, limits
        self._workers: list[WorkerHandle] = []
        self._lost_workers: Counter[str] = Counter()
        """Number of workers lost with a job, by its key."""
        self._failed_starts = 0
        """Number of workers lost in a row before their first reply."""
        self._capacity, self._counted_s = 1, -CAPACITY_EVERY_S

    def __call__(
        self, jobs: Sequence[Job], folder: StagingFolder, interrupts: Interrupts
    ) -> Generator[JobResult]:
        """Run jobs; see `Runner`."""
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
        """Assign waiting jobs, stop idle workers, start missing ones."""
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
        """Return the maximum number of workers now; at least one, so that an autoscaling cluster can grow."""
        if time.monotonic() - self._counted_s >= CAPACITY_EVERY_S:
            self._counted_s = time.monotonic()
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._capacity = max(1, sum(map(self._workers_fitting, nodes)))
        return self._capacity if self._count is None else min(self._capacity, self._count)

    def _workers_fitting(self, resources: Mapping[str, float]) -> int:
        """Return how many workers fit on a machine."""
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
                f"The Ray cluster had no free resources for a worker for {NO_WORKER_TIMEOUT_S:g} s; a worker "
                f"needs {self._describe_resources()}. Finished results are kept; run the same command again "
                "with --resume when resources are free."
            )
        for reply in replies:
            yield from self._handle_reply(workers[reply], waiting, folder)

    def _handle_reply(
        self, worker: WorkerHandle, waiting: deque[Job], folder: StagingFolder
    ) -> Iterator[JobResult]:
        try:
            reply = self._ray.get(worker.reply)
        except self._ray.exceptions.RayTaskError:
            raise  # a bug of auscan
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
                    f"Not found: {reply}. Inputs and --out must have the same paths on all machines, on a "
                    "shared file system."
                )

    def _accept_result(
        self, worker: WorkerHandle, record: ManifestRecord, folder: StagingFolder
    ) -> JobResult:
        job = worker.job
        assert job is not None
        expected = self._metadata.model_sha256, self._metadata.versions["auscan"]
        if (record.model_sha256, record.versions["auscan"]) != expected:
            raise InputError(
                f"{record.host} has another version of auscan or another model than this machine. "
                "Install the same on all machines."
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
        """Count a failed start, or repeat the lost job; fail the job after MAX_ATTEMPTS."""
        job = worker.job
        if job is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS * self._max_workers():
                reason = " ".join(str(error).split())
                raise CrashError(
                    f"No worker can be started on the Ray cluster; finished results are kept. {reason}"
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
    """Return paths that every machine must have: the lock file of the run, and one input that exists."""
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
    """Connect to a cluster and return its runner.

    address: 'auto', 'local', or HOST:PORT of a cluster
    jobs: number of workers; None for as many as the cluster has resources for. Each has one CPU per thread, 1
    by default
    gpus: GPUs of each worker, may be a fraction; None: 1 if the device is a GPU

    Raises InputError if there is no cluster, or `gpus` is set for another device.
    """
    threads = request.threads or 1
    resources = worker_resources(threads, request.device, gpus)
    if limits.bytes is not None:
        resources["memory"] = float(limits.bytes)
    load = partial(load_detect_worker, replace(request, threads=threads), out)
    return RayRunner(connect(address), load, metadata, listener, resources, jobs, limits)


def worker_resources(threads: int, device: str, gpus: float | None) -> dict[str, float]:
    """Return the resources of a worker by Ray's names.

    gpus: GPUs of the worker, may be a fraction; None: 1 if the device is a GPU

    Raises InputError if `gpus` is set for another device.
    """
    on_gpu = device.startswith("cuda")
    if gpus is not None and not on_gpu:
        raise InputError("--gpus-per-worker is for --device cuda.")
    resources = {"CPU": float(threads)}
    if on_gpu:
        resources["GPU"] = 1.0 if gpus is None else gpus
    return resources
