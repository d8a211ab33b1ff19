"""`auscan synth`: make a data set of Aff-Wild2's shape with a rendered face and known labels.

In: the words of the command line.  Out: a folder, one line on stdout, progress on stderr.
Not here: the work itself (datasets/synth/writer.py).
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress
from auscan.core.errors import AuscanError


def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the data set.")],
    videos: Annotated[
        int, typer.Option("--videos", help="How many; from 12 on every oddity of the real set is there.")
    ] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same data set.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", help="Mean length of a video.")] = 20.0,
    face: Annotated[
        Path | None,
        typer.Option("--face", metavar="FILE", help="An ict_facekit.npz; without it, auscan's own face."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Frames a second of every video; without it 30, 25 or 24."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Videos made side by side.")] = 1,
) -> None:
    """Render a synthetic Aff-Wild2 into OUT, with the truth about every frame in OUT/truth."""
    try:
        from auscan.datasets.synth.writer import write_dataset
    except ImportError as error:
        raise AuscanError(f"Rendering needs numba ({error}). Run: pip install 'auscan[train]'") from error

    began_s = time.monotonic()
    with show_progress("synth") as progress:
        summary = write_dataset(out, videos, seed, seconds, face, workers, rate, progress)
    rate = 60 * summary["frames"] / max(time.monotonic() - began_s, 1e-6)
    typer.echo(
        f"{out}: {summary['videos']} videos, {summary['tracks']} tracks, {summary['frames']} faces, "
        f"{rate:.0f} a minute"
    )
