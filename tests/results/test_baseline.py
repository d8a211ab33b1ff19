"""The baseline of each face is subtracted, can be undone, and is never guessed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.events import (
    MIN_BASELINE_FRAMES,
    NEUTRAL,
    Baseline,
    neutral_point,
    parse_baseline,
    resting_level,
    subtract_baseline,
)
from auscan.results.result import Result
from auscan.results.table import TrackScores, active_columns, baseline_columns, table_columns

MakeTrack = Callable[..., TrackScores]
MakeResult = Callable[..., Result]
TENTH = np.array([NEUTRAL])
AU12, AU23 = AFFWILD2_AUS.index("AU12"), AFFWILD2_AUS.index("AU23")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", None), ("median", Baseline()), ("2-5", Baseline(2, 5)), ("0.5-12.25", Baseline(0.5, 12.25))],
)
def test_a_baseline_is_none_median_or_two_times(text: str, expected: Baseline | None) -> None:
    assert parse_baseline(text) == expected


@pytest.mark.parametrize("text", ["", "mean", "5-2", "2-2", "2", "-1-3", "2-5s", "a-b", "1e3-2e3"])
def test_an_invalid_baseline_is_refused_and_the_message_lists_valid_ones(text: str) -> None:
    with pytest.raises(InputError, match="none, median, or two times"):
        parse_baseline(text)


probability = st.floats(2**-10, 1 - 2**-10, width=32)


@given(st.lists(probability, min_size=1, max_size=20), probability)
def test_values_equal_the_formula_in_logits(values: list[float], level: float) -> None:
    p = np.array(values, np.float32)[:, None]
    shift = max(0.0, logit(level) - logit(NEUTRAL))
    assert subtract_baseline(p, np.array([level]), TENTH) == pytest.approx(
        expit(logit(p.astype(float)) - shift), abs=1e-6
    )


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20), st.floats(0, 1))
def test_the_order_is_kept_and_values_do_not_rise_and_stay_in_0_to_1(
    values: list[float], level: float
) -> None:
    p = np.sort(np.array(values, np.float32))[:, None]
    shifted = subtract_baseline(p, np.array([level]), TENTH)
    assert (np.diff(shifted[:, 0]) >= 0).all()
    assert ((shifted >= 0) & (shifted <= p)).all()


def test_the_level_becomes_neutral_and_a_level_below_neutral_changes_nothing() -> None:
    p = np.float32([[0.02, 0.5, 0.9]]).T
    assert subtract_baseline(p, np.array([0.5]), TENTH)[1, 0] == pytest.approx(NEUTRAL)
    np.testing.assert_array_equal(subtract_baseline(p, np.array([0.02]), TENTH), p)


def test_a_face_at_rest_is_inactive_even_for_low_thresholds(smiler: Result) -> None:
    assert neutral_point([0.5, 0.2, 0.08]) == pytest.approx([0.1, 0.1, 0.04])
    low = replace(smiler, info=replace(smiler.info, thresholds=(0.07,) * 12))
    above = low.with_baseline("median")
    assert column(above, "AU12_b")[0] == pytest.approx(0.035)
    assert column(above, "AU12_c")[0] == 0
    assert above.summary()["neutral"]["AU12"] == pytest.approx(0.035)


def test_the_level_is_the_median_of_scored_frames_within_the_times() -> None:
    times_s = np.arange(100) / 25
    p = np.full((100, 12), 0.9, np.float32)
    p[25:75] = 0.2
    p[30:40] = 0.8  # not scored
    scored = np.ones(100, bool)
    scored[30:40] = False
    assert resting_level(p, times_s, scored, Baseline(1, 3)) == pytest.approx(np.full(12, 0.2))
    assert resting_level(p, times_s, scored, Baseline())[0] == pytest.approx(0.9)


def test_too_few_frames_give_no_level() -> None:
    count = MIN_BASELINE_FRAMES + 5
    p, times_s, scored = np.full((count, 12), 0.3, np.float32), np.arange(count) / 25, np.ones(count, bool)
    assert not np.isnan(resting_level(p, times_s, scored, Baseline())).any()
    assert np.isnan(resting_level(p, times_s, scored, Baseline(0.3, 9))).all()
    scored[:6] = False
    assert np.isnan(resting_level(p, times_s, scored, Baseline())).all()


@pytest.fixture
def smiler(make_track: MakeTrack, make_result: MakeResult) -> Result:
    """Face 0 in 60 frames: AU12 is 0.4 at rest and 0.95 from frame 40 on. Face 1 in ten frames."""
    p = np.full((60, 12), 0.05, np.float32)
    p[:, AU12], p[:, AU23] = 0.4, np.nan
    p[40:, AU12] = 0.95
    face = replace(make_track(0, list(range(60))), probabilities=p)
    return make_result((np.arange(60) / 25).tolist(), [face, make_track(1, list(range(20, 30)))])


def column(result: Result, name: str, face_id: int = 0) -> NDArray[np.float64]:
    """Return a column of one face."""
    table = result.table
    return table.loc[table["face_id"] == face_id, name].to_numpy(float)


def test_both_values_are_kept_and_labels_follow_the_one_above_the_baseline(smiler: Result) -> None:
    smiler = replace(smiler, info=replace(smiler.info, thresholds=(0.35,) * 12))
    plain, above = smiler.with_baseline("none"), smiler.with_baseline("median")
    assert tuple(above.table.columns) == (*table_columns(AFFWILD2_AUS), *baseline_columns(AFFWILD2_AUS))
    pd.testing.assert_frame_equal(above.table[list(AFFWILD2_AUS)], smiler.table[list(AFFWILD2_AUS)])
    assert set(column(plain, "AU12_c")) == {1}
    assert column(above, "AU12_b")[0] == pytest.approx(NEUTRAL)
    assert column(above, "AU12_c").tolist() == [0] * 40 + [1] * 20
    assert above.events.query("AU == 'AU12'")["onset_frame"].tolist() == [40]
    assert above.table["AU23_b"].isna().all()


def test_a_face_too_short_for_a_baseline_is_not_scored(smiler: Result) -> None:
    above = smiler.with_baseline("median")
    theirs = above.table[above.table["face_id"] == 1]
    assert theirs[[*baseline_columns(AFFWILD2_AUS), *active_columns(AFFWILD2_AUS)]].isna().all(axis=None)
    assert set(above.events["face_id"]) <= {0}
    faces = above.summary()["per_face"]
    assert faces[0]["baseline"]["AU12"] == pytest.approx(0.4)
    assert (faces[1]["baseline"], faces[1]["judged"]) == (None, 0)


def test_a_baseline_can_be_changed_and_undone(smiler: Result) -> None:
    there = smiler.with_baseline("median").with_baseline("1.7-2.4")
    pd.testing.assert_frame_equal(there.table, smiler.with_baseline("1.7-2.4").table)
    back = there.with_baseline("none")
    pd.testing.assert_frame_equal(back.table, smiler.table)
    assert back.info == smiler.info


def test_a_video_without_faces_has_no_baseline(make_result: MakeResult) -> None:
    above = make_result([0.0, 0.04], []).with_baseline("median")
    assert above.table[baseline_columns(AFFWILD2_AUS)].isna().all(axis=None)
    assert above.summary()["per_face"] == []
