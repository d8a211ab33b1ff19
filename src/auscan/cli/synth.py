"""Run `auscan synth`: render a synthetic data set in the layout of Aff-Wild2 with known labels.

Returns: a folder, one line of counts on stdout, progress on stderr.
See also: datasets/synth/writer.py.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress
from auscan.core.errors import AuscanError


def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the data set.")],
    videos: Annotated[
        int,
        typer.Option("--videos", help="Number of videos; 12 or more show all irregularities of Aff-Wild2."),
    ] = 12,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Random seed; equal seeds make equal data sets.")
    ] = 0,
    seconds: Annotated[float, typer.Option("--seconds", help="Mean length of a video, in seconds.")] = 20.0,
    face: Annotated[
        Path | None,
        typer.Option("--face", metavar="FILE", help="Face model ict_facekit.npz; default: built-in face."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Frames per second; default: 30, 25 or 24 per video."),
    ] = None,
    all_aus: Annotated[
        bool,
        typer.Option(
            "--all-aus", help="Also move seven AUs that Aff-Wild2 lacks; read with prepare --format synth."
        ),
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Videos rendered in parallel.")] = 1,
) -> None:
    """Render a synthetic data set in the layout of Aff-Wild2, with ground truth in OUT/truth."""
    try:
        from auscan.datasets.synth.writer import write_dataset
    except ImportError as error:
        raise AuscanError(f"Rendering needs numba ({error}). Run: pip install 'auscan[train]'") from error

    began_s = time.monotonic()
    with show_progress("synth") as progress:
        summary = write_dataset(out, videos, seed, seconds, face, workers, rate, all_aus, progress)
    rate = 60 * summary["frames"] / max(time.monotonic() - began_s, 1e-6)
    typer.echo(
        f"{out}: {summary['videos']} videos, {summary['tracks']} tracks, {summary['frames']} faces, "
        f"{rate:.0f} per minute"
    )
