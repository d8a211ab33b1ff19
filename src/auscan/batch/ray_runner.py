"""Inputs are done on the machines of a Ray cluster: the third runner.

    this machine                      any machine of the cluster
    OnRay   --- job, folder --->      Post  -->  InWorkers  -->  process with the model
            <--  Ended, Refused -

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

from auscan.batch.detect_worker import load_detection
from auscan.batch.jobs import Job, failed
from auscan.batch.options import About, Request
from auscan.batch.output_folder import LOCK_FILE, RunFolder, not_writable
from auscan.batch.run import (
    LOOK_EVERY_S,
    NO_LIMITS,
    STARTS,
    Interrupts,
    InWorkers,
    Limits,
    Settled,
    Watcher,
)
from auscan.batch.worker import Ended, Load, Refused
from auscan.core.environment import need_extra, usable_cores
from auscan.core.errors import CrashError, InputError
from auscan.results.manifest import Entry

TRIES: Final[int] = 2
"""Workers that may be lost with a job until it counts as failed."""

ROOM_EVERY_S: Final[float] = 5.0
"""How often the machines of the cluster are counted."""

KNOCK_S: Final[float] = 10.0
"""How long the head of a cluster may take to open its door; Ray itself would try for minutes."""

WAIT_S: Final[float] = 300.0
"""How long there may be no worker at all."""


def connect(address: str) -> Any:
    """Join a cluster, or with 'local' start one on this machine alone; the module `ray`, ready for use.

    It reports nothing to anybody and starts no dashboard, and what is on this machine alone cannot be reached
    from others.  Raises InputError where there is no cluster, or no Ray.
    """
    need_extra("--ray", "ray", "ray")
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
            socket.create_connection((host, int(port)), KNOCK_S).close()
        ray.init(address=address, **settings)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and others
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"There is no Ray cluster at {address!r} to work with ({reason}). Start one with "
            "`ray start --head`, or give --ray local."
        ) from error
    return ray


class Post:
    """The end of a worker that is on a machine of the cluster; an actor."""

    def __init__(self, load: Load, about: About, limits: Limits, home: Path) -> None:
        """home: what relative paths start from, if it is there"""
        with suppress(OSError):
            os.chdir(home)
        sys.modules["__main__"].__file__ = None  # Ray's own; else the process beside it would load Ray, too
        self._crew = InWorkers(load, replace(about, host=platform.node()), _Unwatched(), limits=limits)

    def missing(self, paths: Sequence[Path]) -> str | None:
        """What to tell where this machine does not have some of the paths; else None."""
        for path in paths:
            if not path.exists():
                return f"{path.absolute()} on {platform.node()}"
        return None

    def do(self, job: Job, folder: Path) -> Ended | Refused:
        """Do a job, its files into `folder`."""
        waiting = deque([job])
        try:
            while True:
                for _, entry in self._crew.turn(waiting, lambda name: folder):
                    return Ended(entry)
        except Exception as error:
            return Refused(error)


class _Unwatched:
    """Nobody looks on (a `Watcher`)."""

    def begun(self, job: Job) -> None:
        """Nothing."""

    def step(self, job: Job, done: int, total: int | None) -> None:
        """Nothing."""

    def ended(self, job: Job) -> None:
        """Nothing."""

    def stopping(self, running: int) -> None:
        """Nothing."""


@dataclass(eq=False)
class _Seat:
    """The end of a worker that is here."""

    post: Any
    answer: Any
    """What it will say next; None where it has nothing to do."""
    job: Job | None = None
    place: Path = Path()
    """Where it makes the result."""
    began_s: float = 0.0


class OnRay:
    """Does jobs on the machines of a cluster (a `Runner`), which it leaves in the end."""

    patience = 2

    def __init__(
        self,
        ray: Any,
        load: Load,
        about: About,
        watcher: Watcher,
        needs: Mapping[str, float],
        count: int | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """ray: as `connect` gives it; needs: of a worker, in Ray's words: CPU, GPU, memory (bytes).

        count: of workers; None: as many as there is room for
        """
        self._ray, self._load, self._about, self._watcher = ray, load, about, watcher
        self._needs, self._count, self._limits = needs, count, limits
        self._crew: list[_Seat] = []
        self._losses: Counter[str] = Counter()
        """Workers lost with a job, by its key."""
        self._lost = 0
        """Workers lost in a row before they could do anything."""
        self._room, self._counted_s = 1, -ROOM_EVERY_S

    def __call__(self, jobs: Sequence[Job], folder: RunFolder, interrupts: Interrupts) -> Generator[Settled]:
        """As `Runner` says."""
        waiting = deque(jobs)
        self._heard_s = time.monotonic()
        try:
            while waiting or self._crew:
                if interrupts.count and waiting:
                    waiting.clear()
                    self._watcher.stopping(sum(seat.job is not None for seat in self._crew))
                self._staff(waiting, folder)
                yield from self._hear(waiting, folder)
        finally:
            self._ray.shutdown()

    def _staff(self, waiting: deque[Job], folder: RunFolder) -> None:
        """Give out work, dismiss who has none, take on who is needed."""
        for seat in [each for each in self._crew if each.answer is None]:
            if waiting:
                self._give(seat, waiting.popleft(), folder)
            else:
                self._dismiss(seat)
        starting = [seat for seat in self._crew if seat.job is None]
        if not waiting:
            for seat in starting:
                self._dismiss(seat)
        for _ in range(min(self._places() - len(self._crew), len(waiting) - len(starting))):
            post = self._take_on()
            self._crew.append(_Seat(post, post.missing.remote(_shared(waiting, folder))))

    def _take_on(self) -> Any:
        kind = self._ray.remote(Post).options(
            num_cpus=self._needs.get("CPU"),
            num_gpus=self._needs.get("GPU"),
            memory=self._needs.get("memory"),
            scheduling_strategy="SPREAD",
        )
        return kind.remote(self._load, self._about, self._limits, Path.cwd())

    def _places(self) -> int:
        """How many workers there may be now; one at least, so that a cluster that can grow is asked to."""
        if time.monotonic() - self._counted_s >= ROOM_EVERY_S:
            self._counted_s = time.monotonic()
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._room = max(1, sum(map(self._fitting, nodes)))
        return self._room if self._count is None else min(self._room, self._count)

    def _fitting(self, resources: Mapping[str, float]) -> int:
        """Workers that a machine has room for."""
        return min(int(resources.get(name, 0.0) / need + 1e-6) for name, need in self._needs.items())

    def _give(self, seat: _Seat, job: Job, folder: RunFolder) -> None:
        if job.key not in self._losses:
            self._watcher.begun(job)
        seat.job, seat.began_s, seat.place = job, time.monotonic(), folder.new(f".{uuid4().hex}")
        seat.answer = seat.post.do.remote(job, seat.place)

    def _hear(self, waiting: deque[Job], folder: RunFolder) -> Iterator[Settled]:
        seats = {seat.answer: seat for seat in self._crew if seat.answer is not None}
        answers = self._ray.wait(list(seats), timeout=LOOK_EVERY_S)[0] if seats else []
        if answers or any(seat.job is not None for seat in self._crew):
            self._heard_s = time.monotonic()
        elif time.monotonic() - self._heard_s > WAIT_S:
            raise CrashError(
                f"The Ray cluster had no room for a worker for {WAIT_S:g} s; one needs {self._in_words()}. "
                "What is finished is kept; run the same again with --resume when there is room."
            )
        for answer in answers:
            yield from self._answered(seats[answer], waiting, folder)

    def _answered(self, seat: _Seat, waiting: deque[Job], folder: RunFolder) -> Iterator[Settled]:
        try:
            said = self._ray.get(seat.answer)
        except self._ray.exceptions.RayTaskError:
            raise  # a mistake of auscan
        except self._ray.exceptions.RayError as lost:
            self._dismiss(seat)
            yield from self._gone(seat, waiting, lost)
            return
        seat.answer = None
        self._lost = 0
        match said:
            case Ended(entry):
                yield self._take(seat, entry, folder)
            case Refused(error):
                raise error
            case str():
                raise InputError(
                    f"There is no {said}. All machines must find inputs and --out under the same paths, on "
                    "a file system that they share."
                )

    def _take(self, seat: _Seat, entry: Entry, folder: RunFolder) -> Settled:
        job = seat.job
        assert job is not None
        ours = self._about.model_sha256, self._about.versions["auscan"]
        if (entry.model_sha256, entry.versions["auscan"]) != ours:
            raise InputError(
                f"{entry.host} has another auscan or another model than this machine. "
                "Install the same on all."
            )
        try:
            if seat.place.exists():
                seat.place.rename(folder.new(job.name))
        except OSError as error:
            raise not_writable(folder.path.parent, error) from error
        return self._settle(seat, entry)

    def _gone(self, seat: _Seat, waiting: deque[Job], error: Exception) -> Iterator[Settled]:
        """A worker was lost, and with it what it was at."""
        job = seat.job
        if job is None:
            self._lost += 1
            if self._lost >= STARTS * self._places():
                reason = " ".join(str(error).split())
                raise CrashError(
                    f"No worker can be started on the Ray cluster; what is finished is kept. {reason}"
                )
            return
        self._losses[job.key] += 1
        if self._losses[job.key] < TRIES:
            waiting.appendleft(job)
            return
        lost = CrashError(
            f"{job.path} could not be read to its end: its Ray worker or the whole machine was lost, "
            f"{TRIES} times."
        )
        yield self._settle(seat, failed(job, self._about, lost, time.monotonic() - seat.began_s))

    def _settle(self, seat: _Seat, entry: Entry) -> Settled:
        job, seat.job = seat.job, None
        assert job is not None
        self._watcher.ended(job)
        return job, entry

    def _dismiss(self, seat: _Seat) -> None:
        self._crew.remove(seat)
        self._ray.kill(seat.post)

    def _in_words(self) -> str:
        return ", ".join(f"{need:g} {name}" for name, need in self._needs.items())


def _shared(waiting: Iterable[Job], folder: RunFolder) -> list[Path]:
    """What every machine must see: the folder of the run, and an input that is there."""
    there = (job.path for job in waiting if job.path.exists())
    return [folder.path / LOCK_FILE, *islice(there, 1)]


def choose_cluster(
    request: Request,
    about: About,
    out: Path,
    address: str,
    jobs: int | None,
    gpus: float | None,
    limits: Limits,
    watcher: Watcher,
) -> OnRay:
    """The runner on a cluster; connects to it.

    address: 'auto', 'local', or where a cluster is
    jobs: workers in all; None: as many as there is room for.  Each has as many processors as threads, 1
    unless the request says more.
    gpus: of each worker, also a part of one; None: 1 where the device is a GPU
    Raises InputError where there is no cluster.
    """
    threads = request.threads or 1
    needs = needs_of(threads, request.device, gpus)
    if limits.bytes is not None:
        needs["memory"] = float(limits.bytes)
    load = partial(load_detection, replace(request, threads=threads), out)
    return OnRay(connect(address), load, about, watcher, needs, jobs, limits)


def needs_of(threads: int, device: str, gpus: float | None) -> dict[str, float]:
    """What a worker takes, in Ray's words.

    gpus: also a part of one; None: 1 where the device is a GPU
    Raises InputError where there are GPUs for another device.
    """
    on_gpu = device.startswith("cuda")
    if gpus is not None and not on_gpu:
        raise InputError("--gpus-per-worker is for --device cuda.")
    needs = {"CPU": float(threads)}
    if on_gpu:
        needs["GPU"] = 1.0 if gpus is None else gpus
    return needs
