"""Compute AUC, F1 and ECE of each AU and correlation within clips, and format tables and pages.

Inputs: labels [R, A] of 1, 0 and -1; probabilities [R, A], NaN if no face was found; active [R, A].
Returns: tables with a row for each AU; Markdown.
See also: held_out_data.py (faces and clips).
"""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.metrics import f1_score, roc_auc_score

from auscan.training.metrics import calibration_error

MIN_POSITIVES = 5
"""Minimum number of positives and of negatives of an AU in a group."""
MIN_FRAMES = 30
MIN_SPREAD = 0.05
"""An AU varies in a clip if frames and standard deviation of its soft targets exceed these."""
MIN_PROBABILITY = 1e-6
"""Lower bound on probabilities before their logit; the upper bound is 1 minus it."""


def au_metrics(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    active: NDArray[np.floating],
    au_names: Sequence[str],
) -> pd.DataFrame:
    """Compute positives, auc, f1 and ece of each AU with enough labels, over the rows with a face.

    f1 compares `active` (1, 0, NaN) with the labels, over the rows in which it is not NaN.
    """
    rows = {}
    for j, name in enumerate(au_names):
        known = (labels[:, j] >= 0) & ~np.isnan(probabilities[:, j])
        truth, predicted = labels[known, j], probabilities[known, j]
        if min(truth.sum(), len(truth) - truth.sum()) < MIN_POSITIVES:
            continue
        rows[name] = {
            "positives": truth.mean(),
            "auc": roc_auc_score(truth, predicted),
            "f1": f1_of_scored(truth, active[known, j]),
            "ece": calibration_error(truth, predicted),
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["positives", "auc", "f1", "ece"])


def f1_of_scored(truth: NDArray[np.integer], active: NDArray[np.floating]) -> float:
    """Compute F1 over the scored rows; NaN if these have no positive."""
    scored = ~np.isnan(active)
    if not truth[scored].any():
        return float("nan")
    return float(f1_score(truth[scored], active[scored] == 1))


def within_clips(clips: Iterable[tuple[NDArray[np.floating], ...]], au_names: Sequence[str]) -> pd.DataFrame:
    """Correlate with the teacher within clips: for each AU clips, r, rank and r_logit (means over clips).

    clips: probabilities [T, A], teacher scores [T, A] (NaN if unknown) and soft targets [T, A] of each clip.
    r: correlation of probability and score.  rank: of their ranks.  r_logit: of their logits.
    Calibration changes only r.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for probabilities, scores, soft in clips:
        for j, name in enumerate(au_names):
            known = ~np.isnan(scores[:, j]) & ~np.isnan(probabilities[:, j])
            if known.sum() <= MIN_FRAMES or soft[known, j].std() <= MIN_SPREAD:
                continue
            predicted, target = probabilities[known, j].astype(np.float64), soft[known, j].astype(np.float64)
            plain = np.corrcoef(predicted, scores[known, j])[0, 1]
            rank = np.corrcoef(rankdata(predicted), rankdata(scores[known, j]))[0, 1]
            predicted, target = (
                np.clip(each, MIN_PROBABILITY, 1 - MIN_PROBABILITY) for each in (predicted, target)
            )
            found.setdefault(name, []).append(
                (plain, rank, np.corrcoef(logit(predicted), logit(target))[0, 1])
            )
    rows = {name: (len(found[name]), *np.mean(found[name], axis=0)) for name in au_names if name in found}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["clips", "r", "rank", "r_logit"])


def markdown(table: pd.DataFrame, first: str, forms: dict[str, str]) -> list[str]:
    """Return a table as Markdown lines. forms: column title -> format; missing values become a dash."""
    lines = [f"| {first} | {' | '.join(table.columns)} |", "| --- " * (len(table.columns) + 1) + "|"]
    for name, row in table.iterrows():
        cells = ["-" if pd.isna(value) else format(value, forms.get(str(k), "")) for k, value in row.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def page(title: str, lead: str, lines: Iterable[str], description: str, note: str = "") -> str:
    """Return a page of docs/benchmarks as Markdown: lead, results, then how they were measured.

    description: docstring of the script. Its first line and the paragraphs from "Inputs:" on are left out.
    note: versions or settings, put at the end.
    """
    method = description.partition("\n")[2].partition("\nInputs:")[0].strip("\n")
    sections = (
        f"# {title}",
        textwrap.fill(lead, 110),
        "\n".join(lines).strip(),
        "## How it was measured",
        method,
        note,
    )
    return "\n\n".join(section for section in sections if section) + "\n"
