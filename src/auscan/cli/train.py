"""`auscan train`: teach the network from features or crops.

In: a YAML file of settings.  Out: the folder of a run; what happens goes to stdout.
Not here: the settings (training/config.py), the loop (training/loop.py).
"""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Settings: see docs/training.md.")],
) -> None:
    """Train as CONFIG.yaml says; a run that was stopped goes on where it was."""
    from auscan.training.config import read_train_config
    from auscan.training.loop import close
    from auscan.training.loop import train as teach

    outcome = teach(read_train_config(config), typer.echo)
    close()
    if not outcome.scores:  # of several processes one writes, and one speaks
        return
    typer.echo(f"best mean F1 {outcome.best:.4f} after step {outcome.best_step}: {outcome.folder / 'best'}")
    for split, path in outcome.scores.items():
        typer.echo(f"scores of {split}: {path}")
