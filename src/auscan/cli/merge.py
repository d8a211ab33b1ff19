"""`auscan merge`: many results as one data set.

In: folders that `auscan detect` wrote to.  Out: a folder of Parquet files, and what is in it on stdout.
Not here: the data set itself (batch/merge.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.core.extras import need_extra


def merge(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Folders that `auscan detect` wrote to.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATASET", help="Folder for the data set.")],
) -> None:
    """Gather the results in RESULTS into one data set of few large Parquet files."""
    need_extra("auscan merge", "pyarrow", "batch")
    from rich.console import Console
    from rich.progress import Progress

    from auscan.batch.merge import merge as merge_results

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("results", total=None)
        sources = merge_results(
            results, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    done = [source.entry.rows for source in sources if source.entry.status == "done"]
    typer.echo(f"{out}: {len(sources)} inputs, {len(done)} with a result, {sum(done)} rows")
