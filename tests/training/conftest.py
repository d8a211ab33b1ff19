"""Small tables of scores and labels."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES


def _scores(tracks: dict[str, int], seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
    """Random scores of each track from frame 1 on; a share of the frames has none."""
    random = np.random.default_rng(seed)
    rows = sum(tracks.values())
    values = random.random((rows, 12)).astype(np.float32)
    has_face = random.random(rows) >= missing
    values[~has_face] = np.nan
    table = pd.DataFrame(values, columns=list(AU_NAMES))
    table.insert(0, "track", np.repeat(list(tracks), list(tracks.values())))
    table.insert(1, "frame", np.concatenate([np.arange(1, count + 1) for count in tracks.values()]))
    table.insert(2, "has_face", has_face)
    return table


@pytest.fixture
def make_scores() -> Callable[..., pd.DataFrame]:
    """make_scores({track: frames}, seed, missing) -> a table of scores."""
    return _scores


@pytest.fixture
def make_labels() -> Callable[..., pd.DataFrame]:
    """make_labels(rows, labels [R, 12], source) -> the rows of an index for `rows` (track, frame)."""

    def make(rows: pd.DataFrame, labels: NDArray[np.int8], source: list[str] | None = None) -> pd.DataFrame:
        table = pd.DataFrame(labels, columns=list(AU_NAMES))
        table.insert(0, "track", rows["track"].to_numpy())
        table.insert(1, "split", "val")
        table.insert(2, "source_video", rows["track"].to_numpy() if source is None else source)
        table.insert(3, "frame", rows["frame"].to_numpy())
        return table

    return make
