"""Subtract each face's neutral baseline from its probabilities.

Faces differ at rest: a brow that always lies low is not lowered.

    level     median probability of an AU over the scored frames of a face: all of them, or those of a time
              span in which the face is at rest
    neutral   NEUTRAL, or half the AU's threshold if that is less, so that a face at rest is never active
    shift     if the level is above neutral, the face's logits are shifted so that the level becomes neutral.
              A lower level is left as it is: raising it would turn noise into activity

        logit(AU.._b) = logit(AU..) - max(0, logit(level) - logit(neutral))

The shift is constant for a face and AU, so the order within the face stays, and the level (summary.json)
suffices to undo it. A face with fewer than MIN_BASELINE_FRAMES scored frames has no level: its `AU.._b` are
NaN and it is not scored.

Inputs: probabilities, or a table.
Returns: the columns `AU.._b`, and the `AU.._c` computed from them.
See also: events.py (events follow `AU.._b` if there are any).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.errors import InputError
from auscan.results.table import ACTIVE_COLUMNS, BASELINE_COLUMNS, COLUMNS, apply_thresholds, by_face

NO_BASELINE: Final[str] = "none"
"""Name of the setting without a baseline."""
NEUTRAL: Final[float] = 0.1
"""Highest neutral probability."""
MIN_BASELINE_FRAMES: Final[int] = 25
"""Scored frames that a level needs."""


@dataclass(frozen=True)
class Baseline:
    """Time span of the frames that define the baseline, on the container's clock."""

    begin_s: float = -np.inf
    """First second."""
    end_s: float = np.inf
    """End, excluded."""


def parse_baseline(text: str) -> Baseline | None:
    """Parse none, median (of all frames) or SECONDS-SECONDS, such as 2-5 or 0.5-3.25.

    Raises InputError for any other text.
    """
    if text == NO_BASELINE:
        return None
    if text == "median":
        return Baseline()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None or float(match[1]) >= float(match[2]):
        raise InputError(
            f"{text!r} is not a baseline. Use none, median, or two times in seconds, "
            "the first before the second, such as 2-5."
        )
    return Baseline(float(match[1]), float(match[2]))


def resting_level(
    probabilities: NDArray[np.float32],
    times_s: NDArray[np.float64],
    scored: NDArray[np.bool_],
    baseline: Baseline,
) -> NDArray[np.float64]:
    """Compute the level of each AU of one face, [A]; all NaN for fewer than MIN_BASELINE_FRAMES frames.

    probabilities: [T, A]    times_s: [T]    scored: [T] whether the frame counts
    """
    usable = scored & (times_s >= baseline.begin_s) & (times_s < baseline.end_s)
    if usable.sum() < MIN_BASELINE_FRAMES:
        return np.full(AU_COUNT, np.nan)
    return np.median(probabilities[usable].astype(np.float64), axis=0)


def neutral_point(thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Return the neutral probability of each AU, [A], for thresholds [A]."""
    return np.minimum(NEUTRAL, np.asarray(thresholds, np.float64) / 2)


def subtract_baseline(
    probabilities: NDArray[np.float32], level: NDArray[np.float64], neutral: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return probabilities [T, A] relative to a level [A] (or [T, A]); NaN if either is NaN.

    neutral: [A], see `neutral_point`. Computed with odds, which are finite for probabilities 0 and 1.
    """
    shift = np.maximum(1.0, _odds(level) / _odds(neutral))
    active_share, inactive_share = probabilities.astype(np.float64), 1.0 - probabilities.astype(np.float64)
    return (active_share / (active_share + inactive_share * shift)).astype(np.float32)


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p / (1 - p); 1 is replaced by the largest float32 below it."""
    clipped = np.minimum(probability, 1 - 2.0**-24)
    return np.asarray(clipped / (1 - clipped))


def resting_levels(table: pd.DataFrame, baseline: Baseline, keep_all: bool) -> dict[int, NDArray[np.float64]]:
    """Return the levels [A] of each face of a table, by face_id."""
    return {
        face_id: resting_level(
            rows[list(AU_NAMES)].to_numpy(np.float32),
            rows["timestamp"].to_numpy(np.float64),
            rows["reason"].eq("").to_numpy() | keep_all,
            baseline,
        )
        for face_id, rows in by_face(table)
    }


def add_baseline_columns(
    table: pd.DataFrame,
    levels: Mapping[int, NDArray[np.float64]],
    thresholds: Sequence[float],
    keep_all: bool,
) -> pd.DataFrame:
    """Return the table with `BASELINE_COLUMNS` and the `AU.._c` computed from them.

    levels: [A] by face_id; both groups of columns are NaN for faces without a level.
    """
    ids, row_of_id = np.unique(table["face_id"].to_numpy(), return_inverse=True)
    unknown = np.full(AU_COUNT, np.nan)
    level = np.array([levels.get(int(face_id), unknown) for face_id in ids]).reshape(-1, AU_COUNT)[row_of_id]
    values = subtract_baseline(table[list(AU_NAMES)].to_numpy(np.float32), level, neutral_point(thresholds))
    active = apply_thresholds(values, table["reason"].eq("").to_numpy() | keep_all, thresholds)
    columns = {
        **dict(zip(ACTIVE_COLUMNS, active.T, strict=True)),
        **dict(zip(BASELINE_COLUMNS, values.T, strict=True)),
    }
    return table.assign(**columns)


def replace_baseline(
    table: pd.DataFrame, baseline: Baseline | None, thresholds: Sequence[float], keep_all: bool
) -> pd.DataFrame:
    """Return the table with this baseline instead of its own; None: without a baseline."""
    table = table[list(COLUMNS)]
    if baseline is not None:
        levels = resting_levels(table, baseline, keep_all)
        return add_baseline_columns(table, levels, thresholds, keep_all)
    values = table[list(AU_NAMES)].to_numpy(np.float32)
    active = apply_thresholds(values, table["reason"].eq("").to_numpy() | keep_all, thresholds)
    return table.assign(**dict(zip(ACTIVE_COLUMNS, active.T, strict=True)))
