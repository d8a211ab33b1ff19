"""Run `auscan merge` (combine results into one data set) and `auscan query` (SQL over it).

Inputs: folders written by `auscan detect`; for query a data set written by `auscan merge` and an SQL query.
Returns: a folder of Parquet files and its counts on stdout; for query a table, CSV or JSON Lines on stdout.
See also: batch/dataset.py (the data set and DuckDB).
"""

import csv
import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auscan.core.environment import require_extra
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.batch.dataset import QueryResult

MAX_TABLE_ROWS = 50
"""Rows printed without --csv and --json."""


def merge(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Output folders of `auscan detect`.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATASET", help="Folder for the data set.")],
) -> None:
    """Merge results into one data set of a few large Parquet files."""
    require_extra("auscan merge", "pyarrow", "batch")
    from rich.console import Console
    from rich.progress import Progress

    from auscan.batch.dataset import merge as merge_results

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("results", total=None)
        sources = merge_results(
            results, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    done = [source.record.rows for source in sources if source.record.status == "done"]
    typer.echo(f"{out}: {len(sources)} inputs, {len(done)} with a result, {sum(done)} rows")


def query(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder written by `auscan merge`.")],
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="Query over the tables inputs, frames and events.")
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")] = False,
    allow_external: Annotated[
        bool, typer.Option("--allow-external", help="Let SQL read and write other files and use the network.")
    ] = False,
) -> None:
    """Run an SQL query over DATASET with DuckDB, e.g. 'SELECT AU, count(*) FROM events GROUP BY AU'."""
    if as_csv and as_json:
        raise InputError("--csv and --json exclude each other. Leave out one of them.")
    require_extra("auscan query", "duckdb", "batch")
    from auscan.batch.dataset import query as run_query

    result = run_query(dataset, sql, allow_external=allow_external)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows(result.rows)
    elif as_json:
        for row in result.rows:
            line = {name: _nan_to_none(value) for name, value in zip(result.columns, row, strict=True)}
            typer.echo(json.dumps(line, ensure_ascii=False, default=str))
    else:
        _print_table(result)


def _nan_to_none(value: Any) -> Any:
    """Return the value, or None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and value != value else value


def _print_table(result: "QueryResult") -> None:
    from rich.console import Console
    from rich.table import Table

    table, rows = Table(*result.columns), iter(result.rows)
    for row in islice(rows, MAX_TABLE_ROWS):
        table.add_row(*_format_row(row))
    Console().print(table)
    if next(rows, None) is not None:
        typer.echo(f"Only the first {MAX_TABLE_ROWS} rows are shown; --csv or --json prints all.", err=True)


def _format_row(row: Iterable[Any]) -> list[str]:
    return [
        "" if value is None else f"{value:g}" if isinstance(value, float) else str(value) for value in row
    ]
