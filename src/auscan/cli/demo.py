"""`auscan demo`: a first try without a video of one's own.

In: where to put it.  Out: a clip, its table, overlay and report in one folder, and the AU table on stdout.
Not here: the clip (pipeline/demo.py).
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.model_options import BackendOption, DeviceOption, ThreadsOption
from auscan.cli.progress import show_progress
from auscan.core.aus import AU_MEANINGS

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FOLDER = Path("auscan-demo")
"""Where the demo goes unless told otherwise; git ignores it."""


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the clip and its results.")] = DEFAULT_FOLDER,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Make a short clip of a smiling face, find its action units, and show them."""
    from auscan.core.config import Options
    from auscan.inference.load import load_engine
    from auscan.pipeline.demo import make_demo_clip
    from auscan.pipeline.outputs import write_result

    clip = out / "astronaut.mp4"
    make_demo_clip(clip)
    engine, options = load_engine("nano", backend, device, threads), Options(overlay=True, report=True)
    command = shlex.join(["auscan", *sys.argv[1:]])
    with show_progress(clip.name) as progress:
        result = write_result(clip, out, engine, options, command, progress)
    _print_table(result.table)
    typer.echo("She smiles: AU06, AU12 and AU25 should be on, AU04 and AU15 off.")
    typer.echo(f"Watch {out / 'overlay.mp4'}")
    typer.echo(f"Open  {out / 'report.html'}")
    typer.echo(f"Read  {out / 'aus.csv'}, {out / 'events.csv'} and {out / 'summary.json'}")


def _print_table(table: "pd.DataFrame") -> None:
    """For each AU what it does, the share of face rows in which it is on, and its mean probability."""
    from rich.console import Console
    from rich.table import Table

    faces = table[table["success"] == 1]
    au_table = Table("AU", "meaning")
    for title in ("on in", "mean probability"):
        au_table.add_column(title, justify="right")
    for name, meaning in AU_MEANINGS.items():
        known = bool(faces[name].notna().any())
        share = f"{faces[f'{name}_c'].mean():.0%}" if known else "unknown"
        au_table.add_row(name, meaning, share, f"{faces[name].mean():.2f}" if known else "unknown")
    console = Console()
    console.print(f"A face in {faces['frame'].nunique()} of {table['frame'].nunique()} frames.")
    console.print(au_table)
