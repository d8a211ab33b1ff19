"""Write a CSV file with the columns of another program, most of which we know nothing of.

Hundreds of empty columns would make pandas slow and the memory full; here they cost a comma each.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from auscan.results.atomic import atomic_path


def write_columns(path: Path, columns: Sequence[str], known: Mapping[str, Sequence[str]]) -> None:
    """Write `columns` in this order: cells of those in `known` [R] each, all others empty."""
    unknown = [name for name in known if name not in columns]
    assert not unknown, unknown
    cells: list[Iterable[str]] = [known.get(name, repeat("")) for name in columns]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells, strict=False))  # the empty ones never end


def numbers(values: "pd.Series[float]", decimals: int) -> list[str]:
    """Each number with at most so many decimals; NaN, which is unknown, is an empty cell."""
    array = values.to_numpy(np.float64)
    return ["" if value != value else f"{value:.{decimals}f}" for value in array.tolist()]
