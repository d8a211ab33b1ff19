"""Smoothing averages existing scores, and missing ones are interpolated linearly."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training.smoothing import (
    NO_SMOOTHING,
    Smoothing,
    fill_missing,
    final_scores,
    parse_windows,
    smooth,
)

Make = Callable[..., pd.DataFrame]
NAN = np.float32(np.nan)


def one_au(values: list[float]) -> NDArray[np.float32]:
    """[T, 1]"""
    return np.array(values, np.float32)[:, None]


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(2)),
        elements=st.floats(0, 1, width=32) | st.just(float("nan")),
    ),
    st.sampled_from([1, 3, 5, 11]),
    st.sampled_from(["mean", "median"]),
)
def test_smoothing_is_the_mean_or_median_of_the_frames_around_that_have_a_score(
    scores: NDArray[np.float32], window: int, kind: Literal["mean", "median"]
) -> None:
    smoothed = smooth(scores, (Smoothing(window, kind=kind), Smoothing()))
    statistic = np.mean if kind == "mean" else np.median
    np.testing.assert_array_equal(smoothed[:, 1], scores[:, 1])
    for t, value in enumerate(smoothed[:, 0]):
        around = scores[max(0, t - window // 2) : t + window // 2 + 1, 0]
        if np.isnan(scores[t, 0]):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(statistic(around[~np.isnan(around)].astype(np.float64)), abs=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_smoothing_does_not_change_a_constant(value: float) -> None:
    """Otherwise rounding of the sum could move a score that equals its threshold below it."""
    scores = one_au([value] * 1000)
    for kind in ("mean", "median"):
        np.testing.assert_array_equal(smooth(scores, (Smoothing(7, kind=kind),)), scores)


def test_a_gap_is_interpolated_linearly_and_the_ends_are_held() -> None:
    """The nearer frame has the larger weight; a public notebook had the weights swapped."""
    filled = fill_missing(one_au([NAN, 0.0, NAN, NAN, NAN, 0.8, NAN, NAN]))
    np.testing.assert_allclose(filled[:, 0], [0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8], atol=1e-6)


def test_an_au_without_any_score_stays_nan() -> None:
    filled = fill_missing(np.array([[NAN, 0.5], [NAN, NAN]], np.float32))
    np.testing.assert_array_equal(filled, np.array([[NAN, 0.5], [NAN, 0.5]], np.float32))


def test_rows_have_the_scores_of_their_own_track_and_frame(make_scores: Make) -> None:
    scores = make_scores({"a": 4, "a_left": 6})
    rows = scores[["track", "frame"]].sample(frac=1, random_state=0)
    final = final_scores(scores, rows)
    np.testing.assert_array_equal(final.probabilities, scores.loc[rows.index, list(AFFWILD2_AUS)].to_numpy())
    assert final.has_face.all()


def test_rows_beyond_the_scores_repeat_the_end_and_have_no_face(make_scores: Make) -> None:
    scores = make_scores({"a": 6}).iloc[2:4]  # frames 3 and 4
    final = final_scores(scores, pd.DataFrame({"track": "a", "frame": [1, 3, 4, 9]}))
    aus = scores[list(AFFWILD2_AUS)].to_numpy()
    np.testing.assert_array_equal(final.probabilities, aus[[0, 0, 1, 1]])
    assert final.has_face.tolist() == [False, True, True, False]


def test_a_frame_missing_from_the_table_is_a_gap_in_time(make_scores: Make) -> None:
    """Closing the gap would shift all later frames against the audio."""
    whole = make_scores({"a": 9})
    without = whole.drop(index=[3, 4])
    holes = whole.copy()
    holes.loc[[3, 4], list(AFFWILD2_AUS)] = np.nan
    rows = whole[["track", "frame"]]
    windows = (Smoothing(3),) * 12
    one, other = (final_scores(scores, rows, windows).probabilities for scores in (without, holes))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one[3], (2 * one[2] + one[5]) / 3, rtol=1e-5)


def test_smoothing_does_not_cross_tracks(make_scores: Make) -> None:
    scores = make_scores({"a": 3, "b": 3})
    scores.loc[scores["track"] == "a", list(AFFWILD2_AUS)] = 0.0
    scores.loc[scores["track"] == "b", list(AFFWILD2_AUS)] = 1.0
    final = final_scores(scores, scores, (Smoothing(11),) * 12)
    assert final.probabilities[:3].max() == 0
    assert final.probabilities[3:].min() == 1


def test_a_track_without_scores_is_named(make_scores: Make) -> None:
    with pytest.raises(InputError, match=r"lack 1 of 2 tracks: b\."):
        final_scores(make_scores({"a": 2}), make_scores({"a": 2, "b": 2}))


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("7", ["7"] * 12),
        ("AU23=3", ["1"] * 8 + ["3"] + ["1"] * 3),
        ("7,AU1=1,au_26=15", ["1", *["7"] * 10, "15"]),
        ("0.5s,AU01=median:7,AU26=median:1.5s", ["median:7", *["0.5s"] * 10, "median:1.5s"]),
        ("mean:0.25s", ["0.25s"] * 12),
    ],
)
def test_windows_are_parsed_for_all_aus_and_for_single_ones(text: str, windows: list[str]) -> None:
    assert [str(window) for window in parse_windows(text, AFFWILD2_AUS)] == windows


@pytest.mark.parametrize(
    ("text", "rate_hz", "frames"),
    [("0.5s", 30, 15), ("0.5s", 10, 5), ("1s", 7.5, 7), ("0.1s", 10, 1), ("0.01s", 30, 1), ("9", 30, 9)],
)
def test_seconds_become_an_odd_number_of_frames_at_the_rate_of_the_track(
    text: str, rate_hz: float, frames: int
) -> None:
    assert Smoothing.parse(text).frames(rate_hz) == frames


def test_each_track_has_the_window_of_its_own_frame_rate(make_scores: Make) -> None:
    """0.3 s are 3 frames at 10 Hz and 9 at 30 Hz."""
    scores = make_scores({"a": 40, "b": 40})
    rate_hz = np.where(scores["track"] == "a", 10, 30)
    scores["time_s"] = scores["frame"] / rate_hz
    final = final_scores(scores, scores, (Smoothing(0.3, "s"),) * 12).probabilities
    for track, frames in (("a", 3), ("b", 9)):
        rows = (scores["track"] == track).to_numpy()
        alone = scores[rows].drop(columns="time_s")
        expected = final_scores(alone, alone, (Smoothing(frames),) * 12).probabilities
        np.testing.assert_array_equal(final[rows], expected)


@pytest.mark.parametrize("lacking", [None, np.nan])
def test_seconds_need_the_times_of_the_scores(make_scores: Make, lacking: float | None) -> None:
    scores = make_scores({"a": 4})
    if lacking is not None:
        scores["time_s"] = lacking
    with pytest.raises(InputError, match="column time_s of the scores is absent or incomplete"):
        final_scores(scores, scores, (Smoothing(0.3, "s"),) * 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4", "odd number"),
        ("0", "odd number"),
        ("seven", "not a smoothing"),
        ("", "not a smoothing"),
        ("7,9", "not a smoothing"),
        ("-3", "not a smoothing"),
        ("AU05=3", "AU05"),
        ("0s", "above 0 s"),
        ("max:3", "not a smoothing"),
        ("1.5", "odd number"),
    ],
)
def test_invalid_windows_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_windows(text, AFFWILD2_AUS)


def test_without_smoothing_every_window_is_one_frame() -> None:
    assert parse_windows("1", ("AU45", "AU01")) == (NO_SMOOTHING,) * 2


def test_windows_are_those_of_the_given_aus_in_their_order() -> None:
    assert [str(each) for each in parse_windows("7,AU45=3", ("AU45", "AU01"))] == ["3", "7"]
    with pytest.raises(InputError, match="smooths AU02, which is not one of AU45, AU01"):
        parse_windows("AU02=3", ("AU45", "AU01"))
