"""A face is as good as its worst part, and the reason names that part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.results.quality import GRADINGS, LEAST, NO_FACE_REASON, PART_COLUMNS, REASONS, judge

CLEAR = {
    "size": 60,
    "sharpness": 1.2,
    "brightness": 0.5,
    "contrast": 0.2,
    "yaw": -5,
    "pitch": 3,
    "covered": 0,
}


def judged(**changes: float) -> tuple[float, str]:
    parts = np.float32([list((CLEAR | changes).values())])
    quality, reason = judge(parts)
    return float(quality[0]), str(reason[0])


def test_a_clear_face_has_full_quality_and_no_reason() -> None:
    assert tuple(CLEAR) == PART_COLUMNS
    assert judged() == (1.0, "")


@pytest.mark.parametrize("part", PART_COLUMNS)
def test_a_part_counts_from_its_cut_on(part: str) -> None:
    grading = GRADINGS[part]
    towards_none = 1e-3 * (grading.none - grading.cut)
    assert judged(**{part: grading.full}) == (1.0, "")
    assert judged(**{part: grading.cut - towards_none})[1] == ""
    assert judged(**{part: grading.cut + towards_none})[1] == grading.reason
    assert judged(**{part: grading.cut})[0] == pytest.approx(LEAST, abs=1e-5)
    quality, reason = judged(**{part: grading.none})
    assert (quality, reason) == (pytest.approx(0, abs=1e-5), grading.reason)


@given(st.sampled_from(PART_COLUMNS), st.floats(0, 90, width=32), st.floats(0, 90, width=32))
def test_quality_never_rises_as_a_part_gets_worse(part: str, a: float, b: float) -> None:
    better_is_more = GRADINGS[part].full > GRADINGS[part].none
    worse, better = sorted((a, b), reverse=not better_is_more)
    assert judged(**{part: worse})[0] <= judged(**{part: better})[0]


def test_turned_left_is_turned_right_and_up_is_down() -> None:
    for part in ("yaw", "pitch"):
        worse = 1.2 * GRADINGS[part].cut
        assert judged(**{part: worse}) == judged(**{part: -worse})
        assert judged(**{part: -worse})[1] == "profile"


def test_the_worst_part_gives_the_reason() -> None:
    assert judged(size=GRADINGS["size"].none, yaw=1.1 * GRADINGS["yaw"].cut)[1] == "small"
    assert judged(size=0.95 * GRADINGS["size"].cut, yaw=GRADINGS["yaw"].none)[1] == "profile"


def test_what_was_not_taught_is_never_a_reason() -> None:
    untold = dict.fromkeys(("yaw", "pitch", "covered"), np.nan)
    assert judged(**untold) == (1.0, "")
    assert judged(**untold, size=GRADINGS["size"].none) == (0.0, "small")


def test_nothing_known_is_no_face() -> None:
    quality, reason = judge(np.full((2, len(PART_COLUMNS)), np.nan, np.float32))
    assert quality.tolist() == [0, 0]
    assert reason.tolist() == [NO_FACE_REASON] * 2
    assert judge(np.empty((0, len(PART_COLUMNS)), np.float32))[1].shape == (0,)


def test_the_reasons_are_the_promised_ones() -> None:
    assert set(REASONS) == {"no_face", "small", "blur", "dark", "profile", "occluded"}
