"""Run `auscan finetune`: fine-tune a checkpoint on one's own labels and compare it with the checkpoint.

Returns: the folder of a checkpoint; on stdout F1 before and after with intervals, and whether it is a gain.
Beside it, in OUT.work: the index, the features and the runs.
See also: datasets/own_labels.py (labels), training/finetune.py.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from auscan.cli.progress import show_progress
from auscan.cli.text_table import format_table, wrap
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.datasets.index import Index
    from auscan.training.finetune_report import FineTuning, People

REPORT_FILE = "finetune.json"
"""Name of the report in OUT.work."""


def finetune(
    labels: Annotated[Path, typer.Option("--labels", metavar="FOLDER", help="Folder of the coders' files.")],
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="Folder for the new checkpoint.")],
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="FOLDER", help="Folder of the videos; default: that of the labels."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", help="Checkpoint to start from: nano, a folder, or user/name on the Hub."),
    ] = "nano",
    aus: Annotated[
        str | None, typer.Option("--aus", help="AUs to train, such as AU12,AU15; default: all labelled.")
    ] = None,
    people: Annotated[
        str | None,
        typer.Option("--people", help="held-out (10 people or more) or k-fold. Default: by their number."),
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
    """Fine-tune a checkpoint on your own labels; prints F1 before and after on other people."""
    if people not in (None, "held-out", "k-fold"):
        raise InputError(f"--people {people} is not valid. Give held-out or k-fold.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder. Give another one with --out.")
    from auscan.core.aus import canonical_name
    from auscan.core.checkpoint_folder import pin_checkpoint
    from auscan.training.finetune import finetune as finetune_network

    began_s = time.monotonic()
    chosen = None if aus is None else [canonical_name(au) for au in aus.split(",")]
    model = pin_checkpoint(model)
    work = out.with_name(f"{out.name}.work")
    index = _extract(labels, videos, names, coder, model, work)
    result = finetune_network(
        index, work / "features", out, work, model, chosen, cast("People | None", people), typer.echo
    )
    minutes = (time.monotonic() - began_s) / 60
    (work / REPORT_FILE).write_text(
        json.dumps({**result.to_dict(), "minutes": round(minutes, 1)}, indent=1) + "\n", encoding="utf-8"
    )
    _print(result)
    typer.echo(wrap(f"{out}: the new model, in {minutes:.1f} min. Use it: auscan detect VIDEO --model {out}"))
    typer.echo(wrap(f"{work}: index, features and runs; delete it if you do not need them."))


def _extract(
    labels: Path, videos: Path | None, names: Path | None, coder: str | None, model: str, work: Path
) -> "Index":
    """Prepare the index of the labels and the features of its videos; return the index."""
    from auscan.batch.extract import Extraction
    from auscan.datasets.find import Roots
    from auscan.datasets.frozen_encoders import load_encoders
    from auscan.datasets.index import read_index
    from auscan.datasets.prepare import CoderOptions, prepare
    from auscan.model.checkpoint import load_checkpoint

    roots = Roots(videos=() if videos is None else (videos,))
    with show_progress("prepare") as progress:
        prepare(labels, work / "index", None, roots, progress, CoderOptions(names, coder))
    index = read_index(work / "index")
    network, _ = load_checkpoint(model)
    extraction = Extraction(
        index, load_encoders(model), work / "features", network.visual.grid, crops="video"
    )
    with show_progress("extract") as progress:
        records = extraction.run_here(progress=progress)
    for warning in (warning for record in records for warning in record.warnings):
        typer.echo(warning, err=True)
    failed = [record.error for record in records if record.error is not None]
    if failed:
        raise InputError(f"{len(failed)} videos could not be processed, the first: {failed[0]}")
    return index


def _print(result: "FineTuning") -> None:
    """Print F1 before and after, and whether it is a gain."""
    rows = [
        (
            au,
            "" if result.verdict(j) == "new" else f"{result.before[j]:.3f}",
            f"{result.after[j]:.3f}",
            "" if result.verdict(j) == "new" else f"{low:+.3f}",
            "" if result.verdict(j) == "new" else f"{high:+.3f}",
            result.verdict(j),
        )
        for j, (au, (low, high)) in enumerate(zip(result.au_names, result.interval.T.tolist(), strict=True))
    ]
    typer.echo(f"F1 on {result.frames} frames of {result.people} people that were not trained on:")
    typer.echo(format_table(("AU", "before", "after", "from", "to", ""), rows))
    typer.echo(wrap("from, to: 95 % interval of the difference, over people."))
    typer.echo(wrap(result.sentence))
