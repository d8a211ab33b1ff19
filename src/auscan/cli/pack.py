"""`auscan pack`: make a checkpoint of what a training run taught.

In: the folder of a run.  Out: the folder of a checkpoint, for `auscan detect --model`.
Not here: the work itself (training/pack.py).
"""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its best/ or last/.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the checkpoint.")],
    thresholds: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="From `auscan evaluate --save-thresholds`."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's id in results; FOLDER's name if not given.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Whose encoders, if they are not where the run found them.")
    ] = None,
    visual: Annotated[
        str | None, typer.Option("--visual", help="DINOv2 weights, as for `auscan extract`.")
    ] = None,
    audio: Annotated[
        str | None, typer.Option("--audio", help="WavLM weights, as for `auscan extract`.")
    ] = None,
) -> None:
    """Join the encoders and the network of RUN in a checkpoint that `auscan detect --model` reads."""
    from auscan.training.pack import pack as join
    from auscan.training.thresholds import read_decision

    decision = None if thresholds is None else read_decision(thresholds)
    config = join(run, out, decision, name, model, visual, audio)
    typer.echo(f"{out}: {config.name}, for auscan detect --model {out}")
    if decision is not None and max(decision.windows) > 1:
        typer.echo("The thresholds were tuned on smoothed scores; detect does not smooth.", err=True)
