"""Read which AU regions of a face are known to be covered or visible.

A data set in which objects were pasted or rendered over faces has a file covers.parquet in its folder: a row
per track and frame, with columns `track`, `frame` and AU01_covered to AU26_covered.

Inputs: the data set's folder.  Returns: `Covers`, which adds them to tracks.
See also: index.py (columns of the index), prepare.py (writing the index).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS
from auscan.core.errors import InputError
from auscan.datasets.index import Track, cover_columns
from auscan.results.readers.annotations import NOT_ANNOTATED

COVERS_NAME: Final = "covers.parquet"
"""File in the data set's folder with the covers of its frames."""


@dataclass(frozen=True, eq=False)
class Covers:
    """Covers of the frames of a data set."""

    au_names: tuple[str, ...]
    """[A] AUs of the columns."""
    by_track: dict[str, tuple[NDArray[np.int64], NDArray[np.int8]]]
    """Sorted frame numbers [M] and covers [M, A] by track."""

    def added_to(self, track: Track) -> Track:
        """Return the track with the covers of its frames; -1 for frames that are not listed."""
        covers = np.full((len(track.numbers), len(track.au_names)), NOT_ANNOTATED, np.int8)
        if track.name in self.by_track:
            numbers, known = self.by_track[track.name]
            at = np.searchsorted(numbers, track.numbers).clip(max=len(numbers) - 1)
            listed = numbers[at] == track.numbers
            columns = [self.au_names.index(name) for name in track.au_names if name in self.au_names]
            at_aus = [name in self.au_names for name in track.au_names]
            covers[np.ix_(listed, at_aus)] = known[np.ix_(at[listed], columns)]
        return replace(track, covers=covers)


def read_covers(root: Path) -> Covers | None:
    """Read covers.parquet of a data set; None without the file.

    Raises InputError if a column is missing, a frame is listed twice or a value is not 1, 0 or -1.
    """
    path = root / COVERS_NAME
    if not path.exists():
        return None
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). Write it again, or remove it.") from error
    au_names = tuple(name for name in ACTION_UNITS if f"{name}_covered" in table)
    if missing := [name for name in ("track", "frame") if name not in table]:
        raise InputError(f"{path} has no column {', '.join(missing)}. Add it, or remove the file.")
    if not au_names:
        raise InputError(f"{path} has no column of an AU, such as AU12_covered. Add one, or remove the file.")
    columns = cover_columns(au_names)
    if table.duplicated(["track", "frame"]).any():
        twice = table[table.duplicated(["track", "frame"])].iloc[0]
        raise InputError(f"{path} lists frame {twice['frame']} of {twice['track']} twice. Keep one row.")
    if not table[columns].isin([0, 1, NOT_ANNOTATED]).to_numpy().all():
        raise InputError(f"{path} has values other than 1 (covered), 0 (visible) and -1 (unknown).")
    return Covers(
        au_names,
        {
            str(name): (rows["frame"].to_numpy(np.int64), rows[columns].to_numpy(np.int8))
            for name, rows in table.sort_values("frame").groupby("track", observed=True)
        },
    )
