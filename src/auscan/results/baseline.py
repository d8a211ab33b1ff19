"""What is usual for a person, taken off: faces differ at rest, and a low brow is not a lowered one.

    level     the median probability of an AU over the judged frames of a face that are asked for: all of
              them, or those of some seconds in which it is known to be at rest
    neutral   NEUTRAL, or half the AU's threshold where that is less, so that rest is never active
    taken off where the level is above neutral, the face's logits are shifted so that the level comes to lie
              there. A level below is rest already and stays: to lift it would make action of noise

        logit(AU.._b) = logit(AU..) - max(0, logit(level) - logit(neutral))

It is one shift for a face and AU, so order within the face stays, and with the level (summary.json) it can be
undone. A face with too few judged frames to tell its level has no values above it: NaN, and is not judged.

In: probabilities, or a table.  Out: the columns `AU.._b`, and `AU.._c` made from them.
Not here: events, which follow these columns where there are any (events.py).
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
NEUTRAL: Final[float] = 0.1
"""Probability that a level above it is brought down to, at most."""
MIN_BASELINE_FRAMES: Final[int] = 25
"""Judged frames that a level needs."""


@dataclass(frozen=True)
class Baseline:
    """The frames that show what is usual: from `begin_s` to before `end_s`, on the container's clock."""

    begin_s: float = -np.inf
    end_s: float = np.inf


def parse_baseline(text: str) -> Baseline | None:
    """none, median (of all frames) or SECONDS-SECONDS, such as 2-5 or 0.5-3.25.

    Raises InputError for anything else.
    """
    if text == NO_BASELINE:
        return None
    if text == "median":
        return Baseline()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None or float(match[1]) >= float(match[2]):
        raise InputError(
            f"{text!r} is no baseline. Take none, median, or two times in seconds, "
            "the first before the second: 2-5."
        )
    return Baseline(float(match[1]), float(match[2]))


def resting_level(
    probabilities: NDArray[np.float32],
    times_s: NDArray[np.float64],
    scored: NDArray[np.bool_],
    baseline: Baseline,
) -> NDArray[np.float64]:
    """Compute the level of each AU of one face: [A], all NaN for fewer than MIN_BASELINE_FRAMES frames.

    probabilities [T, A]; times_s [T]; scored [T], whether the frame may be used.
    """
    usable = scored & (times_s >= baseline.begin_s) & (times_s < baseline.end_s)
    if usable.sum() < MIN_BASELINE_FRAMES:
        return np.full(AU_COUNT, np.nan)
    return np.median(probabilities[usable].astype(np.float64), axis=0)


def neutral_point(thresholds: Sequence[float]) -> NDArray[np.float64]:
    """What a level comes down to, [A], for thresholds [A]."""
    return np.minimum(NEUTRAL, np.asarray(thresholds, np.float64) / 2)


def subtract_baseline(
    probabilities: NDArray[np.float32], level: NDArray[np.float64], neutral: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Probabilities [T, A] above a level [A] (or one for each row [T, A]); NaN where either is.

    neutral: [A] what the level comes down to. Written with odds, so that 0 and 1 need no care.
    """
    shift = np.maximum(1.0, _odds(level) / _odds(neutral))
    active_share, inactive_share = probabilities.astype(np.float64), 1.0 - probabilities.astype(np.float64)
    return (active_share / (active_share + inactive_share * shift)).astype(np.float32)


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a sheer 1 as of what is nearest to it in float32."""
    clipped = np.minimum(probability, 1 - 2.0**-24)
    return np.asarray(clipped / (1 - clipped))


def resting_levels(table: pd.DataFrame, baseline: Baseline, keep_all: bool) -> dict[int, NDArray[np.float64]]:
    """The levels [A] of each face of a table, by face_id."""
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
    """The table with `BASELINE_COLUMNS`, and `AU.._c` made from them; NaN for faces without a level."""
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
    """Return a table with this baseline in place of the one that it has."""
    table = table[list(COLUMNS)]
    if baseline is not None:
        levels = resting_levels(table, baseline, keep_all)
        return add_baseline_columns(table, levels, thresholds, keep_all)
    values = table[list(AU_NAMES)].to_numpy(np.float32)
    active = apply_thresholds(values, table["reason"].eq("").to_numpy() | keep_all, thresholds)
    return table.assign(**dict(zip(ACTIVE_COLUMNS, active.T, strict=True)))
