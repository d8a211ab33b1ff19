"""Let several networks vote: the mean of their probabilities, over folds and seeds.

In: tables of scores (scores.py) of the very same frames.  Out: one such table.
Not here: putting the folds' out-of-fold scores one after the other, which is no mean of anything.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.training.scores import check_scores


def mean_scores(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """The mean of the tables' probabilities, frame by frame and AU by AU, of those tables that have one.

    A frame has a face if it has one in any table. names: what to call the tables in a message.
    Raises InputError where there is no table, or where two do not cover the same frames of the same tracks.
    """
    if not tables:
        raise InputError("There are no scores to take the mean of.")
    checked = [check_scores(table, name) for table, name in zip(tables, names, strict=True)]
    first = checked[0]
    for table, name in zip(checked[1:], names[1:], strict=True):
        _check_same_frames(first, table, names[0], name)
    total = np.zeros((len(first), len(AU_NAMES)))
    number = np.zeros_like(total)
    for table in checked:
        values = table[list(AU_NAMES)].to_numpy(np.float64)
        total += np.nan_to_num(values, nan=0.0)
        number += ~np.isnan(values)
    mean = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    result = first.copy()
    result[list(AU_NAMES)] = mean.astype(np.float32)
    result["has_face"] = np.logical_or.reduce([table["has_face"].to_numpy() for table in checked])
    return result


def _check_same_frames(one: pd.DataFrame, other: pd.DataFrame, name: str, other_name: str) -> None:
    """Both are sorted by track and frame. Raises InputError with the first track that differs."""
    frames, other_frames = (table.groupby("track")["frame"].agg(list) for table in (one, other))
    for track in sorted(set(frames.index) | set(other_frames.index)):
        rows, other_rows = frames.get(track, []), other_frames.get(track, [])
        if rows != other_rows:
            raise InputError(
                f"{name} has {len(rows)} frames of track {track}, {other_name} has {len(other_rows)}, not "
                "the same ones. An ensemble needs the same tracks and frames from every network."
            )
