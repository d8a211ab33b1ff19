"""`auscan extract`: run the frozen encoders over a data set once and keep what they say.

In: the folder of an index.  Out: a folder of features, an estimate and a summary on stdout, progress on
stderr.
Not here: the work itself (datasets/features.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import shown_progress
from auscan.core.errors import InputError


def extract(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder that `auscan prepare` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="CACHE", help="Folder for the features.")],
    model: Annotated[
        str, typer.Option("--model", help="base, large, nano, a checkpoint's folder, or an end-to-end run's.")
    ] = "base",
    visual: Annotated[
        str | None,
        typer.Option("--visual", help="DINOv2 weights: a local folder, or a hub name, name@revision."),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option("--audio", help="WavLM weights: a local folder, or a hub name, name@revision."),
    ] = None,
    grid: Annotated[
        str, typer.Option("--grid", metavar="G", help="Average patches to G x G; `full` keeps them all.")
    ] = "4",
    root: Annotated[
        Path | None, typer.Option("--root", help="Where the data set is now, if it has moved.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = "cpu",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 64,
) -> None:
    """Compute the visual and audio features of all tracks in INDEX; run again, it goes on where it was."""
    if grid != "full" and not grid.isdecimal():
        raise InputError(f"--grid {grid} is no grid. Give a number such as 4, or full.")
    from auscan.datasets.cache import as_text
    from auscan.datasets.features import Extraction
    from auscan.datasets.index import read_index
    from auscan.training.start import find_encoders

    found = read_index(index, root)
    encoders = find_encoders(model, visual, audio, device)
    work = Extraction(found, encoders, out, None if grid == "full" else int(grid))
    whole, left = work.size(work.tracks), work.size(work.todo)
    typer.echo(
        f"{len(work.tracks)} tracks, {whole.frames} frames, {whole.sound_s / 60:.1f} min of sound: "
        f"about {as_text(whole.total)} on disk. Still to do: {len(work.todo)} tracks, {as_text(left.total)}."
    )
    with shown_progress("extract") as progress:
        unreadable = work.run(batch, progress)
    for image in unreadable[:5]:
        typer.echo(f"not readable, counts as missing: {image}", err=True)
    typer.echo(f"{len(work.todo)} tracks written to {out}, {len(unreadable)} pictures not readable")
