"""What a table says in sum: how long and how often each AU was active, and why faces were not judged.

In: a result's table.  Out: plain numbers; None where nothing is known.
Not here: the rows themselves (table.py), events (events.py).
"""

import numpy as np
import pandas as pd

from auscan.core.aus import AU_NAMES
from auscan.results.quality import REASONS
from auscan.results.table import ACTIVE_COLUMNS, frame_durations_s, frame_times_s


def seconds_active(table: pd.DataFrame) -> dict[str, float | None]:
    """For each AU how long it was active in any face, weighted by the frames' durations; None: unknown.

    Only rows that were judged count.
    """
    durations = frame_durations_s(frame_times_s(table))
    any_face = table.groupby("frame", sort=True)[list(ACTIVE_COLUMNS)].max().to_numpy()  # [F, A], NaN unknown
    known = ~np.isnan(any_face).all(axis=0)
    total = durations @ (np.nan_to_num(any_face) > 0)  # [A]
    nobody = not table["success"].any()
    return {name: float(total[j]) if known[j] or nobody else None for j, name in enumerate(AU_NAMES)}


def base_rates(table: pd.DataFrame) -> dict[str, float | None]:
    """For each AU the share of judged face rows in which it is active; None where no row knows it."""
    rates = table[list(ACTIVE_COLUMNS)].mean()  # NaN rows are left out
    return {name: _number(rates[f"{name}_c"]) for name in AU_NAMES}


def reason_counts(table: pd.DataFrame) -> dict[str, int]:
    """Rows by reason, all reasons named."""
    counts = table["reason"].value_counts()
    return {reason: int(counts.get(reason, 0)) for reason in REASONS}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
