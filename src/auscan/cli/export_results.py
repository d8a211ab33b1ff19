"""`auscan export-results`: a result in the formats of other programs.

In: what `auscan detect` wrote.  Out: files, their paths on stdout.
Not here: the formats (results/exports/), checkpoints as graphs (export.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.core.errors import InputError


def export_results(
    path: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Folder that `detect` wrote, or the table in it.")
    ],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="openface, pyfeat, elan, textgrid, bids, wide or jsonl; may be given several times.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the files; RESULT's own if left out."),
    ] = None,
) -> None:
    """Write RESULT as OpenFace or py-feat CSV, for ELAN, Praat or BIDS, as a wide CSV or as JSON Lines."""
    from auscan.results.exports.content import find_media, open_result
    from auscan.results.exports.write import export_result

    result = open_result(path)
    folder = out if out is not None else path if path.is_dir() else path.parent
    try:
        files = export_result(result, to, folder, find_media(path, result.info.source))
    except OSError as error:
        raise InputError(
            f"The files cannot be written to {folder} ({error.strerror}). Give another folder with --out."
        ) from error
    for file in files:
        typer.echo(str(file))
