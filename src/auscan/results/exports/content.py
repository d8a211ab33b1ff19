"""Define the data of a result that exports write, and values that several formats need.

See also: write.py (formats), result.py (`Result.export`).
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from auscan.results.run_info import RunInfo
from auscan.results.table import by_face, frame_durations_s, frame_times_s


@dataclass(frozen=True, eq=False)
class ExportData:
    """Part of a result that exports write."""

    table: pd.DataFrame
    """One row for each face and frame (table.py)."""
    events: pd.DataFrame
    """One row for each event (events.py)."""
    info: RunInfo
    """The run that made the table."""


def stem(data: ExportData) -> str:
    """Return the file name of the input without its suffix; exports are named after it."""
    return Path(data.info.source).stem


def trained_aus(data: ExportData) -> tuple[str, ...]:
    """Return the AUs that the model was trained on, in order."""
    return tuple(name for name in data.info.au_names if name not in data.info.untrained_aus)


def face_ids(data: ExportData) -> tuple[int, ...]:
    """Return the face_id of every face, in order."""
    return tuple(face for face, _ in by_face(data.table))


def end_s(data: ExportData) -> float:
    """Return the end of the last frame, seconds; 0 if there are no frames."""
    times_s = frame_times_s(data.table)
    return float(times_s[-1] + frame_durations_s(times_s)[-1]) if len(times_s) else 0.0
