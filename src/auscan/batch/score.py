"""Score all tracks of an index and write one file; an interrupted run resumes.

    OUT.parts/run.json        inputs that determine the scores
    OUT.parts/<key>.json      warnings of one job
    OUT.parts/<key>.parquet   scores of one job, written when the job is finished
    OUT                       all scores; the parts are then removed

Inputs: a scorer and its jobs (index_scorer.py). Returns: a file of scores (training/scores.py), a summary.
See also: cli/score.py, training/evaluation.py (figures).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from auscan.batch.index_scorer import IndexScorer, Progress, ScoringJob
from auscan.core.environment import VERSION, atomic_path
from auscan.core.errors import InputError, MediaError
from auscan.training.scores import read_scores, write_scores

RUN_FILE: Final = "run.json"
"""Settings of the run that wrote a folder of parts."""


@dataclass
class ScoringSummary:
    """Outcome of a run."""

    tracks: int = 0
    frames: int = 0
    scored: int = 0
    """Frames with scores."""
    warnings: list[str] = field(default_factory=list)
    failures: list[MediaError] = field(default_factory=list)
    """Errors of sources that cannot be read; their tracks are not in the scores."""


def score_jobs(
    scorer: IndexScorer,
    jobs: Sequence[ScoringJob],
    out: Path,
    settings: Mapping[str, str | None],
    progress: Progress | None = None,
) -> ScoringSummary:
    """Score all jobs and write `out`; jobs that an interrupted run has finished are not scored again.

    settings: inputs that determine the scores, such as the hash of the model
    Raises InputError if the parts beside `out` are of a run with other settings, or no source can be read.
    """
    parts = out.with_name(f"{out.name}.parts")
    _open_parts(parts, {**settings, "version": VERSION})
    summary, done, total = ScoringSummary(), 0, sum(job.frames for job in jobs)
    tables: list[Path] = []
    for job in jobs:
        part = parts / f"{job.key}.parquet"
        if not part.exists():
            try:
                table, warnings = scorer.score(job, _ShiftedProgress(progress, done, job.frames, total))
            except MediaError as error:
                summary.failures.append(error)
                continue
            with atomic_path(part.with_suffix(".json")) as path:
                path.write_text(json.dumps(warnings) + "\n", encoding="utf-8")
            write_scores(part, table)
        summary.warnings += json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
        tables.append(part)
        done += job.frames
        if progress is not None:
            progress(done, total)
    if not tables:
        raise InputError(f"None of the {len(jobs)} sources can be read. The first: {summary.failures[0]}")
    scores = pd.concat([read_scores(part) for part in tables], ignore_index=True)
    write_scores(out, scores)
    summary.tracks, summary.frames = scores["track"].nunique(), len(scores)
    summary.scored = int(scores["has_face"].sum())
    if not summary.failures:
        shutil.rmtree(parts)
    return summary


@dataclass(frozen=True)
class _ShiftedProgress:
    """Progress of one of several jobs."""

    progress: Progress | None
    done: int
    """Rows of the jobs before."""
    rows: int
    total: int

    def __call__(self, done: int, expected: int | None) -> None:
        """Report the decoded frames of the job, at most as many as it has rows."""
        if self.progress is not None:
            self.progress(self.done + min(done, self.rows), self.total)


def _open_parts(parts: Path, settings: Mapping[str, str | None]) -> None:
    """Create the folder of parts, or check that it is of the same settings."""
    file, text = parts / RUN_FILE, json.dumps(settings, indent=2) + "\n"
    if not file.exists():
        with atomic_path(file) as path:
            path.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{parts} holds the scores of an interrupted run with another model, index or version. "
            "Delete it, or give another --out."
        )
