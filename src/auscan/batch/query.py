"""Ask a data set in SQL: DuckDB over the files that merge.py wrote.

In: a data set and a query over the tables inputs, frames and events.  Out: names of columns, and rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from auscan.core.errors import InputError

TABLES: Final = {"inputs": "inputs.parquet", "frames": "frames/*.parquet", "events": "events/*.parquet"}

_ROWS_AT_ONCE: Final[int] = 4096


@dataclass(frozen=True)
class Answer:
    """Rows that are read as they are asked for."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def query(dataset: Path, sql: str) -> Answer:
    """The answer to a query.

    Raises InputError where `dataset` is none, and where DuckDB cannot answer.
    """
    if not (dataset / TABLES["inputs"]).is_file():
        raise InputError(f"{dataset} is no data set. Give a folder that `auscan merge` wrote.")
    connection = duckdb.connect()
    for name, files in TABLES.items():
        place = str(dataset / files).replace("'", "''")
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{place}')")
    try:
        connection.execute(sql)
    except duckdb.Error as error:
        raise InputError(f"DuckDB cannot answer: {' '.join(str(error).split())}") from error
    columns = tuple(column[0] for column in connection.description or ())
    return Answer(columns, _rows(connection))


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(_ROWS_AT_ONCE):
        yield from rows
