"""Compare the simulation of a fleet with results derived by hand."""

import numpy as np
import pytest

from benchmarks.speed.fleet import Fleet, one_slice, simulate


def test_one_worker_takes_the_sum_of_all_inputs() -> None:
    outcome = simulate(Fleet(workers=1, start_s=3), [1.0, 2.0, 4.5])
    assert (outcome.end_s, outcome.busy_s, outcome.done) == (10.5, 7.5, 3)


def test_workers_share_equal_inputs_and_the_last_round_may_be_partial() -> None:
    assert simulate(Fleet(workers=4), [2.0] * 40).end_s == 20
    assert simulate(Fleet(workers=4), [2.0] * 41).end_s == 22
    assert simulate(Fleet(workers=100), [2.0] * 40).end_s == 2


def test_a_long_input_at_the_end_delays_the_run() -> None:
    assert simulate(Fleet(workers=2), [1.0, 1.0, 10.0]).end_s == 11
    assert simulate(Fleet(workers=2), [10.0, 1.0, 1.0]).end_s == 10


def test_failures_cost_the_expected_retries() -> None:
    """On average an input takes (e^{rt} - 1) / r seconds and e^{rt} - 1 failures until it is processed."""
    t_s, rate = 1800.0, 1.0
    outcome = simulate(Fleet(workers=1, failures_per_hour=rate, attempts=1000), [t_s] * 40_000)
    odds = np.exp(rate * t_s / 3600) - 1
    assert outcome.failures / 40_000 == pytest.approx(odds, rel=0.03)
    assert outcome.end_s / 40_000 == pytest.approx(odds / rate * 3600, rel=0.03)
    assert outcome.busy_s + outcome.lost_s == pytest.approx(outcome.end_s)


def test_an_input_that_fails_too_often_is_given_up() -> None:
    t_s, inputs = 3600.0, 4000
    outcome = simulate(Fleet(workers=8, failures_per_hour=1, attempts=2), [t_s] * inputs)
    assert outcome.given_up / inputs == pytest.approx((1 - np.exp(-1)) ** 2, rel=0.05)
    assert outcome.done + outcome.given_up == inputs


def test_stragglers_lengthen_the_run_by_their_share_and_factor() -> None:
    outcome = simulate(Fleet(workers=1, straggler_share=0.1, straggler_factor=6), [1.0] * 10_000)
    assert outcome.end_s == pytest.approx(15_000, rel=0.03)


def test_a_slow_storage_limits_the_throughput() -> None:
    fleet = Fleet(workers=10, input_bytes=1e9, storage_bytes_s=1e8)
    assert simulate(fleet, [50.0] * 100).end_s == pytest.approx(1000)
    assert simulate(fleet, [500.0] * 100).end_s == pytest.approx(5000, rel=0.05)


def test_an_input_starts_only_after_its_arrival() -> None:
    assert simulate(Fleet(workers=5, arrivals_per_hour=3600), [0.5] * 100).end_s == 99.5


def test_a_run_in_shards_ends_with_its_largest_shard() -> None:
    together = simulate(Fleet(workers=10), [1.0] * 1000).end_s
    apart = simulate(Fleet(workers=10, shards=10), [1.0] * 1000).end_s
    assert together == 100
    assert 105 < apart < 140


def test_a_slice_takes_as_long_as_the_whole() -> None:
    fleet = Fleet(workers=400, shards=40, failures_per_hour=0.5, input_bytes=1e8, storage_bytes_s=1e9)
    part, inputs = one_slice(fleet, 40_000, most=4000)
    assert (part.workers, part.shards, inputs) == (40, 4, 4000)
    whole_s, part_s = simulate(fleet, [60.0] * 40_000).end_s, simulate(part, [60.0] * inputs).end_s
    assert part_s == pytest.approx(whole_s, rel=0.1)
