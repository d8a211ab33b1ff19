"""Run `auscan evaluate`: compare scores with the labels of an index.

Inputs: the folder of an index and a Parquet file of scores.
Returns: a table or JSON on stdout; with --out also evaluation.json and evaluation.html.
See also: training/evaluation.py (measures).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.training.evaluation import Evaluation, F1Metrics
    from auscan.training.intensity_metrics import IntensityMetrics


def evaluate(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder written by `auscan prepare`.")],
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Parquet file of scores, one row per frame.")
    ],
    split: Annotated[
        str, typer.Option("--split", help="Split to evaluate; `all`: all labelled frames.")
    ] = "val",
    thresholds: Annotated[
        Path | None,
        typer.Option(
            "--thresholds", metavar="FILE", help="Thresholds and smoothing to use instead of tuning."
        ),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(
            "--smooth",
            metavar="N",
            help="Moving average in frames or seconds, or median: 7, 0.5s, 7,AU06=median:0.5s. "
            "`search`: the best of each AU on these scores.",
        ),
    ] = None,
    save_thresholds: Annotated[
        Path | None,
        typer.Option("--save-thresholds", metavar="FILE", help="Save the thresholds tuned on these scores."),
    ] = None,
    rule: Annotated[
        Literal["frame", "element"],
        typer.Option("--rule", help="Count fully labelled frames (official rule), or every single label."),
    ] = "frame",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evaluation.json and evaluation.html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Compute F1 of each AU and the mean, at 0.5 and at tuned thresholds, with 95 % intervals."""
    if thresholds is not None and (smooth is not None or save_thresholds is not None):
        raise InputError(
            "The file of --thresholds sets the smoothing and replaces tuning. Leave out --smooth and "
            "--save-thresholds, or leave out --thresholds."
        )
    from auscan.training.evaluation import evaluate as evaluate_scores
    from auscan.training.scores import read_labels, read_scores, shared_aus
    from auscan.training.smoothing import Smoothing, parse_windows
    from auscan.training.thresholds import Decision, read_decision

    decision = read_decision(thresholds) if thresholds is not None else None
    labels, scored = read_labels(index, split), read_scores(scores)
    windows: tuple[Smoothing, ...] | Literal["search"] = ()
    if smooth is not None:
        windows = "search" if smooth == "search" else parse_windows(smooth, shared_aus(labels, scored))
    evaluation = evaluate_scores(labels, scored, decision, windows, rule)
    if save_thresholds is not None:
        assert evaluation.calibrated_thresholds is not None  # always computed without --thresholds
        calibration, points = (
            evaluation.calibrated_thresholds.calibration,
            evaluation.calibrated_thresholds.operating_points,
        )
        tuned = evaluation.at_tuned.thresholds
        Decision(evaluation.au_names, tuned, evaluation.windows, calibration, points).save(save_thresholds)
    content = {"index": str(index), "scores": str(scores), "split": split, **evaluation.to_dict()}
    text = json.dumps(content, indent=2, allow_nan=False)
    if out is not None:
        _write(out, text, evaluation)
    if as_json:
        typer.echo(text)
    else:
        from auscan.cli.text_table import wrap

        _print_tables(evaluation)
        for sentence in _notes(evaluation):
            typer.echo(wrap(sentence))


def _write(out: Path, text: str, evaluation: "Evaluation") -> None:
    from auscan.core.environment import atomic_path
    from auscan.training.evaluation_figure import write_figure

    with atomic_path(out / "evaluation.json") as path:
        path.write_text(text + "\n", encoding="utf-8")
    write_figure(out / "evaluation.html", evaluation)


