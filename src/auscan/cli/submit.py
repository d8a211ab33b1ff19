"""`auscan submit` and `auscan check-submission`: what is handed in, and whether it is what was asked for.

In: scores, a template, thresholds.  Out: the submission, and on stdout what it holds.
Not here: formats and rules (training/submission.py).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.training.submission import Submission

_Template = Annotated[
    Path,
    typer.Option("--template", metavar="T", help="The organisers' template, or their list of tracks."),
]


def submit(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Parquet of scores, a row a frame.")],
    template: _Template,
    out: Annotated[Path, typer.Option("--out", help="File to write; a new folder for a list of tracks.")],
    thresholds: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="Thresholds and smoothing; 0.5 without it."),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option("--smooth", metavar="N", help="Moving average in frames, without --thresholds."),
    ] = None,
    allow_difference: Annotated[
        int,
        typer.Option(
            "--allow-difference",
            metavar="N",
            min=0,
            help="Frames by which a track's scores may be shorter (the last repeats) or longer (cut).",
        ),
    ] = 2,
) -> None:
    """Write SCORES as the submission that the template asks for, and check it."""
    if thresholds is not None and smooth is not None:
        raise InputError("--thresholds brings its own smoothing. Leave out --smooth or --thresholds.")
    from auscan.training.scores import read_scores
    from auscan.training.smoothing import parse_windows
    from auscan.training.submission import write_submission
    from auscan.training.thresholds import Decision, read_decision

    decision = read_decision(thresholds) if thresholds is not None else Decision()
    if smooth is not None:
        decision = Decision(windows=parse_windows(smooth))
    submission, repairs = write_submission(read_scores(scores), template, out, decision, allow_difference)
    _print(submission, out)
    for number, meaning in (
        (repairs.without_face, "rows have no face; their scores come from the frames around."),
        (repairs.repeated, "rows repeat the last prediction of their track."),
        (repairs.cut, "predictions lie beyond their track's last row and were cut."),
        (repairs.without_score, "rows have no score of some AU in their whole track and say 0."),
        (repairs.tracks_left_out, "tracks have scores but no rows and were left out."),
    ):
        if number:
            typer.echo(f"{number} {meaning}")


def check_submission(
    path: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="File, or folder of files a track.")],
    template: _Template,
) -> None:
    """Read a submission back and hold every byte of it against the template."""
    from auscan.training.submission import check_submission as check

    _print(check(path, template), path)


def _print(submission: "Submission", path: Path) -> None:
    typer.echo(f"{path}: {submission.tracks} tracks, {submission.rows} rows, as the template asks.")
    shares = ", ".join(f"{name} {share:.1%}" for name, share in submission.active.items())
    typer.echo(f"Active in: {shares}")
