"""`auscan extract`: run the frozen encoders over a data set once and keep what they say.

In: the folder of an index.  Out: a folder of features, an estimate and a summary on stdout, progress on
stderr.
Not here: the work itself (datasets/features.py), who does it (batch/extract.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.model_options import GpusPerWorkerOption, RayOption, ThreadsOption
from auscan.cli.progress import shown_progress
from auscan.core.errors import STOPPED, InputError, exit_code_of

if TYPE_CHECKING:
    from auscan.results.manifest import Entry

SHOWN = 5
"""Pictures that could not be read and are named."""


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
    threads: ThreadsOption = None,
    ray: RayOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
) -> None:
    """Compute the visual and audio features of all tracks in INDEX; run again, it goes on where it was."""
    if grid != "full" and not grid.isdecimal():
        raise InputError(f"--grid {grid} is no grid. Give a number such as 4, or full.")
    if gpus_per_worker is not None and ray is None:
        raise InputError("--gpus-per-worker is for --ray.")
    from auscan.batch.extract import Extraction, FeatureRequest, choose_cluster
    from auscan.datasets.cache import as_text
    from auscan.datasets.features import use_threads
    from auscan.datasets.index import read_index
    from auscan.training.find_encoders import find_encoders

    if threads is not None:
        use_threads(threads)
    found = read_index(index, root)
    encoders = find_encoders(model, visual, audio, device if ray is None else "cpu")
    work = Extraction(found, encoders, out, None if grid == "full" else int(grid))
    whole, left = work.size(work.tracks), work.size(work.todo)
    typer.echo(
        f"{len(work.tracks)} tracks, {whole.frames} frames, {whole.sound_s / 60:.1f} min of sound: "
        f"about {as_text(whole.total)} on disk. Still to do: {len(work.todo)} tracks, {as_text(left.total)}."
    )
    with shown_progress("extract") as progress:
        if ray is None or not work.jobs:
            entries = work.run_here(batch, progress)
        else:
            request = FeatureRequest(
                root=found.root, model=model, visual=visual, audio=audio, device=device, threads=threads,
                grid=work.grid, batch=batch,
            )  # fmt: skip
            watcher = work.watcher(progress)
            entries = work.run(choose_cluster(request, work, ray, gpus_per_worker, watcher))
    _say(entries, len(work.jobs) - len(entries), out)


def _say(entries: "Sequence[Entry]", left: int, out: Path) -> None:
    """What became of all videos; leave with the exit code of what went wrong."""
    warnings = [warning for entry in entries for warning in entry.warnings]
    for warning in warnings[:SHOWN]:
        typer.echo(warning, err=True)
    failures = [(entry.error_class, entry.error) for entry in entries if entry.error_class is not None]
    for _, error in failures:
        typer.echo(f"auscan: {error}", err=True)
    frames = sum(entry.rows for entry in entries)
    typer.echo(f"{frames} frames written to {out}, {len(warnings)} pictures not readable")
    codes = [exit_code_of(error_class) for error_class, _ in failures]
    if left:
        typer.echo(f"{left} videos are left. Run the same again, and it does what is left.", err=True)
        codes.append(STOPPED)
    raise typer.Exit(max(codes, default=0))
