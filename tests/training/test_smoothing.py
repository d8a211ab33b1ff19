"""Smoothing averages existing scores, and missing ones are interpolated linearly."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.training.smoothing import NO_SMOOTHING, fill_missing, final_scores, parse_windows, smooth

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
)
def test_the_moving_average_is_the_mean_of_the_frames_around_that_have_a_score(
    scores: NDArray[np.float32], window: int
) -> None:
    smoothed = smooth(scores, (window, 1))
    np.testing.assert_array_equal(smoothed[:, 1], scores[:, 1])
    for t, value in enumerate(smoothed[:, 0]):
        around = scores[max(0, t - window // 2) : t + window // 2 + 1, 0]
        if np.isnan(scores[t, 0]):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(around[~np.isnan(around)].mean(dtype=np.float64), abs=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_smoothing_does_not_change_a_constant(value: float) -> None:
    """Otherwise rounding of the sum could move a score that equals its threshold below it."""
    scores = one_au([value] * 1000)
    np.testing.assert_array_equal(smooth(scores, (7,)), scores)


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
    np.testing.assert_array_equal(final.probabilities, scores.loc[rows.index, list(AU_NAMES)].to_numpy())
    assert final.has_face.all()


def test_rows_beyond_the_scores_repeat_the_end_and_have_no_face(make_scores: Make) -> None:
    scores = make_scores({"a": 6}).iloc[2:4]  # frames 3 and 4
    final = final_scores(scores, pd.DataFrame({"track": "a", "frame": [1, 3, 4, 9]}))
    aus = scores[list(AU_NAMES)].to_numpy()
    np.testing.assert_array_equal(final.probabilities, aus[[0, 0, 1, 1]])
    assert final.has_face.tolist() == [False, True, True, False]


def test_a_frame_missing_from_the_table_is_a_gap_in_time(make_scores: Make) -> None:
    """Closing the gap would shift all later frames against the audio."""
    whole = make_scores({"a": 9})
    without = whole.drop(index=[3, 4])
    holes = whole.copy()
    holes.loc[[3, 4], list(AU_NAMES)] = np.nan
    rows = whole[["track", "frame"]]
    one, other = (final_scores(scores, rows, (3,) * 12).probabilities for scores in (without, holes))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one[3], (2 * one[2] + one[5]) / 3, rtol=1e-5)


def test_smoothing_does_not_cross_tracks(make_scores: Make) -> None:
    scores = make_scores({"a": 3, "b": 3})
    scores.loc[scores["track"] == "a", list(AU_NAMES)] = 0.0
    scores.loc[scores["track"] == "b", list(AU_NAMES)] = 1.0
    final = final_scores(scores, scores, (11,) * 12)
    assert final.probabilities[:3].max() == 0
    assert final.probabilities[3:].min() == 1


def test_a_track_without_scores_is_named(make_scores: Make) -> None:
    with pytest.raises(InputError, match=r"lack 1 of 2 tracks: b\."):
        final_scores(make_scores({"a": 2}), make_scores({"a": 2, "b": 2}))


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("7", (7,) * 12),
        ("AU23=3", (1,) * 8 + (3,) + (1,) * 3),
        ("7,AU1=1,au_26=15", (1, *(7,) * 10, 15)),
    ],
)
def test_windows_are_parsed_for_all_aus_and_for_single_ones(text: str, windows: tuple[int, ...]) -> None:
    assert parse_windows(text) == windows


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
    ],
)
def test_invalid_windows_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_windows(text)


def test_without_smoothing_every_window_is_one_frame() -> None:
    assert parse_windows("1") == NO_SMOOTHING
