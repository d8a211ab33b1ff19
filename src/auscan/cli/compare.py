"""Run `auscan compare`: the paired difference of two sets of scores.

Inputs: two Parquet files of scores and the folder of an index. Returns: a table or JSON on stdout.
See also: training/compare.py (measures), cli/evaluate.py (one set of scores).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.training.compare import Comparison, Difference


def compare(
    scores_a: Annotated[Path, typer.Argument(metavar="SCORES_A", help="Parquet file of scores.")],
    scores_b: Annotated[Path, typer.Argument(metavar="SCORES_B", help="Scores of the same frames.")],
    index: Annotated[Path, typer.Option("--index", metavar="INDEX", help="Folder with the labels.")],
    split: Annotated[
        str, typer.Option("--split", help="Split to compare on; `all`: all labelled frames.")
    ] = "val",
    thresholds: Annotated[
        list[Path] | None,
        typer.Option(
            "--thresholds", metavar="FILE", help="Thresholds of both, or twice: of A, of B. Default: 0.5."
        ),
    ] = None,
    rule: Annotated[
        Literal["frame", "element"],
        typer.Option("--rule", help="Count fully labelled frames (official rule), or every single label."),
    ] = "frame",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Compute the difference B - A of F1 and AUC, with 95 % intervals."""
    files = thresholds or []
    if len(files) > 2:
        raise InputError("Give --thresholds once for both scores, or twice: for A and for B.")
    from auscan.training.compare import compare as compare_scores
    from auscan.training.scores import read_labels, read_scores
    from auscan.training.thresholds import read_decision

    decisions = [read_decision(file) for file in files]
    pair = (decisions[0], decisions[-1]) if decisions else (None, None)
    tables = read_scores(scores_a), read_scores(scores_b)
    comparison = compare_scores(read_labels(index, split), tables, pair, rule)
    if as_json:
        sources = {"index": str(index), "a": str(scores_a), "b": str(scores_b), "split": split}
        typer.echo(json.dumps({**sources, **comparison.to_dict()}, indent=2, allow_nan=False))
    else:
        _print_table(comparison)


def _print_table(comparison: "Comparison") -> None:
    from auscan.cli.text_table import format_table, wrap

    header = ("", *("F1 A", "F1 B", "B - A", "95 %"), *("AUC A", "AUC B", "B - A", "95 %"))
    f1, auc = _cells(comparison.f1), _cells(comparison.auc)
    rows = [(name, *f1[j], *auc[j]) for j, name in enumerate((*comparison.au_names, "mean"))]
    typer.echo(format_table(header, rows[:-1], rows[-1:]) + "\n")
    typer.echo(
        wrap(f"{comparison.frames} frames of {comparison.sources} source videos. The intervals are of B - A.")
    )
    if comparison.sources < 2:
        typer.echo(wrap("Intervals need at least two source videos."))
    if comparison.left_out:
        typer.echo(wrap(f"Not in labels and both scores: {', '.join(comparison.left_out)}."))


def _cells(difference: "Difference") -> list[tuple[str, ...]]:
    columns = zip(difference.a, difference.b, difference.difference, *difference.ends, strict=True)
    return [
        (_format(a), _format(b), _format(change, "+.3f"), "-" if low != low else f"{low:+.3f} {high:+.3f}")
        for a, b, change, low, high in columns
    ]


def _format(value: float, form: str = ".3f") -> str:
    return "-" if value != value else format(value, form)  # NaN != NaN
