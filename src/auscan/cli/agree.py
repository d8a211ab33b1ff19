"""Run `auscan agree`: compute the agreement of two coders, people or programs, on one video.

Inputs: two results, annotation files or CSV files of other programs.
Returns: tables or JSON on stdout; with --out also agreement.csv, agreement.svg and, if both have
intensities, intensities.csv.
See also: results/agreement/ (measures), results/readers/ (file formats).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from rich.table import Table

    from auscan.results.agreement.agree import Agreement

_TITLES = {"kappa": "kappa", "icc": "ICC", "f1": "F1", "r": "r", "mae": "MAE"}
_FACE = "Face number in {} if it has several; default: the face that is also in {}."


def agree(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result, .eaf, OpenFace or py-feat CSV, or .txt.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Same formats as A.")],
    face_a: Annotated[int | None, typer.Option("--face-a", help=_FACE.format("A", "B"))] = None,
    face_b: Annotated[int | None, typer.Option("--face-b", help=_FACE.format("B", "A"))] = None,
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
        Path | None,
        typer.Option("--out", help="Folder for agreement.csv, intensities.csv and agreement.svg."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Compute inter-rater agreement between A and B (Cohen's kappa, ICC(3,1), F1; r, MAE of intensities)."""
    from auscan.results.agreement.agree import AgreementSettings, compute_agreement
    from auscan.results.agreement.pairing import pair_faces
    from auscan.results.readers.read import read_codings

    settings = AgreementSettings(overlap=overlap, block_s=chunk_s, rate_hz=fps)
    pair = pair_faces(read_codings(a), read_codings(b), face_a, face_b, fps)
    agreement = compute_agreement(pair.a, pair.b, settings)
    if pair.others:
        typer.echo(
            f"Other faces that both have, and that are not compared: {'; '.join(pair.others)}. "
            "Choose with --face-a and --face-b.",
            err=True,
        )
    if out is not None:
        _write(out, agreement)
    if as_json:
        typer.echo(json.dumps(agreement.to_dict(), indent=2, allow_nan=False))
    else:
        _print_tables(agreement)


def _write(out: Path, agreement: "Agreement") -> None:
    from auscan.core.environment import atomic_path
    from auscan.results.agreement.figure import write_figure

    try:
        tables = {"agreement.csv": agreement.table, "intensities.csv": agreement.intensities}
        for name, table in tables.items():
            if table.empty:
                (out / name).unlink(missing_ok=True)  # of an earlier run
                continue
            with atomic_path(out / name) as path:
                table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")
        write_figure(out / "agreement.svg", agreement)
    except OSError as error:
        raise InputError(
            f"The files cannot be written to {out} ({error.strerror}). Give another folder with --out."
        ) from error


def _print_tables(agreement: "Agreement") -> None:
    from rich.console import Console

    from auscan.results.agreement.agree import COUNTS
    from auscan.results.agreement.measures import INTENSITY_MEASURES, MEASURES

    console = Console()
    for level, title, units in (("frame", "Frames", "frames"), ("event", "Events", "units")):
        of_level = agreement.table[agreement.table["level"] == level]
        counts = dict(zip(COUNTS, (units, "A", "B", "both"), strict=True))
        console.print(_table(title, of_level, counts, MEASURES))
    if not agreement.intensities.empty:
        console.print(_table("Intensities", agreement.intensities, {"frames": "frames"}, INTENSITY_MEASURES))
    for note in agreement.notes:
        console.print(note, highlight=False, markup=False)


def _table(
    title: str, figures: "pd.DataFrame", counts: "Mapping[str, str]", measures: "Sequence[str]"
) -> "Table":
    """Return a table for the terminal.  counts: title of each column with a number, by its name."""
    from rich import box
    from rich.table import Table

    table = Table(title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in (*counts.values(), *(text for name in measures for text in (_TITLES[name], "95 %"))):
        table.add_column(column, justify="right", no_wrap=True)
    for row in figures.to_dict("records"):
        texts = [row["AU"], *(str(row[name]) for name in counts)]
        for name in measures:
            texts += [_format(row[name]), _format_interval(row[f"{name}_low"], row[f"{name}_high"])]
        table.add_row(*texts)
    return table


def _format(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN != NaN


def _format_interval(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.2f} {high:.2f}"
