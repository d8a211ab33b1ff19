"""Write the generated sections of the model card; model_card.md is its template.

Inputs: development faces with logits, calibration and thresholds.
Returns: Markdown tables. `write_section` puts a text into a card.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from auscan.core.environment import atomic_path
from auscan.inference.score_track import calibrate
from auscan.training.metrics import calibration_error
from auscan.training.operating_points import (
    POINTS,
    CalibratedThresholds,
    CrossFitPredictions,
    cross_fit_thresholds,
)

END = "<!-- end -->"


def write_section(card: Path, begin: str, text: str) -> None:
    """Replace the text between `begin` and the next `END`. Raise ValueError if the card lacks them."""
    before, found, rest = card.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{card} has no place for the text. Add the lines {begin} and {END}.")
    with atomic_path(card) as file:
        file.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")


@dataclass(frozen=True)
class Development:
    """Faces held out of training, with labels and logits."""

    au_names: tuple[str, ...]
    """[A] AUs of the checkpoint."""
    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    logits: NDArray[np.float32]
    """[n, A]; NaN if no face was found."""
    person: NDArray[np.int64]
    """[n] index of the person, from 0."""
    rendered: int = 0
    """Number of rendered faces, which come last."""


def card_text(development: Development, calibrated: CalibratedThresholds) -> str:
    """Return the tables of the card: agreement, calibration error, thresholds, operating points.

    All columns except AUC and the thresholds are cross-fitted: each fifth of the people is scored with the
    calibration and thresholds of the other four.
    """
    predictions = cross_fit_thresholds(development.labels, development.logits, development.person)
    real = slice(0, len(development.labels) - development.rendered)
    found = ~np.isnan(development.logits[real]).all(axis=1)
    table = agreement_table(development, predictions)
    mean = table.mean()
    people = development.person[real].max() + 1
    note = (
        f"On {found.sum()} faces of {people} people held out of training, found in {found.mean():.1%} of "
        "their pictures. ECE is the expected calibration error (15 bins), before and after Platt scaling. "
        "ECE, F1 and the second table are by cross-fitting over people: each fifth is scored with the "
        "calibration and thresholds of the other four fifths. The last columns are thresholds on "
        "calibrated probabilities."
    )
    if development.rendered:
        only = ~(development.labels[real] >= 0).any(axis=0) & (development.labels >= 0).any(axis=0)
        names = ", ".join(np.asarray(development.au_names)[only])
        note += f" {names}: on {development.rendered} rendered faces of other people, by exact labels."
    last = (f"{mean[column]:.3f}" for column in ("auc", "before", "after", "f1"))
    return "\n".join(
        [
            *textwrap.wrap(note, 110),
            "",
            *agreement_lines(table, development.au_names, calibrated),
            f"| mean | | {' | '.join(last)} | | | | |",
            "",
            *point_lines(development, predictions),
        ]
    )


def agreement_table(development: Development, predictions: CrossFitPredictions) -> pd.DataFrame:
    """Compute base rate, AUC, calibration error before and after, and F1 of each AU with labels."""
    rows = {}
    plain = calibrate(development.logits, None)
    for j, name in enumerate(development.au_names):
        known = (development.labels[:, j] >= 0) & ~np.isnan(development.logits[:, j])
        if known.any():
            truth = development.labels[known, j]
            rows[name] = {
                "positives": truth.mean(),
                "auc": roc_auc_score(truth, development.logits[known, j]),
                "before": calibration_error(truth, plain[known, j]),
                "after": calibration_error(truth, predictions.probabilities[known, j]),
                "f1": f1_score(truth, predictions.active["default"][known, j]),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def agreement_lines(
    table: pd.DataFrame, au_names: tuple[str, ...], calibrated: CalibratedThresholds
) -> list[str]:
    """Return the first table, as Markdown lines, one for each of the AUs [A]."""
    titles = ("AU", "positives", "AUC", "ECE before", "after", "F1", *POINTS)
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for j, name in enumerate(au_names):
        if name not in table.index:
            lines.append(f"| {name} | - | not trained" + " | -" * (len(titles) - 3) + " |")
            continue
        row = table.loc[name]
        cuts = " | ".join(f"{calibrated.at(point)[j]:.2f}" for point in POINTS)
        lines.append(
            f"| {name} | {row['positives']:.1%} | {row['auc']:.3f} | {row['before']:.3f} | "
            f"{row['after']:.3f} | {row['f1']:.3f} | {cuts} |"
        )
    return lines


def point_lines(development: Development, predictions: CrossFitPredictions) -> list[str]:
    """Return precision, recall and specificity of each operating point, means over AUs."""
    lines = [
        "| operating point | precision | recall (sensitivity) | specificity | marked active |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point in POINTS:
        rows = []
        for j in range(len(development.au_names)):
            known = (development.labels[:, j] >= 0) & ~np.isnan(development.logits[:, j])
            if known.any():
                truth, active = development.labels[known, j], predictions.active[point][known, j]
                rows.append(
                    (
                        precision_score(truth, active),
                        recall_score(truth, active),
                        recall_score(truth, active, pos_label=0),
                        active.mean(),
                    )
                )
        precision, recall, specificity, share = np.mean(rows, axis=0)
        lines.append(f"| {point} | {precision:.2f} | {recall:.2f} | {specificity:.2f} | {share:.1%} |")
    return lines
