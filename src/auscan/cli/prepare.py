"""`auscan prepare`: make the index of a data set on disk, and a report on what is odd about it.

In: the words of the command line.  Out: the folder of an index, a few lines on stdout, progress on stderr.
Not here: the work itself (datasets/prepare.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress


def prepare(
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="The folder in which the data set was unpacked.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="INDEX", help="Folder for the index; made if missing.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--format", help="affwild2, mtl, disfa, bp4d or openface; found out if not given."),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option("--annotations", metavar="DIR", help="Aff-Wild2's labels, where ROOT holds several."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images", metavar="DIR", help="A folder with one folder of crops a track; may repeat."
        ),
    ] = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option("--videos", metavar="DIR", help="Where the videos are, if not in ROOT; may repeat."),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--lists", metavar="PATH", help="Test lists and templates, if not in ROOT; may repeat."),
    ] = None,
) -> None:
    """Index the data set in ROOT: a row a frame, with labels, picture and time."""
    from auscan.datasets.find import Roots
    from auscan.datasets.prepare import prepare as prepare_index

    roots = Roots(
        annotations=tuple(annotations or ()),
        images=tuple(images or ()),
        videos=tuple(videos or ()),
        lists=tuple(lists or ()),
    )
    with show_progress("prepare") as progress:
        summary = prepare_index(root, out, dataset, roots, progress)
    for name, split in summary["splits"].items():
        typer.echo(
            f"{name}: {split['tracks']} tracks, {split['rows']} rows, {split['rows_labelled']} with all "
            f"labels, {split['rows_without_image']} without a picture"
        )
    warning_count, unused = len(summary["warnings"]), len(summary["unused"])
    typer.echo(f"{warning_count} tracks with warnings, {unused} things not used: see {out / 'report.md'}")
