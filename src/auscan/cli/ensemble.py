"""`auscan ensemble`: the mean of several networks' probabilities.

In: Parquets of scores of the same frames.  Out: one such Parquet.
"""

from pathlib import Path
from typing import Annotated

import typer


def ensemble(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES...", help="Scores of the same frames.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet to write the mean to.")],
) -> None:
    """Write the mean of the probabilities in SCORES, over folds and seeds."""
    from auscan.training.ensemble import mean_scores
    from auscan.training.scores import read_scores, write_scores

    mean = mean_scores([read_scores(path) for path in scores], [str(path) for path in scores])
    write_scores(out, mean)
    typer.echo(f"{len(scores)} scores, {mean['track'].nunique()} tracks, {len(mean)} frames -> {out}")
