"""Run `auscan export-results`: write a result in formats of other programs.

Inputs: a folder written by `auscan detect`, or its table.
Returns: files; their paths on stdout.
See also: results/exports/ (formats), export.py (checkpoints as ONNX graphs).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.core.errors import InputError


def export_results(
    path: Annotated[Path, typer.Argument(metavar="RESULT", help="Folder written by `detect`, or its table.")],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="openface, pyfeat, elan, textgrid, bids, wide or jsonl; repeatable.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the files; default: folder of RESULT."),
    ] = None,
) -> None:
    """Export RESULT to OpenFace, py-feat, ELAN, Praat, BIDS, a wide CSV (SPSS, R) or JSON Lines."""
    from auscan.results.read import find_media, open_result

    result = open_result(path)
    folder = out if out is not None else path if path.is_dir() else path.parent
    try:
        files = result.export(to=to, folder=folder, media=find_media(path, result.info.source))
    except OSError as error:
        raise InputError(
            f"The files cannot be written to {folder} ({error.strerror}). Give another folder with --out."
        ) from error
    for file in files:
        typer.echo(str(file))
