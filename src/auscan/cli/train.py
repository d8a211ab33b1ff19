"""`auscan train`: teach the network from features or crops.

In: a YAML file of settings.  Out: the folder of a run; what happens goes to stdout.
Not here: the settings (training/config.py), the loop (training/loop.py).

`auscan crossval`: train a network a fold, and score every track by the one that never saw its video.

In: a YAML file of settings.  Out: a run a fold, their scores together; what happens goes to stdout.
Not here: the work itself (training/crossval.py).

`auscan ensemble`: the mean of several networks' probabilities.

In: Parquets of scores of the same frames.  Out: one such Parquet.
"""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Settings: see docs/training.md.")],
) -> None:
    """Train as CONFIG.yaml says; a run that was stopped goes on where it was."""
    from auscan.training.config import read_train_config
    from auscan.training.loop import close_process_group
    from auscan.training.loop import train as train_network

    outcome = train_network(read_train_config(config), typer.echo)
    close_process_group()
    if not outcome.scores:  # of several processes one writes, and one speaks
        return
    typer.echo(f"best mean F1 {outcome.best:.4f} after step {outcome.best_step}: {outcome.folder / 'best'}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")


def crossval(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Settings: see docs/training.md.")],
    folds: Annotated[int, typer.Option("--folds", min=2, help="How many, dealt by source video.")] = 6,
    seed: Annotated[int, typer.Option("--fold-seed", help="Another seed deals other folds.")] = 0,
) -> None:
    """Train CONFIG.yaml once a fold of its training and validation tracks; run again, it goes on."""
    from auscan.training.config import read_train_config
    from auscan.training.crossval import cross_validate
    from auscan.training.loop import close_process_group

    outcome = cross_validate(read_train_config(config), folds, seed, typer.echo)
    close_process_group()
    if not outcome.scores:  # of several processes one writes, and one speaks
        return
    typer.echo(f"mean F1 of the folds: {', '.join(f'{best:.4f}' for best in outcome.best)}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")


def ensemble(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES...", help="Scores of the same frames.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet to write the mean to.")],
) -> None:
    """Write the mean of the probabilities in SCORES, over folds and seeds."""
    from auscan.training.crossval import mean_scores
    from auscan.training.scores import read_scores, write_scores

    mean = mean_scores([read_scores(path) for path in scores], [str(path) for path in scores])
    write_scores(out, mean)
    typer.echo(f"{len(scores)} scores, {mean['track'].nunique()} tracks, {len(mean)} frames -> {out}")
