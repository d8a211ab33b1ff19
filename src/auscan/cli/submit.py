"""Run `auscan submit` and `auscan check-submission`: write and check a challenge submission.

Inputs: submit: scores, a template, thresholds; check-submission: a submission and its template.
Returns: submit: the submission; both: its counts on stdout.
See also: training/submission.py (formats and rules).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.training.submission import Submission

_Template = Annotated[
    Path,
    typer.Option("--template", metavar="T", help="Template of the organisers, or their list of tracks."),
]


def submit(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Parquet file of scores, one row per frame.")
    ],
    template: _Template,
    out: Annotated[Path, typer.Option("--out", help="File to write; for a list of tracks, a new folder.")],
    thresholds: Annotated[
        Path | None,
        typer.Option(
            "--thresholds", metavar="FILE", help="Thresholds and smoothing; default: 0.5, no smoothing."
        ),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option("--smooth", metavar="N", help="As for `auscan evaluate`; excludes --thresholds."),
    ] = None,
    allow_difference: Annotated[
        int,
        typer.Option(
            "--allow-difference",
            metavar="N",
            min=0,
            help="Frames by which a track may be shorter (last score repeated) or longer (cut).",
        ),
    ] = 2,
) -> None:
    """Write SCORES as a submission in the form of a template and check it."""
    if thresholds is not None and smooth is not None:
        raise InputError("The file of --thresholds sets the smoothing. Leave out --smooth or --thresholds.")
    from auscan.training.scores import read_scores
    from auscan.training.smoothing import parse_windows
    from auscan.training.submission import write_submission
    from auscan.training.thresholds import Decision, read_decision

    decision = None if thresholds is None else read_decision(thresholds)
    if smooth is not None:
        decision = Decision(AFFWILD2_AUS, windows=parse_windows(smooth, AFFWILD2_AUS))
    submission, repairs = write_submission(read_scores(scores), template, out, decision, allow_difference)
    _print(submission, out)
    for number, meaning in (
        (repairs.without_face, "rows have no face; their scores are interpolated."),
        (repairs.repeated, "rows repeat the last prediction of their track."),
        (repairs.cut, "predictions lie beyond their track's last row and were cut."),
        (repairs.without_score, "rows lack the scores of an AU in their whole track; it is set to 0."),
        (repairs.tracks_left_out, "tracks have scores but no rows in the template and were left out."),
    ):
        if number:
            typer.echo(f"{number} {meaning}")
    if repairs.aus_left_out:
        typer.echo(f"Left out, because a submission does not have them: {', '.join(repairs.aus_left_out)}.")


def check_submission(
    path: Annotated[
        Path, typer.Argument(metavar="SUBMISSION", help="Submission file, or folder with a file per track.")
    ],
    template: _Template,
) -> None:
    """Compare a submission with its template byte by byte."""
    from auscan.training.submission import check_submission as check

    _print(check(path, template), path)


def _print(submission: "Submission", path: Path) -> None:
    typer.echo(f"{path}: {submission.tracks} tracks, {submission.rows} rows; matches the template.")
    shares = ", ".join(f"{name} {share:.1%}" for name, share in submission.active.items())
    typer.echo(f"Active in: {shares}")
