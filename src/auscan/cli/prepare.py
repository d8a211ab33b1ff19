"""Run `auscan prepare`: index a data set on disk and report its irregularities.

Returns: the folder of an index, counts on stdout, progress on stderr.
See also: datasets/prepare.py.
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress


def prepare(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the unpacked data set.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="INDEX", help="Folder for the index; made if missing.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--format", help="affwild2, mtl, disfa, bp4d, openface, own or synth; default: detected."
        ),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option("--annotations", metavar="DIR", help="Labels of Aff-Wild2, if ROOT has several sets."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images", metavar="DIR", help="Folder with one folder of crops per track; repeatable."
        ),
    ] = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option("--videos", metavar="DIR", help="Folder of videos outside ROOT; repeatable."),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--lists", metavar="PATH", help="Test lists and templates outside ROOT; repeatable."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option("--names", metavar="FILE", help="AUs of the coders' tier names, YAML or CSV."),
    ] = None,
    coder: Annotated[
        str | None,
        typer.Option("--coder", metavar="NAME", help="Coder whose coding is the label, or majority."),
    ] = None,
) -> None:
    """Index the data set in ROOT: one row per frame with labels, picture and time."""
    from auscan.datasets.find import Roots
    from auscan.datasets.prepare import CoderOptions
    from auscan.datasets.prepare import prepare as prepare_index

    roots = Roots(
        annotations=tuple(annotations or ()),
        images=tuple(images or ()),
        videos=tuple(videos or ()),
        lists=tuple(lists or ()),
    )
    with show_progress("prepare") as progress:
        summary = prepare_index(root, out, dataset, roots, progress, CoderOptions(names, coder))
    for name, split in summary["splits"].items():
        typer.echo(
            f"{name}: {split['tracks']} tracks, {split['rows']} rows, {split['rows_labelled']} with all "
            f"labels, {split['rows_without_image']} without a picture"
        )
    warning_count, unused = len(summary["warnings"]), len(summary["unused"])
    typer.echo(f"{warning_count} tracks with warnings, {unused} unused items: see {out / 'report.md'}")
