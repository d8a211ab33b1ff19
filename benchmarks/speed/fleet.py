"""Simulate a fleet of workers that processes a collection of videos (discrete events).

Rules:

    an idle worker takes the next input of its shard that has arrived
    all workers read from one storage with a fixed bandwidth; reading and computing overlap
    a worker may fail, at a rate per hour; its input is started again later, as with `--resume`
    an input may be a straggler, which takes a multiple of its time

For millions of hours, `one_slice` takes one of many equal and independent parts of a fleet.

Inputs: a `Fleet`, seconds of a worker for each input. Returns: end time, busy and lost time, counts.
See also: scaling.py (measured seconds).
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Parameters of a fleet; times in seconds unless named otherwise."""

    workers: int
    start_s: float = 0.0
    """Time to load the model, at the start and after each failure."""
    shards: int = 1
    """Inputs are assigned to shards by a hash; worker w processes shard w % shards."""
    failures_per_hour: float = 0.0
    """Failure rate of one busy worker."""
    attempts: int = 3
    """An input is given up after this many failures."""
    straggler_share: float = 0.0
    """Share of inputs that are stragglers."""
    straggler_factor: float = 1.0
    """Factor on the time of a straggler."""
    arrivals_per_hour: float | None = None
    """Arrival rate of inputs; None: all are available at the start."""
    input_bytes: float = 0.0
    """Size of an input."""
    storage_bytes_s: float = np.inf
    """Bandwidth of the storage for all workers together, bytes a second."""
    latency_s: float = 0.0
    """Latency of reading an input and writing its results."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a simulation."""

    end_s: float
    """End of the last input, processed or given up."""
    busy_s: float
    """Time of all workers on finished inputs."""
    lost_s: float
    """Time of all workers on failed attempts."""
    done: int
    given_up: int
    failures: int

    def paid_hours(self, workers: int) -> float:
        """Return the hours of all workers until the end, idle time included."""
        return workers * self.end_s / 3600


def simulate(fleet: Fleet, seconds: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Outcome:
    """Simulate inputs in order.  seconds: [inputs] time of a worker for each."""
    rng = np.random.default_rng(seed)
    slow = rng.random(len(seconds)) < fleet.straggler_share
    need_s = np.asarray(seconds, np.float64) * np.where(slow, fleet.straggler_factor, 1.0)
    gap_s = 0.0 if fleet.arrivals_per_hour is None else 3600 / fleet.arrivals_per_hour
    waiting: list[deque[tuple[float, int, int]]] = [deque() for _ in range(fleet.shards)]
    shard_of = (
        rng.integers(fleet.shards, size=len(need_s)) if fleet.shards > 1 else np.zeros(len(need_s), int)
    )
    for number, shard in enumerate(shard_of.tolist()):
        waiting[shard].append((number * gap_s, number, 1))  # arrival, input, attempt
    free = [(fleet.start_s, worker) for worker in range(fleet.workers)]
    heapq.heapify(free)
    storage_free_s = end_s = busy_s = lost_s = 0.0
    done = given_up = failures = 0
    while free:
        now_s, worker = heapq.heappop(free)
        queue = waiting[worker % fleet.shards]
        if not queue:
            continue  # the worker stops; an input that fails later goes to another worker
        if queue[0][0] > now_s:
            heapq.heappush(free, (queue[0][0], worker))
            continue
        _, number, attempt = queue.popleft()
        storage_free_s = max(storage_free_s, now_s) + fleet.input_bytes / fleet.storage_bytes_s
        stop_s = max(now_s + need_s[number], storage_free_s) + fleet.latency_s
        fails_s = now_s + _until_failure_s(fleet, rng)
        if fails_s < stop_s:
            failures, lost_s = failures + 1, lost_s + fails_s - now_s
            end_s = max(end_s, fails_s)
            if attempt < fleet.attempts:
                queue.append((fails_s, number, attempt + 1))
            else:
                given_up += 1
            heapq.heappush(free, (fails_s + fleet.start_s, worker))
            continue
        done, busy_s, end_s = done + 1, busy_s + stop_s - now_s, max(end_s, stop_s)
        heapq.heappush(free, (stop_s, worker))
    return Outcome(end_s, busy_s, lost_s, done, given_up, failures)


def _until_failure_s(fleet: Fleet, rng: np.random.Generator) -> float:
    """Draw the time until a worker fails, seconds."""
    return rng.exponential(3600 / fleet.failures_per_hour) if fleet.failures_per_hour else np.inf


def one_slice(fleet: Fleet, inputs: int, most: int) -> tuple[Fleet, int]:
    """Return an equal part of a fleet with at most about `most` inputs, and its number of inputs."""
    slices = max(1, min(fleet.workers, -(-inputs // most)))
    arrivals = None if fleet.arrivals_per_hour is None else fleet.arrivals_per_hour / slices
    part = replace(
        fleet,
        workers=max(1, round(fleet.workers / slices)),
        shards=max(1, round(fleet.shards / slices)),
        storage_bytes_s=fleet.storage_bytes_s / slices,
        arrivals_per_hour=arrivals,
    )
    return part, round(inputs * part.workers / fleet.workers)
