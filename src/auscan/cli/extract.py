"""Run `auscan extract`: compute the features of the frozen encoders for a data set and cache them.

Inputs: the folder of an index.
Returns: a folder of features; an estimate and a summary on stdout, progress on stderr.
See also: datasets/features.py (features), batch/extract.py (jobs).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from auscan.cli.model_options import GpusPerWorkerOption, RayOption, ThreadsOption
from auscan.cli.progress import show_progress
from auscan.core.errors import EXIT_INTERRUPTED, InputError, exit_code_of

if TYPE_CHECKING:
    from auscan.datasets.features import CropSource
    from auscan.results.manifest import ManifestRecord

MAX_WARNINGS = 5
"""Warnings printed to stderr; further ones are only counted."""


def extract(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder written by `auscan prepare`.")],
    out: Annotated[Path, typer.Option("--out", metavar="CACHE", help="Folder for the features.")],
    model: Annotated[
        str, typer.Option("--model", help="base, large, nano, a checkpoint folder, or an end-to-end run.")
    ] = "base",
    visual: Annotated[
        list[str] | None,
        typer.Option(
            "--visual",
            help="Visual weights for base or large: local folder or hub name@revision. Repeat for several.",
        ),
    ] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(
            "--audio",
            help="Audio weights for base or large: local folder or hub name@revision. Repeat for several.",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="G",
            help="Average patches to G x G; `full` keeps all. Default: 8, or all if the encoder has fewer.",
        ),
    ] = None,
    crops: Annotated[
        str | None,
        typer.Option(
            "--crops",
            help="Source of the crops: video or pictures. Default: video if pictures would be enlarged.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="New folder of the data set, if it has moved.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Device of the encoders: cpu, cuda, cuda:1 or mps.")
    ] = "cpu",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures per batch.")] = 64,
    threads: ThreadsOption = None,
    ray: RayOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
) -> None:
    """Compute visual and audio features of all tracks in INDEX; resumes an interrupted run."""
    if grid not in (None, "full") and not grid.isdecimal():
        raise InputError(f"--grid {grid} is not valid. Give a number such as 4, or full.")
    if crops not in (None, "video", "pictures"):
        raise InputError(f"--crops {crops} is not valid. Give video or pictures.")
    if gpus_per_worker is not None and ray is None:
        raise InputError("--gpus-per-worker requires --ray.")
    from auscan.batch.extract import Extraction, ExtractRequest, make_ray_runner
    from auscan.core.checkpoint_folder import pin_checkpoint
    from auscan.datasets.cache import format_bytes
    from auscan.datasets.frozen_encoders import use_threads
    from auscan.datasets.index import read_index
    from auscan.training.find_encoders import find_encoders

    if threads is not None:
        use_threads(threads)
    dataset_index = read_index(index, root)
    model = pin_checkpoint(model)
    encoders = find_encoders(model, visual, audio, device if ray is None else "cpu")
    patches_per_side = encoders.grid if grid == "full" else None if grid is None else int(grid)
    source = cast("CropSource | None", crops)
    extraction = Extraction(dataset_index, encoders, out, patches_per_side, source)
    total, remaining = extraction.cache_size(extraction.tracks), extraction.cache_size(extraction.pending)
    typer.echo(
        f"{len(extraction.tracks)} tracks, {total.frames} frames, {total.sound_s / 60:.1f} min of sound: "
        f"about {format_bytes(total.total)} on disk. Remaining: {len(extraction.pending)} tracks, "
        f"{format_bytes(remaining.total)}."
    )
    typer.echo(_describe_patches(extraction.grid))
    side, from_pictures = extraction.enlarged_from, extraction.count_from_pictures()
    typer.echo(
        f"Crops: {encoders.crop_size} px, of {len(extraction.tracks) - from_pictures} tracks from the video "
        f"and of {from_pictures} tracks from the pictures."
    )
    if side is not None and from_pictures:
        typer.echo(
            f"warning: pictures of {side} px are enlarged to {encoders.crop_size} px, but auscan detect cuts "
            f"{encoders.crop_size} px from the frame, which is sharper than in training.",
            err=True,
        )
    with show_progress("extract") as progress:
        if ray is None or not extraction.jobs:
            records = extraction.run_here(batch, progress)
        else:
            request = ExtractRequest(
                root=dataset_index.root, model=model, visual=visual, audio=audio, device=device,
                threads=threads, grid=extraction.grid, batch=batch, crops=extraction.crops,
            )  # fmt: skip
            listener = extraction.listener(progress)
            records = extraction.run(make_ray_runner(request, extraction, ray, gpus_per_worker, listener))
    _print_summary(records, len(extraction.jobs) - len(records), out)


def _describe_patches(grid: int) -> str:
    """Return a line on the patches of a frame, N, and how many of them a new network keeps, k."""
    from auscan.core.config import AlignmentConfig

    count, alignment = grid**2, AlignmentConfig()
    return (
        f"N = {count} patches a frame ({grid} x {grid}), of which a new network keeps "
        f"k = {alignment.active_count(count)} "
        f"(model.alignment.active_share {alignment.active_share}; k must be below {count})."
    )


def _print_summary(records: "Sequence[ManifestRecord]", remaining: int, out: Path) -> None:
    """Print warnings, errors and counts; exit with the highest exit code of the errors."""
    warnings = [warning for record in records for warning in record.warnings]
    for warning in warnings[:MAX_WARNINGS]:
        typer.echo(warning, err=True)
    failures = [(record.error_class, record.error) for record in records if record.error_class is not None]
    for _, error in failures:
        typer.echo(f"auscan: {error}", err=True)
    frames = sum(record.rows for record in records)
    typer.echo(f"{frames} frames written to {out}, {len(warnings)} warnings")
    codes = [exit_code_of(error_class) for error_class, _ in failures]
    if remaining:
        typer.echo(f"{remaining} videos remain. Run the same command again to process them.", err=True)
        codes.append(EXIT_INTERRUPTED)
    raise typer.Exit(max(codes, default=0))
