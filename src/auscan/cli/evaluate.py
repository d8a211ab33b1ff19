"""`auscan evaluate`: hold scores against the labels of an index.

In: the folder of an index and a Parquet of scores.  Out: a table or JSON on stdout, and files if asked for.
Not here: the figures themselves (training/evaluation.py).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.training.evaluation import Evaluation


def evaluate(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder that `auscan prepare` wrote.")],
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Parquet of scores, a row a frame.")],
    split: Annotated[
        str, typer.Option("--split", help="Split to score; `all` takes all with labels.")
    ] = "val",
    thresholds: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="Use these thresholds and their smoothing."),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option("--smooth", metavar="N", help="Moving average in frames: 7, or 7,AU06=15,AU23=1."),
    ] = None,
    save_thresholds: Annotated[
        Path | None,
        typer.Option("--save-thresholds", metavar="FILE", help="Tune on these scores and keep the result."),
    ] = None,
    rule: Annotated[
        Literal["frame", "element"],
        typer.Option("--rule", help="Count frames with all labels (official), or every label there is."),
    ] = "frame",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evaluation.json and evaluation.html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Give the F1 of every AU and their mean, at 0.5 and at tuned thresholds, with 95 % intervals."""
    if thresholds is not None and (smooth is not None or save_thresholds is not None):
        raise InputError(
            "--thresholds brings its own smoothing and is not tuned again. Leave out --smooth and "
            "--save-thresholds, or leave out --thresholds."
        )
    from auscan.training.evaluation import evaluate as evaluate_scores
    from auscan.training.scores import read_labels, read_scores
    from auscan.training.smoothing import NO_SMOOTHING, parse_windows
    from auscan.training.thresholds import Decision, read_decision

    decision = read_decision(thresholds) if thresholds is not None else None
    windows = parse_windows(smooth) if smooth is not None else NO_SMOOTHING
    evaluation = evaluate_scores(read_labels(index, split), read_scores(scores), decision, windows, rule)
    if save_thresholds is not None:
        assert evaluation.calibrated_thresholds is not None  # as no thresholds were given
        calibration, points = (
            evaluation.calibrated_thresholds.calibration,
            evaluation.calibrated_thresholds.operating_points,
        )
        Decision(evaluation.at_tuned.thresholds, windows, calibration, points).save(save_thresholds)
    content = {"index": str(index), "scores": str(scores), "split": split, **evaluation.to_dict()}
    text = json.dumps(content, indent=2, allow_nan=False)
    if out is not None:
        _write(out, text, evaluation)
    if as_json:
        typer.echo(text)
    else:
        _print_table(evaluation)


def _write(out: Path, text: str, evaluation: "Evaluation") -> None:
    from auscan.core.atomic_write import atomic_path
    from auscan.training.evaluation import write_figure

    with atomic_path(out / "evaluation.json") as path:
        path.write_text(text + "\n", encoding="utf-8")
    write_figure(out / "evaluation.html", evaluation)


def _print_table(evaluation: "Evaluation") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from auscan.core.aus import AU_NAMES

    default, tuned = evaluation.at_default, evaluation.at_tuned
    # Narrow enough for a terminal of 80 columns.
    table = Table("", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("yes", "AUC", "AP", "ECE", "F1@.5", "95 %", "kappa", "cut", "tuned", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    counts, ends = default.f1_all.counts, (default.f1_all.interval, tuned.f1_all.interval)
    f1, f1_tuned = counts.f1(), tuned.f1_all.counts.f1()
    for j, name in enumerate(AU_NAMES):
        table.add_row(
            name,
            _format_share(counts.positives()[j], counts.labelled()[j]),
            _format(evaluation.ranking[j].auc),
            _format(evaluation.ranking[j].average_precision),
            _format(evaluation.calibration_error[j]),
            *(_format(f1[j]), _format_interval(*ends[0].f1[:, j]), _format(default.f1_all.kappa[j])),
            *(f"{tuned.thresholds[j]:.2f}", _format(f1_tuned[j]), _format_interval(*ends[1].f1[:, j])),
        )
    table.add_section()
    for title, one, other in (
        ("f1_all", default.f1_all, tuned.f1_all),
        ("f1_faces", default.f1_faces, tuned.f1_faces),
    ):
        table.add_row(
            *(
                title,
                "",
                "",
                "",
                "",
                _format(one.counts.score()),
                _format_interval(*one.interval.score),
                "",
                "",
            ),
            *(_format(other.counts.score()), _format_interval(*other.interval.score)),
        )
    console = Console()
    console.print(table)
    for sentence in _notes(evaluation):
        console.print(sentence, highlight=False)


def _notes(evaluation: "Evaluation") -> list[str]:
    """What a reader of the table must know."""
    notes = [
        f"{evaluation.frames} of {evaluation.rows} frames count; {evaluation.tracks} tracks, "
        f"{evaluation.sources} source videos. {evaluation.frames_without_face} frames without a face were "
        "filled in for f1_all and left out of f1_faces."
    ]
    if evaluation.frames_without_score:
        notes.append(
            f"In {evaluation.frames_without_score} frames an AU has no score in its whole track and says no."
        )
    if evaluation.sources < 2:
        notes.append("One source video gives no intervals.")
    if evaluation.tuned_here:
        notes.append("The cuts were tuned on these very frames, which flatters.")
    if (others := evaluation.cross_fitted) is not None:
        notes.append(
            f"With the cuts of each video tuned on other videos, f1_all is {others.counts.score():.3f} "
            f"({_format_interval(*others.interval.score)})."
        )
    if (error := _mean(evaluation.calibration_error)) is not None:
        text = f"The expected calibration error is {error:.3f} in the mean"
        after = None if evaluation.calibrated_error is None else _mean(evaluation.calibrated_error)
        notes.append(f"{text}." if after is None else f"{text}, {after:.3f} calibrated on other videos.")
    return notes


def _mean(values: tuple[float, ...]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None


def _format(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"  # NaN differs from itself


def _format_interval(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.2f}-{high:.2f}"


def _format_share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
