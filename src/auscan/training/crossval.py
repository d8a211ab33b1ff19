"""Run k-fold cross-validation and average the scores of several networks.

Every labelled track is scored by a network that was not trained on its video. Thresholds tuned on these
out-of-fold scores are not tuned on training data. The networks of all folds together are an ensemble.

Inputs: a `TrainConfig`; tables of scores (scores.py) of the same frames.
Returns: one run per fold, their out-of-fold scores in one Parquet file, and for each further split the mean
of the folds' scores.
See also: loop.py (one run), thresholds.py (thresholds).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from auscan.core.aus import au_columns
from auscan.core.errors import InputError
from auscan.results.table import intensity_columns
from auscan.training.config import FoldConfig, TrainConfig
from auscan.training.loop import train
from auscan.training.scores import TIME_COLUMN, check_scores, read_scores, write_scores

OUT_OF_FOLD: Final = "oof"
"""Name of the out-of-fold scores of all labelled tracks."""


@dataclass(frozen=True)
class CrossValidationResult:
    """Scores of a cross-validation."""

    best: tuple[float, ...]
    """Mean F1 of each fold's best network on the tracks held out (`TrainingResult.best`)."""
    scores: dict[str, Path] = field(default_factory=dict)
    """Parquet files of scores: `oof`, and the means over the folds."""


def cross_validate(
    config: TrainConfig, count: int, seed: int = 0, report: Callable[[str], None] | None = None
) -> CrossValidationResult:
    """Train `count` folds one after the other in the folders fold0, fold1, ... of the run's folder.

    Finished folds are not trained again; an interrupted fold resumes. Each fold chooses its best epoch by the
    tracks it holds out, so their score is slightly optimistic.
    """
    folds = [train(fold_config(config, number, count, seed), report) for number in range(count)]
    result = CrossValidationResult(tuple(fold.best for fold in folds))
    if all(fold.scores for fold in folds):  # of several processes only the main one has scores
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
    """Return the settings of one fold: its own folder, and its held-out tracks."""
    fold = FoldConfig(count=count, held_out=number, seed=seed)
    data = config.data.model_copy(update={"folds": fold})
    return config.model_copy(update={"out": config.out / f"fold{number}", "data": data})


def mean_scores(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Average probabilities over tables, frame by frame and AU by AU. NaN values are left out of the mean.

    A frame has a face if it has one in any table. names: names of the tables, for messages.
    Raises InputError if there is no table, or if two tables do not have the same AUs, or do not cover the
    same frames of the same tracks.
    """
    if not tables:
        raise InputError("There are no scores to average. Give at least one table.")
    checked = [check_scores(table, name) for table, name in zip(tables, names, strict=True)]
    first = checked[0]
    au_names = list(au_columns(first.columns))
    for table, name in zip(checked[1:], names[1:], strict=True):
        _check_same_columns(first, table, names[0], name)
        _check_same_frames(first, table, names[0], name)
    columns = [*au_names, *(each for each in intensity_columns(au_names) if each in first)]
    total = np.zeros((len(first), len(columns)))
    number = np.zeros_like(total)
    for table in checked:
        values = table[columns].to_numpy(np.float64)
        total += np.nan_to_num(values, nan=0.0)
        number += ~np.isnan(values)
    mean = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    result = first.copy()
    result[columns] = mean.astype(np.float32)
    result["has_face"] = np.logical_or.reduce([table["has_face"].to_numpy() for table in checked])
    return result


def _check_same_columns(first: pd.DataFrame, other: pd.DataFrame, name: str, other_name: str) -> None:
    """Raise InputError with the AUs and intensities that only one of two tables has."""
    differing = sorted(map(str, (set(first) ^ set(other)) - {TIME_COLUMN}))
    if differing:
        raise InputError(
            f"Only one of {name} and {other_name} has {', '.join(differing)}. An ensemble needs the same AUs "
            "from every network."
        )


def _check_same_frames(first: pd.DataFrame, other: pd.DataFrame, name: str, other_name: str) -> None:
    """Raise InputError with the first track whose frames differ. Both tables are sorted."""
    frames, other_frames = (table.groupby("track")["frame"].agg(list) for table in (first, other))
    for track in sorted(set(frames.index) | set(other_frames.index)):
        rows, other_rows = frames.get(track, []), other_frames.get(track, [])
        if rows != other_rows:
            raise InputError(
                f"{name} has {len(rows)} frames of track {track}, {other_name} has {len(other_rows)}, and "
                "they differ. An ensemble needs the same tracks and frames from every network."
            )
