"""Run `auscan agree`: compute the agreement of two coders, people or programs, on one video.

Inputs: two results, annotation files or CSV files of other programs.
Returns: a table or JSON on stdout; with --out also agreement.csv and agreement.svg.
See also: results/agreement/ (measures), results/readers/ (file formats).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.results.agreement.agree import Agreement
    from auscan.results.readers.coding import Coding

_FACE = "Face number in {} if it has several; default: the face with the most frames."


def agree(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result, .eaf, OpenFace or py-feat CSV, or .txt.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Same formats as A.")],
    face_a: Annotated[int | None, typer.Option("--face-a", help=_FACE.format("A"))] = None,
    face_b: Annotated[int | None, typer.Option("--face-b", help=_FACE.format("B"))] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frames per second of files without times.")
    ] = None,
    overlap: Annotated[
        float, typer.Option("--overlap", help="Least overlap (intersection over union) of matching events.")
    ] = 0.5,
    chunk_s: Annotated[
        float, typer.Option("--stretch", metavar="SECONDS", help="Length of a bootstrap block.")
    ] = 5.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for agreement.csv and agreement.svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Compute inter-rater agreement between A and B (Cohen's kappa, ICC(3,1), F1)."""
    from auscan.results.agreement.agree import AgreementSettings, compute_agreement
    from auscan.results.readers.read import read_codings

    settings = AgreementSettings(overlap=overlap, block_s=chunk_s, rate_hz=fps)
    one, other = _face_of(read_codings(a), face_a), _face_of(read_codings(b), face_b)
    agreement = compute_agreement(one, other, settings)
    if out is not None:
        _write(out, agreement)
    if as_json:
        typer.echo(json.dumps(agreement.to_dict(), indent=2, allow_nan=False))
    else:
        _print_tables(agreement)


def _face_of(codings: "list[Coding]", face: int | None) -> "Coding":
    """Return the coding of `face`; for None the one with the most coded frames or events."""
    from auscan.results.readers.coding import FrameCoding

    if face is not None:
        faces = {coding.face: coding for coding in codings}
        if face not in faces:
            names = ", ".join(map(str, faces))
            raise InputError(f"{codings[0].name} has no face {face}. Its faces: {names}.")
        return faces[face]

    def length(coding: "Coding") -> int:
        if isinstance(coding, FrameCoding):
            return int((coding.labels == coding.labels).any(axis=1).sum())  # frames with a label; NaN != NaN
        return len(coding.events)

    return max(codings, key=length)


def _write(out: Path, agreement: "Agreement") -> None:
    from auscan.core.environment import atomic_path
    from auscan.results.agreement.figure import write_figure

    try:
        with atomic_path(out / "agreement.csv") as path:
            agreement.table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")
        write_figure(out / "agreement.svg", agreement)
    except OSError as error:
        raise InputError(
            f"The files cannot be written to {out} ({error.strerror}). Give another folder with --out."
        ) from error


def _print_tables(agreement: "Agreement") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    titles = {"frame": ("Frames", "frames"), "event": ("Events", "units")}
    for level, (title, units) in titles.items():
        table = Table(title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column in (units, "A", "B", "both", "kappa", "95 %", "ICC", "95 %", "F1", "95 %"):
            table.add_column(column, justify="right", no_wrap=True)
        rows = agreement.table[agreement.table["level"] == level].to_dict("records")
        for row in rows:
            counts = (str(row[name]) for name in ("units", "a_active", "b_active", "both"))
            table.add_row(
                *(row["AU"], *counts),
                *(
                    text
                    for name in ("kappa", "icc", "f1")
                    for text in (
                        _format(row[name]),
                        _format_interval(row[f"{name}_low"], row[f"{name}_high"]),
                    )
                ),
            )
        console.print(table)
    for note in agreement.notes:
        console.print(note, highlight=False, markup=False)


def _format(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN != NaN


def _format_interval(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.2f} {high:.2f}"