def _print_tables(evaluation: "Evaluation") -> None:
    """Print a table of decisions and one of ranking and calibration; each fits 80 columns."""
    from auscan.cli.text_table import format_table

    default, tuned = evaluation.at_default, evaluation.at_tuned
    chosen = "tuned" if evaluation.tuned_here else "given"
    header = ("", "pos.", "F1@.5", "95 %", "thr.", chosen, "95 %", "kappa", "95 %")
    labels = default.f1_all.counts
    rows = [
        (
            name,
            _format_share(labels.positives()[j], labels.labelled()[j]),
            *_f1_cells(default.f1_all, j),
            f"{tuned.thresholds[j]:.2f}",
            *_f1_cells(tuned.f1_all, j),
            *(_format(tuned.f1_all.kappa[j]), _format_interval(*tuned.f1_all.interval.kappa[:, j])),
        )
        for j, name in enumerate(evaluation.au_names)
    ]
    means = [
        (title, "", *_mean_cells(one), "", *_mean_cells(other), "", "")
        for title, one, other in (
            ("f1_all", default.f1_all, tuned.f1_all),
            ("f1_faces", default.f1_faces, tuned.f1_faces),
        )
    ]
    typer.echo(format_table(header, rows, means) + "\n")
    ends = evaluation.auc_interval, evaluation.precision_interval
    rankings = [
        (
            name,
            *(_format(ranking.auc), _format_interval(*ends[0][:, j])),
            *(_format(ranking.average_precision), _format_interval(*ends[1][:, j])),
            _format(evaluation.calibration_error[j]),
        )
        for j, (name, ranking) in enumerate(zip(evaluation.au_names, evaluation.ranking, strict=True))
    ]
    typer.echo(format_table(("", "AUC", "95 %", "AP", "95 %", "ECE"), rankings) + "\n")
    if evaluation.intensity is not None:
        _print_intensities(evaluation.intensity)


def _print_intensities(metrics: "IntensityMetrics") -> None:
    from auscan.cli.text_table import format_table

    header = ("", "frames", "ICC", "95 %", "r", "95 %", "MAE", "95 %")
    rows = [
        (
            name,
            frames,
            *(
                text
                for measure, values in metrics.values.items()
                for text in (_format(values[j]), _format_interval(*metrics.ends[measure][:, j]))
            ),
        )
        for j, (name, frames) in enumerate(
            zip((*metrics.au_names, "mean"), (*map(str, metrics.frames), ""), strict=True)
        )
    ]
    typer.echo(format_table(header, rows[:-1], rows[-1:]) + "\n")


def _f1_cells(metrics: "F1Metrics", j: int) -> tuple[str, str]:
    """Return F1 of an AU and its interval."""
    return _format(metrics.counts.f1()[j]), _format_interval(*metrics.interval.f1[:, j])


def _mean_cells(metrics: "F1Metrics") -> tuple[str, str]:
    return _format(metrics.counts.score()), _format_interval(*metrics.interval.score)


def _notes(evaluation: "Evaluation") -> list[str]:
    """Return the sentences printed below the table."""
    notes = [
        f"{evaluation.frames} of {evaluation.rows} frames are evaluated: {evaluation.tracks} tracks, "
        f"{evaluation.sources} source videos. {evaluation.frames_without_face} frames without a face have "
        "interpolated scores in f1_all and are left out of f1_faces."
    ]
    if evaluation.not_scored:
        notes.append(
            f"Not in the table and not in the means, without scores: {', '.join(evaluation.not_scored)}."
        )
    if evaluation.not_labelled:
        notes.append(f"Not in the table, without labels: {', '.join(evaluation.not_labelled)}.")
    if evaluation.frames_without_score:
        notes.append(
            f"In {evaluation.frames_without_score} frames an AU has no score in its whole track and counts "
            "as inactive."
        )
    if evaluation.sources < 2:
        notes.append("Intervals need at least two source videos.")
    if evaluation.tuned_here:
        notes.append("The thresholds were tuned on the evaluated frames, so the tuned F1 is optimistic.")
    if evaluation.smoothing_searched:
        chosen = zip(evaluation.au_names, evaluation.windows, strict=True)
        notes.append(
            "Smoothing of best F1 on these frames (1: none): "
            f"{', '.join(f'{name} {window}' for name, window in chosen)}."
        )
    if (others := evaluation.cross_fitted) is not None:
        chosen_here = "smoothing and thresholds" if evaluation.smoothing_searched else "thresholds"
        notes.append(
            f"With the {chosen_here} of each video tuned on the other videos, f1_all is "
            f"{others.counts.score():.3f} ({_format_interval(*others.interval.score)})."
        )
    if (error := _mean(evaluation.calibration_error)) is not None:
        text = f"The mean expected calibration error is {error:.3f}"
        after = None if evaluation.calibrated_error is None else _mean(evaluation.calibrated_error)
        notes.append(
            f"{text}." if after is None else f"{text}, {after:.3f} after calibration on the other videos."
        )
    return notes


def _mean(values: tuple[float, ...]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None


def _format(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"  # NaN != NaN


def _format_interval(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.2f}..{high:.2f}"


def _format_share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
