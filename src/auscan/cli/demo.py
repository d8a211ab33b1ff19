"""Run `auscan demo`: make a clip from a portrait and detect its action units.

Inputs: an output folder.
Returns: the clip, its table, overlay and report in that folder; a table of the AUs on stdout.
See also: pipeline/demo.py (the clip).
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.model_options import BackendOption, DeviceOption, ThreadsOption
from auscan.cli.progress import show_progress
from auscan.core.aus import ACTION_UNITS, au_columns

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FOLDER = Path("auscan-demo")
"""Default of --out; listed in .gitignore."""


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the clip and its results.")] = DEFAULT_FOLDER,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Make a short clip of a smiling face, detect its action units and show them."""
    from auscan.core.config import Options
    from auscan.inference.load import load_engine
    from auscan.pipeline.demo import make_demo_clip
    from auscan.pipeline.detect import write_result

    clip = out / "astronaut.mp4"
    make_demo_clip(clip)
    engine, options = load_engine("nano", backend, device, threads), Options(overlay=True, report=True)
    command = shlex.join(["auscan", *sys.argv[1:]])
    with show_progress(clip.name) as progress:
        result = write_result(clip, out, engine, options, command, progress)
    _print_table(result.table)
    typer.echo("The face smiles: expect AU06, AU12 and AU25 active, AU04 and AU15 inactive.")
    typer.echo(f"Overlay: {out / 'overlay.mp4'}")
    typer.echo(f"Report:  {out / 'report.html'}")
    typer.echo(f"Tables:  {out / 'aus.csv'}, {out / 'events.csv'}; summary: {out / 'summary.json'}")


def _print_table(table: "pd.DataFrame") -> None:
    """Print for each AU its meaning, the share of face rows with it active and its mean probability."""
    from rich.console import Console
    from rich.table import Table

    faces = table[table["success"] == 1]
    au_table = Table("AU", "meaning")
    for title in ("active", "mean probability"):
        au_table.add_column(title, justify="right")
    for name in au_columns(table.columns):
        known = bool(faces[name].notna().any())
        share = f"{faces[f'{name}_c'].mean():.0%}" if known else "unknown"
        au_table.add_row(
            name, ACTION_UNITS[name].meaning, share, f"{faces[name].mean():.2f}" if known else "unknown"
        )
    console = Console()
    console.print(f"A face in {faces['frame'].nunique()} of {table['frame'].nunique()} frames.")
    console.print(au_table)
