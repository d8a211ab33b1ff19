"""Write a table while it grows: aus.parquet and aus.csv, each whole or not at all.

In: the pieces of a table in order.  Out: both files, under their names once the last piece is in.
Not here: what the columns mean (table.py).
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import fastparquet
import pandas as pd

from auscan.results.atomic import atomic_path
from auscan.results.table import CSV_FILE, TABLE_FILE


class TableWriter:
    """Two files that grow together; leave the `with` by an exception and neither of them appears."""

    def __init__(self, folder: Path, metadata: dict[str, str]) -> None:
        """metadata: what the Parquet file says of itself."""
        self._folder, self._metadata = folder, metadata
        self._files = ExitStack()
        self._parquet: Path | None = None
        self._csv: Path | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, piece: pd.DataFrame) -> None:
        """Add rows: one row group."""
        first = self._parquet is None
        if self._parquet is None or self._csv is None:
            self._parquet = self._files.enter_context(atomic_path(self._folder / TABLE_FILE))
            self._csv = self._files.enter_context(atomic_path(self._folder / CSV_FILE))
        fastparquet.write(
            str(self._parquet),
            piece,
            row_group_offsets=len(piece) or None,
            compression="SNAPPY",
            has_nulls=[name for name, kind in piece.dtypes.items() if kind.kind == "f"],  # NaN is null
            write_index=False,
            append=not first,
            custom_metadata=self._metadata if first else None,
        )
        piece.to_csv(self._csv, mode="w" if first else "a", header=first, index=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)
