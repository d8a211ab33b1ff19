"""Compute the statistics of a result: duration and share of each AU, for all faces and for each face.

Inputs: the table of a result and its events.
Returns: plain numbers; unknown values are None.
See also: table.py (rows), events.py (events).
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.results.quality import REASONS
from auscan.results.table import ACTIVE_COLUMNS, by_face, frame_durations_s, frame_times_s

Statistics = dict[str, float | int | None]
"""Statistics of one AU by name."""

SUMMARY_FILE: Final[str] = "summary.json"
"""File name in the folder of a result."""


def seconds_active(table: pd.DataFrame) -> dict[str, float | None]:
    """Return for each AU the seconds in which it was active in any face; None if unknown.

    Frames are weighted by their durations. Only scored rows count.
    """
    durations = frame_durations_s(frame_times_s(table))
    any_face = table.groupby("frame", sort=True)[list(ACTIVE_COLUMNS)].max().to_numpy()  # [F, A], NaN unknown
    known = ~np.isnan(any_face).all(axis=0)
    active_s = durations @ (np.nan_to_num(any_face) > 0)  # [A]
    no_face = not table["success"].any()
    return {name: float(active_s[j]) if known[j] or no_face else None for j, name in enumerate(AU_NAMES)}


def base_rates(table: pd.DataFrame) -> dict[str, float | None]:
    """Return for each AU the share of scored face rows in which it is active; None without scored rows."""
    rates = table[list(ACTIVE_COLUMNS)].mean()  # ignores NaN
    return {name: _number(rates[f"{name}_c"]) for name in AU_NAMES}


def reason_counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of rows by reason, with every reason as a key."""
    counts = table["reason"].value_counts()
    return {reason: int(counts.get(reason, 0)) for reason in REASONS}


def au_statistics(
    table: pd.DataFrame, events: pd.DataFrame, seconds: Mapping[str, float | None]
) -> dict[str, Statistics]:
    """Return base_rate, seconds_active, events, mean_duration_s and mean_probability of each AU.

    table, events: of all faces, or of one face
    seconds: seconds_active of each AU; if it is None, the number of events is None, too
    mean_probability is the mean of `AU..` (not of `AU.._b`) over the rows in which the AU is scored.
    """
    rates = base_rates(table)
    durations = {name: events.loc[events["AU"] == name, "duration"] for name in AU_NAMES}
    statistics: dict[str, Statistics] = {}
    for name in AU_NAMES:
        count = len(durations[name])
        statistics[name] = {
            "base_rate": rates[name],
            "seconds_active": seconds[name],
            "events": None if seconds[name] is None else count,
            "mean_duration_s": float(durations[name].mean()) if count else None,
            "mean_probability": _number(table.loc[table[f"{name}_c"].notna(), name].mean()),
        }
    return statistics


def face_statistics(
    table: pd.DataFrame, events: pd.DataFrame, levels: Mapping[int, NDArray[np.float64]] | None
) -> list[dict[str, Any]]:
    """Return for each face its first and last second, rows, share of scored rows and `au_statistics`.

    levels: baseline level [A] by face_id, or None without a baseline. A face without a level has None.
    """
    times_s = frame_times_s(table)
    ends_s = times_s + frame_durations_s(times_s)
    frame_index = np.searchsorted(np.unique(table["frame"]), table["frame"])  # [R] index of the row's frame
    durations_s = pd.Series((ends_s - times_s)[frame_index], index=table.index)
    faces = []
    for face_id, rows in by_face(table):
        active = rows[list(ACTIVE_COLUMNS)].to_numpy()  # [T, A]
        active_s = durations_s[rows.index].to_numpy() @ (np.nan_to_num(active) > 0)
        known = ~np.isnan(active).all(axis=0)
        seconds = {name: float(active_s[j]) if known[j] else None for j, name in enumerate(AU_NAMES)}
        face: dict[str, Any] = {
            "face_id": face_id,
            "first_s": float(rows["timestamp"].iloc[0]),
            "last_s": float(ends_s[frame_index[rows.index[-1]]]),
            "rows": len(rows),
            "judged": float((~np.isnan(active)).any(axis=1).mean()),
        }
        if levels is not None:
            face["baseline"] = _level(levels[face_id])
        faces.append(face | {"aus": au_statistics(rows, events[events["face_id"] == face_id], seconds)})
    return faces


def _level(level: NDArray[np.float64]) -> dict[str, float | None] | None:
    if np.isnan(level).all():
        return None
    return {name: _number(value) for name, value in zip(AU_NAMES, level, strict=True)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
