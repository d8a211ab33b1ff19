"""A fleet of workers that does a collection of videos: a simulation, event by event.

    a worker that is free takes the next input of its shard that has arrived
    its file comes from one storage, which serves one byte after the other; reading and computing overlap
    a worker may fail, at a rate an hour: what it was at is begun again later, as `--resume` does
    an input may be a straggler, which takes a multiple of its time

All that is known of the work is in `Fleet` and in the seconds of each input.  Ten million hours are simulated
as shards are run: `one_slice` takes one of many like parts of a fleet, which share nothing.

In: a fleet, seconds a worker needs for each input.  Out: when all is done, and what the time went into.
Not here: where the seconds come from (scaling.py).
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Workers and what befalls them; times in seconds unless they say otherwise."""

    workers: int
    start_s: float = 0.0
    """To load the model, at first and after each failure."""
    shards: int = 1
    """Inputs are dealt to shards by a hash; worker w does those of shard w % shards."""
    failures_per_hour: float = 0.0
    """Of one worker at work."""
    attempts: int = 3
    """After so many failures an input is given up."""
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    """How many times longer a straggler takes."""
    arrivals_per_hour: float | None = None
    """Inputs that arrive; None: all are there at the beginning."""
    input_bytes: float = 0.0
    storage_bytes_s: float = np.inf
    """What the storage gives all workers together."""
    latency_s: float = 0.0
    """Until the first byte of an input, and for its results."""


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to."""

    end_s: float
    """When the last input was done or given up."""
    busy_s: float
    """Of all workers together: at inputs that came to their end."""
    lost_s: float
    """At what failed."""
    done: int
    given_up: int
    failures: int

    def paid_hours(self, workers: int) -> float:
        """Hours of all workers until the end, idle or not."""
        return workers * self.end_s / 3600


def simulate(fleet: Fleet, seconds: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Outcome:
    """Do inputs that take a worker so many seconds each, [inputs], in their order."""
    rng = np.random.default_rng(seed)
    slow = rng.random(len(seconds)) < fleet.straggler_share
    need_s = np.asarray(seconds, np.float64) * np.where(slow, fleet.straggler_factor, 1.0)
    gap_s = 0.0 if fleet.arrivals_per_hour is None else 3600 / fleet.arrivals_per_hour
    waiting: list[deque[tuple[float, int, int]]] = [deque() for _ in range(fleet.shards)]
    shard_of = (
        rng.integers(fleet.shards, size=len(need_s)) if fleet.shards > 1 else np.zeros(len(need_s), int)
    )
    for number, shard in enumerate(shard_of.tolist()):
        waiting[shard].append((number * gap_s, number, 1))  # arrives, which, attempt
    free = [(fleet.start_s, worker) for worker in range(fleet.workers)]
    heapq.heapify(free)
    storage_free_s = end_s = busy_s = lost_s = 0.0
    done = given_up = failures = 0
    while free:
        now_s, worker = heapq.heappop(free)
        queue = waiting[worker % fleet.shards]
        if not queue:
            continue  # it goes home; an input that fails later is the affair of those still at work
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
    return rng.exponential(3600 / fleet.failures_per_hour) if fleet.failures_per_hour else np.inf


def one_slice(fleet: Fleet, inputs: int, most: int) -> tuple[Fleet, int]:
    """A like part of a fleet and of its inputs, with at most about `most` inputs, and as many shards less."""
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
