"""Networks vote with equal weight, on the same frames or not at all."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.training.ensemble import mean_scores

Make = Callable[..., pd.DataFrame]


def test_the_mean_is_that_of_each_frame_and_au_whatever_the_order_of_rows(make_scores: Make) -> None:
    tables = [make_scores({"a": 4, "b": 3}, seed=seed) for seed in range(3)]
    expected = np.mean([table[list(AU_NAMES)] for table in tables], axis=0)
    mean = mean_scores([tables[0], tables[1].iloc[::-1], tables[2]], ["x", "y", "z"])
    np.testing.assert_allclose(mean[list(AU_NAMES)].to_numpy(), expected, rtol=1e-6)
    assert mean["frame"].tolist() == [1, 2, 3, 4, 1, 2, 3]


def test_a_network_without_a_score_has_no_vote(make_scores: Make) -> None:
    one, other = make_scores({"a": 3}, seed=0), make_scores({"a": 3}, seed=1)
    one.loc[1, list(AU_NAMES)], one.loc[1, "has_face"] = np.nan, False
    for table in (one, other):
        table.loc[2, list(AU_NAMES)], table.loc[2, "has_face"] = np.nan, False
    mean = mean_scores([one, other], ["x", "y"])
    np.testing.assert_array_equal(mean.loc[1, list(AU_NAMES)], other.loc[1, list(AU_NAMES)])
    assert mean.loc[2, list(AU_NAMES)].isna().all()
    assert mean["has_face"].tolist() == [True, True, False]


@pytest.mark.parametrize("tracks", [{"a": 4}, {"a": 4, "b": 2}, {"a": 4, "c": 3}, {"a": 4, "b": 3, "c": 1}])
def test_other_tracks_or_frames_are_refused(make_scores: Make, tracks: dict[str, int]) -> None:
    with pytest.raises(InputError, match="same tracks and frames"):
        mean_scores([make_scores({"a": 4, "b": 3}), make_scores(tracks)], ["x", "y"])


def test_nothing_has_no_mean() -> None:
    with pytest.raises(InputError, match="no scores"):
        mean_scores([], [])
