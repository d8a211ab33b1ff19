"""Write a table while it grows: aus.parquet and aus.csv, each whole or not at all.

In: the pieces of a table in order.  Out: both files, under their names once the last piece is in.
Not here: what the columns mean (table.py).
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pyarrow import csv

from auscan.results.atomic import atomic_path


class TableWriter:
    """Two files that grow together; leave the `with` by an exception and neither of them appears."""

    def __init__(self, folder: Path, metadata: dict[bytes, bytes]) -> None:
        """metadata: what the Parquet file says of itself."""
        self._folder, self._metadata = folder, metadata
        self._files = ExitStack()
        self._parquet: Any = None
        self._csv: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, piece: pd.DataFrame) -> None:
        """Add rows: one row group."""
        table = pa.Table.from_pandas(piece, preserve_index=False)
        if self._parquet is None:
            self._open(table)
        self._parquet.write_table(table.cast(self._parquet.schema))
        csv.write_csv(table, self._csv, csv.WriteOptions(include_header=False))

    def _open(self, table: Any) -> None:
        kept = table.schema.metadata or {}
        schema = table.schema.with_metadata({**kept, **self._metadata})
        path = self._files.enter_context(atomic_path(self._folder / "aus.parquet"))
        self._parquet = self._files.enter_context(pq.ParquetWriter(path, schema))
        path = self._files.enter_context(atomic_path(self._folder / "aus.csv"))
        self._csv = self._files.enter_context(path.open("wb"))
        # Arrow's writer takes a tenth of the time of pandas', but puts its header in quotes.
        self._csv.write((",".join(table.column_names) + "\n").encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)
