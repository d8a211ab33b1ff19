"""Metrics of accuracy.py and robustness.py: AUC, F1 and ECE a row an AU, correlation within clips, Markdown.

Inputs: labels [R, A] of 1, 0 and -1; probabilities [R, A], NaN where no face was found; active [R, A].
Returns: tables with a row for each AU.
See also: held_out_data.py (faces and clips).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.metrics import f1_score, roc_auc_score

from auscan.core.aus import AU_NAMES
from auscan.training.metrics import calibration_error

MIN_POSITIVES = 5
"""An AU needs this many positives and negatives in a group."""
MIN_FRAMES = 30
MIN_SPREAD = 0.05
"""Frames and standard deviation of soft targets above which an AU counts as varying in a clip."""
MIN_PROBABILITY = 1e-6


def au_metrics(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], active: NDArray[np.floating]
) -> pd.DataFrame:
    """A row for each AU with enough labels: positives, auc, f1, ece, over the rows with a face.

    f1 is at the thresholds that gave `active` (1, 0, NaN), over the rows in which it is known.
    """
    rows = {}
    for j, name in enumerate(AU_NAMES):
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
    """F1 over the rows that were scored; NaN if these have no positive."""
    scored = ~np.isnan(active)
    if not truth[scored].any():
        return float("nan")
    return float(f1_score(truth[scored], active[scored] == 1))


def within_clips(clips: Iterable[tuple[NDArray[np.floating], ...]]) -> pd.DataFrame:
    """Correlation with the teacher within a clip, a row an AU: clips, r, rank, r_logit (means over clips).

    clips: for each, probabilities [T, A], teacher's scores [T, A] (NaN: none), its soft targets [T, A]
    r: of probability and score.  rank: of their ranks.  r_logit: of their logits.  A calibration changes r
    alone.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for probabilities, scores, soft in clips:
        for j, name in enumerate(AU_NAMES):
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
    rows = {name: (len(found[name]), *np.mean(found[name], axis=0)) for name in AU_NAMES if name in found}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["clips", "r", "rank", "r_logit"])


def markdown(table: pd.DataFrame, first: str, forms: dict[str, str]) -> list[str]:
    """A table as Markdown lines. forms: title of a column -> its format; missing values are a dash."""
    lines = [f"| {first} | {' | '.join(table.columns)} |", "| --- " * (len(table.columns) + 1) + "|"]
    for name, row in table.iterrows():
        cells = ["-" if pd.isna(value) else format(value, forms.get(str(k), "")) for k, value in row.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
