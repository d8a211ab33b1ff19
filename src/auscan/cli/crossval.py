"""`auscan crossval`: train a network a fold, and score every track by the one that never saw its video.

In: a YAML file of settings.  Out: a run a fold, their scores together; what happens goes to stdout.
Not here: the work itself (training/crossval.py).
"""

from pathlib import Path
from typing import Annotated

import typer


def crossval(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Settings: see docs/training.md.")],
    folds: Annotated[int, typer.Option("--folds", min=2, help="How many, dealt by source video.")] = 6,
    seed: Annotated[int, typer.Option("--fold-seed", help="Another seed deals other folds.")] = 0,
) -> None:
    """Train CONFIG.yaml once a fold of its training and validation tracks; run again, it goes on."""
    from auscan.training.config import read_train_config
    from auscan.training.crossval import cross_validate
    from auscan.training.loop import close

    outcome = cross_validate(read_train_config(config), folds, seed, typer.echo)
    close()
    if not outcome.scores:  # of several processes one writes, and one speaks
        return
    typer.echo(f"mean F1 of the folds: {', '.join(f'{best:.4f}' for best in outcome.best)}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")
