"""The quality of a face is its lowest grade, and the reason names the feature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.results.quality import (
    GRADINGS,
    MIN_QUALITY,
    NO_FACE_REASON,
    QUALITY_FEATURE_COLUMNS,
    REASONS,
    check_quality,
)

CLEAR = {
    "size": 60,
    "sharpness": 1.2,
    "brightness": 0.5,
    "contrast": 0.2,
    "yaw": -5,
    "pitch": 3,
    "covered": 0,
}


def quality_of(**changes: float) -> tuple[float, str]:
    """Return quality and reason of a clear face with some features changed."""
    quality_features = np.float32([list((CLEAR | changes).values())])
    quality, reason = check_quality(quality_features)
    return float(quality[0]), str(reason[0])


def test_a_clear_face_has_full_quality_and_no_reason() -> None:
    assert tuple(CLEAR) == QUALITY_FEATURE_COLUMNS
    assert quality_of() == (1.0, "")


@pytest.mark.parametrize("feature", QUALITY_FEATURE_COLUMNS)
def test_a_feature_is_a_reason_beyond_its_cut(feature: str) -> None:
    grading = GRADINGS[feature]
    towards_none = 1e-3 * (grading.none - grading.cut)
    assert quality_of(**{feature: grading.full}) == (1.0, "")
    assert quality_of(**{feature: grading.cut - towards_none})[1] == ""
    assert quality_of(**{feature: grading.cut + towards_none})[1] == grading.reason
    assert quality_of(**{feature: grading.cut})[0] == pytest.approx(MIN_QUALITY, abs=1e-5)
    quality, reason = quality_of(**{feature: grading.none})
    assert (quality, reason) == (pytest.approx(0, abs=1e-5), grading.reason)


def test_the_cuts_are_the_documented_ones() -> None:
    """Values on both sides of each cut of docs/quality.md."""
    for feature, good, bad, reason in (
        ("size", 7.1, 6.9, "small"),
        ("sharpness", 0.66, 0.64, "blur"),
        ("brightness", 0.041, 0.039, "dark"),
        ("contrast", 0.0171, 0.0169, "dark"),
        ("yaw", 39.0, 41.0, "profile"),
        ("pitch", 29.0, 31.0, "profile"),
        ("covered", 0.24, 0.26, "occluded"),
    ):
        assert (quality_of(**{feature: good})[1], quality_of(**{feature: bad})[1]) == ("", reason), feature


@given(st.sampled_from(QUALITY_FEATURE_COLUMNS), st.floats(0, 90, width=32), st.floats(0, 90, width=32))
def test_quality_never_rises_as_a_feature_gets_worse(feature: str, a: float, b: float) -> None:
    better_is_more = GRADINGS[feature].full > GRADINGS[feature].none
    worse, better = sorted((a, b), reverse=not better_is_more)
    assert quality_of(**{feature: worse})[0] <= quality_of(**{feature: better})[0]


def test_the_sign_of_yaw_and_pitch_does_not_matter() -> None:
    for feature in ("yaw", "pitch"):
        worse = 1.2 * GRADINGS[feature].cut
        assert quality_of(**{feature: worse}) == quality_of(**{feature: -worse})
        assert quality_of(**{feature: -worse})[1] == "profile"


def test_the_lowest_grade_gives_the_reason() -> None:
    assert quality_of(size=GRADINGS["size"].none, yaw=1.1 * GRADINGS["yaw"].cut)[1] == "small"
    assert quality_of(size=0.95 * GRADINGS["size"].cut, yaw=GRADINGS["yaw"].none)[1] == "profile"


def test_an_untrained_feature_is_never_a_reason() -> None:
    unknown_pose = dict.fromkeys(("yaw", "pitch", "covered"), np.nan)
    assert quality_of(**unknown_pose) == (1.0, "")
    assert quality_of(**unknown_pose, size=GRADINGS["size"].none) == (0.0, "small")


def test_a_row_without_any_feature_has_the_reason_no_face() -> None:
    quality, reason = check_quality(np.full((2, len(QUALITY_FEATURE_COLUMNS)), np.nan, np.float32))
    assert quality.tolist() == [0, 0]
    assert reason.tolist() == [NO_FACE_REASON] * 2
    assert check_quality(np.empty((0, len(QUALITY_FEATURE_COLUMNS)), np.float32))[1].shape == (0,)


def test_the_reasons_are_the_documented_ones() -> None:
    assert set(REASONS) == {"no_face", "small", "blur", "dark", "profile", "occluded"}
