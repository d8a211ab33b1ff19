"""Train one network a fold, so that every labelled track is scored by a network that never saw its video.

Why: thresholds that are tuned on such scores are not tuned on what the network knows by heart, and the
networks of all folds together are an ensemble.

In: a `TrainConfig`.  Out: a run a fold, their out-of-fold scores in one Parquet, and for each further split
the mean of the folds' scores.
Not here: one run (loop.py), thresholds (thresholds.py).

Let several networks vote: the mean of their probabilities, over folds and seeds.

In: tables of scores (scores.py) of the very same frames.  Out: one such table.
Not here: putting the folds' out-of-fold scores one after the other, which is no mean of anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.training.config import FoldConfig, TrainConfig
from auscan.training.loop import train
from auscan.training.scores import check_scores, read_scores, write_scores

OUT_OF_FOLD: Final = "oof"
"""Name of the scores of all labelled tracks."""


@dataclass(frozen=True)
class CrossValidationResult:
    """What the folds came to."""

    best: tuple[float, ...]
    """Mean F1 at 0.5 of each fold's best network on the tracks held out; NaN without labels."""
    scores: dict[str, Path] = field(default_factory=dict)
    """Parquets of scores: `oof`, and the means over the folds."""


def cross_validate(
    config: TrainConfig, count: int, seed: int = 0, report: Callable[[str], None] | None = None
) -> CrossValidationResult:
    """Train `count` folds one after the other in folders fold0, fold1, ... of the run's folder.

    Folds that are finished are not done again, one that was stopped goes on.  Each fold chooses its best
    epoch by the tracks it holds out, so their score flatters a little.
    """
    folds = [train(fold_config(config, number, count, seed), report) for number in range(count)]
    result = CrossValidationResult(tuple(fold.best for fold in folds))
    if all(fold.scores for fold in folds):  # of several processes one writes
        out_of_fold = [read_scores(fold.scores["val"]) for fold in folds]
        result.scores[OUT_OF_FOLD] = config.out / "scores" / f"{OUT_OF_FOLD}.parquet"
        write_scores(result.scores[OUT_OF_FOLD], pd.concat(out_of_fold, ignore_index=True))
        for split in config.data.score:
            paths = [fold.scores[split] for fold in folds]
            result.scores[split] = config.out / "scores" / f"{split}.parquet"
            write_scores(
                result.scores[split], mean_scores([read_scores(p) for p in paths], list(map(str, paths)))
            )
    return result


def fold_config(config: TrainConfig, number: int, count: int, seed: int) -> TrainConfig:
    """The settings of one fold: its own folder, and its part of the tracks held out."""
    fold = FoldConfig(count=count, held_out=number, seed=seed)
    data = config.data.model_copy(update={"folds": fold})
    return config.model_copy(update={"out": config.out / f"fold{number}", "data": data})


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


def _check_same_frames(first: pd.DataFrame, other: pd.DataFrame, name: str, other_name: str) -> None:
    """Both are sorted by track and frame. Raises InputError with the first track that differs."""
    frames, other_frames = (table.groupby("track")["frame"].agg(list) for table in (first, other))
    for track in sorted(set(frames.index) | set(other_frames.index)):
        rows, other_rows = frames.get(track, []), other_frames.get(track, [])
        if rows != other_rows:
            raise InputError(
                f"{name} has {len(rows)} frames of track {track}, {other_name} has {len(other_rows)}, not "
                "the same ones. An ensemble needs the same tracks and frames from every network."
            )
