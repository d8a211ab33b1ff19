"""Run `auscan score`: run a checkpoint over all tracks of an index.

Inputs: the folder of an index. Returns: a Parquet file of scores and the thresholds of the model beside it; a
summary on stdout, progress and warnings on stderr.
See also: batch/score.py, cli/evaluate.py (figures of the scores).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auscan.cli.model_options import BackendOption, DeviceOption, ModelOption, ThreadsOption
from auscan.cli.progress import show_progress

if TYPE_CHECKING:
    from auscan.batch.score import ScoringSummary
    from auscan.core.config import CheckpointConfig
    from auscan.datasets.index import Index

MAX_WARNINGS = 5
"""Warnings printed to stderr; further ones are only counted."""


def score(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder written by `auscan prepare`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file of scores to write.")],
    model: ModelOption = "nano",
    split: Annotated[str | None, typer.Option("--split", help="Split to score; default: all.")] = None,
    crops: Annotated[
        Literal["video", "pictures"] | None,
        typer.Option("--crops", help="Source of the faces of tracks with both; default: the video."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="New folder of the data set, if it has moved.")
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Score every track in INDEX as `auscan detect` would; resumes an interrupted run."""
    from auscan.batch.index_scorer import IndexScorer
    from auscan.batch.score import score_jobs
    from auscan.core.checkpoint_folder import find_checkpoint, hash_model, pin_checkpoint
    from auscan.datasets.index import read_index
    from auscan.inference.load import load_engine
    from auscan.training.thresholds import Decision

    dataset_index = read_index(index, root)
    model = pin_checkpoint(model)
    engine = load_engine(model, backend, device, threads)
    scorer = IndexScorer(dataset_index, engine)
    jobs = scorer.jobs(split, crops)
    settings = {
        "model": hash_model(find_checkpoint(model)),
        "index": dataset_index.metadata["digest"],
        "split": split,
        "crops": crops,
    }
    with show_progress("score") as progress:
        summary = score_jobs(scorer, jobs, out, settings, progress)
    thresholds = out.with_suffix(".thresholds.json")
    Decision(engine.config.au_names, engine.config.thresholds).save(thresholds)
    _print_summary(summary, dataset_index, engine.config, out, thresholds)


def _print_summary(
    summary: "ScoringSummary", index: "Index", config: "CheckpointConfig", out: Path, thresholds: Path
) -> None:
    for warning in summary.warnings[:MAX_WARNINGS]:
        typer.echo(warning, err=True)
    if len(summary.warnings) > MAX_WARNINGS:
        typer.echo(f"{len(summary.warnings) - MAX_WARNINGS} further warnings", err=True)
    for failure in summary.failures:
        typer.echo(f"auscan: {failure}", err=True)
    typer.echo(
        f"{summary.tracks} tracks, {summary.frames} frames -> {out}; {summary.scored} frames have scores of "
        f"{config.name}. Its thresholds: {thresholds}"
    )
    labelled = index.au_names
    for names, meaning in (
        ([name for name in config.au_names if name not in labelled], "Scored, but not in the index"),
        (
            [name for name in labelled if name not in config.au_names],
            f"In the index, but not in {config.name}",
        ),
    ):
        if names:
            typer.echo(f"{meaning}: {', '.join(names)}.")
    if summary.failures:
        typer.echo(f"The tracks of {len(summary.failures)} unreadable sources are not in {out}.", err=True)
        raise typer.Exit(summary.failures[0].exit_code)
