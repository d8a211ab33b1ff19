"""Test the plan of a synthetic data set: names, splits, cases, frame rates and times."""

from dataclasses import replace

import numpy as np
import pytest

from auscan.core.errors import InputError
from auscan.datasets.synth.plan import CASES, VideoPlan, plan_videos, sample_frame_times
from auscan.datasets.track_lists import named_rate_hz, source_video, video_name


def times(plan: VideoPlan) -> np.ndarray:
    return sample_frame_times(np.random.default_rng(0), plan)


@pytest.fixture(scope="module")
def plans() -> list[VideoPlan]:
    return plan_videos(12, seconds=10, seed=0)


def test_equal_arguments_result_in_equal_plans_and_another_seed_in_another_plan() -> None:
    assert plan_videos(7, 10, 1) == plan_videos(7, 10, 1)
    assert plan_videos(7, 10, 1) != plan_videos(7, 10, 2)


def test_more_videos_only_add_to_fewer() -> None:
    assert plan_videos(30, 10, 0)[:8] == plan_videos(8, 10, 0)


@pytest.mark.parametrize("seed", range(5))
def test_twelve_videos_hold_every_case_and_all_splits(seed: int) -> None:
    plans = plan_videos(12, 10, seed)
    assert {id(plan.case) for plan in plans} == {id(case) for case in CASES}
    assert {plan.split for plan in plans} == {"train", "val", "test"}


@pytest.mark.parametrize("seed", range(5))
def test_four_videos_are_enough_for_training_and_validation(seed: int) -> None:
    assert {"train", "val"} <= {plan.split for plan in plan_videos(4, 10, seed)}


def test_names_are_unique_and_the_reader_finds_their_sources(plans: list[VideoPlan]) -> None:
    tracks = [track for plan in plans for track in plan.tracks]
    assert len(set(tracks)) == len(tracks) == 14
    for plan in plans:
        assert {video_name(track) for track in plan.tracks} == {plan.name}
    sources = {source_video(plan.name) for plan in plans}
    assert len(sources) == len(CASES)
    for source in sources:
        same = [plan for plan in plans if source_video(plan.name) == source]
        assert len({plan.split for plan in same}) == 1
        assert len({plan.person_seed for plan in same}) == 1
        assert len({plan.seed for plan in same}) == len(same)


def test_some_names_state_a_rate_that_the_file_does_not_have() -> None:
    named_rates = [(named_rate_hz(p.name), p.rate_hz) for seed in range(4) for p in plan_videos(12, 10, seed)]
    assert any(named and abs(named - rate) > 5 for named, rate in named_rates)


def test_even_variable_and_late_times_match_their_case(plans: list[VideoPlan]) -> None:
    for plan in plans:
        steps = np.diff(times(plan))
        assert steps.min() > 0
        uneven = steps.max() > 1.5 * np.median(steps)
        assert uneven == (plan.case.timing == "variable")
        assert (times(plan)[0] > 0) == (plan.case.timing == "late")


def test_a_given_rate_changes_nothing_else() -> None:
    slow, free = plan_videos(12, 10, 0, rate_hz=10.0), plan_videos(12, 10, 0)
    assert {plan.rate_hz for plan in slow} == {10.0}
    assert [replace(plan, rate_hz=0, name="", tracks=()) for plan in slow] == [
        replace(plan, rate_hz=0, name="", tracks=()) for plan in free
    ]
    with pytest.raises(InputError, match="--rate is 3"):
        plan_videos(12, 10, 0, rate_hz=3.0)


@pytest.mark.parametrize(("videos", "seconds"), [(0, 10.0), (3, 0.5)])
def test_too_few_videos_or_seconds_are_refused(videos: int, seconds: float) -> None:
    with pytest.raises(InputError, match="at least"):
        plan_videos(videos, seconds, 0)
