"""Read, check and write the scores and labels of a whole data set: one row per frame of every track.

Training, cross-validation, ensembles, evaluation and submissions exchange data only through these two tables:
a Parquet file of scores with the columns `SCORE_COLUMNS` and a column per AU, and the frames.parquet of an
index. The AUs of either table are those of its columns (`au_columns`). Either may also have intensities, 0 to
5 or NaN, in columns such as AU01_r.

See also: datasets/ (making an index), smoothing.py (frames without a score).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from auscan.core.aus import au_columns
from auscan.core.config import MAX_INTENSITY
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.results.table import intensity_columns

SCORE_COLUMNS: Final[tuple[str, ...]] = ("track", "frame", "has_face")
"""Track name, frame number from 1, whether the frame has a detected face. A column per AU follows: its
probability, or NaN."""

TIME_COLUMN: Final = "time_s"
"""Optional column of scores: the time of the frame, for smoothing windows in seconds."""

LABEL_COLUMNS: Final[tuple[str, ...]] = ("track", "split", "source_video", "frame")
"""Columns read from an index (datasets/index.py) beside its AUs, whose labels are 1, 0 or -1."""

ALL_SPLITS: Final[str] = "all"
"""Name for all splits that have labels, as out-of-fold scores cover."""


def read_scores(path: Path) -> pd.DataFrame:
    """Read the scores in `path`, sorted by track and frame.

    Raises InputError if the file is missing or no Parquet file, or fails `check_scores`.
    """
    return check_scores(_read(path, SCORE_COLUMNS, "scores"), str(path))


def write_scores(path: Path, scores: pd.DataFrame) -> None:
    """Write the scores to `path` atomically. Raises InputError as `check_scores` does."""
    checked = check_scores(scores, "The table of scores")
    with atomic_path(path) as temporary:
        checked.to_parquet(temporary, index=False)


def check_scores(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Validate scores; returns them sorted by track and frame, with float32 probabilities, and with
    intensities and `TIME_COLUMN` if they have them. `name` is for messages.

    Raises InputError if a column is missing, a row has no track, a frame is not a whole number from 1 on or
    occurs twice in its track, or a probability or an intensity is out of range. NaN marks a missing score and
    is valid.
    """
    missing = [column for column in SCORE_COLUMNS if column not in scores.columns]
    au_names = au_columns(scores.columns)
    if missing or not au_names:
        raise InputError(
            f"{name} lacks the columns {', '.join(missing) or 'of the AUs'}. Scores have one row per frame "
            f"with the columns {', '.join(SCORE_COLUMNS)} and one per AU, such as AU01."
        )
    if scores[["track", "has_face"]].isna().any(axis=None):
        raise InputError(f"{name} has a row without track or has_face. Fill in both columns in every row.")
    aus = scores[list(au_names)].to_numpy(np.float32, na_value=np.nan)
    frames = scores["frame"].to_numpy(np.float64, na_value=np.nan)
    if not np.all((frames >= 1) & (frames == np.floor(frames))):
        raise InputError(f"{name} has a frame that is not a whole number from 1 on. Number frames from 1.")
    if np.any((aus < 0) | (aus > 1)):
        raise InputError(f"{name} has a probability outside 0 to 1. Write sigmoid outputs, not logits.")
    table = pd.DataFrame(dict(zip(au_names, aus.T, strict=True)))
    table.insert(0, "track", scores["track"].astype(str).to_numpy(object))
    table.insert(1, "frame", frames.astype(np.int64))
    table.insert(2, "has_face", scores["has_face"].to_numpy(bool))
    for column in _intensity_columns(scores.columns):
        table[column] = scores[column].to_numpy(np.float32, na_value=np.nan)
        if ((table[column] < 0) | (table[column] > MAX_INTENSITY)).any():
            raise InputError(f"{name} has an intensity outside 0 to {MAX_INTENSITY:g} in {column}.")
    if TIME_COLUMN in scores:
        table[TIME_COLUMN] = scores[TIME_COLUMN].to_numpy(np.float64, na_value=np.nan)
    twice = table.duplicated(["track", "frame"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{name} contains frame {row['frame']} of track {row['track']} twice. Remove one of the rows."
        )
    return table.sort_values(["track", "frame"], ignore_index=True)


def read_labels(index: Path, split: str) -> pd.DataFrame:
    """Read the rows of one split of an index, or of all labelled tracks: `LABEL_COLUMNS` and the AUs.

    index: folder written by `auscan prepare`.
    Raises InputError if there is no such index or split, or if none of its frames has a label.
    """
    labels = _read(index / "frames.parquet", LABEL_COLUMNS, "labels")
    for column in ("track", "split", "source_video"):
        labels[column] = labels[column].astype(str)
    found = sorted(set(labels["split"]))
    if split != ALL_SPLITS:
        labels = labels[labels["split"] == split]
    if labels.empty:
        raise InputError(f"{index} has no split {split!r}. It has {', '.join(found) or 'no rows'}.")
    labelled = (labels[list(au_columns(labels.columns))] >= 0).any(axis=1)
    if not labelled.any():
        raise InputError(f"No frame of split {split!r} in {index} has a label, so it cannot be evaluated.")
    if split == ALL_SPLITS:
        with_labels = set(labels.loc[labelled, "track"])
        labels = labels[labels["track"].isin(with_labels)]
    return labels.reset_index(drop=True)


def shared_aus(labels: pd.DataFrame, scores: pd.DataFrame) -> tuple[str, ...]:
    """Return the AUs that both tables have, in the order of the scores. Raises InputError without any."""
    labelled, scored = au_columns(labels.columns), au_columns(scores.columns)
    shared = tuple(name for name in scored if name in labelled)
    if not shared:
        raise InputError(
            f"Labels and scores have no AU in common: the labels are of {', '.join(labelled) or 'no AU'}, "
            f"the scores of {', '.join(scored)}."
        )
    return shared


def _intensity_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns of intensities of the AUs of a table."""
    present = list(columns)
    return [column for column in intensity_columns(au_columns(present)) if column in present]


def _read(path: Path, columns: tuple[str, ...], content: str) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give a Parquet file of {content}.")
    try:
        stored = pq.read_schema(path).names
        optional = [*_intensity_columns(stored), *(each for each in [TIME_COLUMN] if each in stored)]
        return pd.read_parquet(path, columns=[*columns, *au_columns(stored), *optional])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} cannot be read as {content}: {reason}. It should be Parquet with the columns "
            f"{', '.join(columns)} and one per AU."
        ) from error
