"""Run `auscan train`, `auscan crossval` and `auscan ensemble`: train networks and average their scores.

`crossval` trains one network per fold and scores each track with the network of the fold without its video.
Inputs: a YAML configuration; for ensemble, Parquet files with scores of the same frames.
Returns: the folder of a run; for crossval, a run per fold and their combined scores; for ensemble, a Parquet
file of mean scores. The log goes to stdout.
See also: training/config.py (configuration), training/loop.py, training/crossval.py.
"""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="Configuration; see docs/training.md.")
    ],
) -> None:
    """Train a network; resumes an interrupted run."""
    from auscan.training.config import read_train_config
    from auscan.training.loop import close_process_group
    from auscan.training.loop import train as train_network

    outcome = train_network(read_train_config(config), typer.echo)
    close_process_group()
    if not outcome.scores:  # with several processes only the main one has scores and prints
        return
    typer.echo(f"best mean F1 {outcome.best:.4f} after step {outcome.best_step}: {outcome.folder / 'best'}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")


def crossval(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="Configuration; see docs/training.md.")
    ],
    folds: Annotated[
        int, typer.Option("--folds", min=2, help="Number of folds; each source video is in one.")
    ] = 6,
    seed: Annotated[int, typer.Option("--fold-seed", help="Random seed of the folds.")] = 0,
) -> None:
    """Run k-fold cross-validation; resumes an interrupted run."""
    from auscan.training.config import read_train_config
    from auscan.training.crossval import cross_validate
    from auscan.training.loop import close_process_group

    outcome = cross_validate(read_train_config(config), folds, seed, typer.echo)
    close_process_group()
    if not outcome.scores:  # with several processes only the main one has scores and prints
        return
    typer.echo(f"mean F1 of the folds: {', '.join(f'{best:.4f}' for best in outcome.best)}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")


def ensemble(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES...", help="Scores of the same frames.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
) -> None:
    """Average the probabilities in SCORES over folds and seeds."""
    from auscan.training.crossval import mean_scores
    from auscan.training.scores import read_scores, write_scores

    mean = mean_scores([read_scores(path) for path in scores], [str(path) for path in scores])
    write_scores(out, mean)
    typer.echo(f"{len(scores)} scores, {mean['track'].nunique()} tracks, {len(mean)} frames -> {out}")
