"""What accuracy.py and robustness.py measure, in one place.

In: labels [R, A] of 1, 0 and -1, probabilities [R, A] with NaN where nothing was found, active [R, A].
Out: tables with a row for each AU.  Not here: where they come from (sources.py), how they are shown.
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

LEAST = 5
"""A group with fewer positives or fewer negatives has no figure for an AU."""
LEAST_FRAMES = 30
LEAST_SPREAD = 0.05
"""Within a clip the teacher varies where it scored more frames than this and its soft targets
(recipes/nano/labels.py) spread further, as the recipe counts it."""
SURE = 1e-6


def measures(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], active: NDArray[np.floating]
) -> pd.DataFrame:
    """A row for each AU that can be judged: positives, auc, f1, ece, over the rows with a face.

    f1 is at whatever thresholds made `active` (1, 0, NaN), over the rows in which that is known.
    """
    rows = {}
    for j, name in enumerate(AU_NAMES):
        known = (labels[:, j] >= 0) & ~np.isnan(probabilities[:, j])
        truth, said = labels[known, j], probabilities[known, j]
        if min(truth.sum(), len(truth) - truth.sum()) < LEAST:
            continue
        rows[name] = {
            "positives": truth.mean(),
            "auc": roc_auc_score(truth, said),
            "f1": f1_where_known(truth, active[known, j]),
            "ece": calibration_error(truth, said),
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["positives", "auc", "f1", "ece"])


def f1_where_known(truth: NDArray[np.integer], active: NDArray[np.floating]) -> float:
    """F1 over the rows that were judged; NaN where that leaves no positive."""
    judged = ~np.isnan(active)
    if not truth[judged].any():
        return float("nan")
    return float(f1_score(truth[judged], active[judged] == 1))


def within_clips(clips: Iterable[tuple[NDArray[np.floating], ...]]) -> pd.DataFrame:
    """Correlation with the teacher inside a clip, a row an AU: clips, r, rank, r_logit (means over clips).

    clips: for each, probabilities [T, A], teacher's scores [T, A] (NaN: none), its soft targets [T, A]
    r: of probability and score.  rank: of their ranks.  r_logit: of their logits.  A calibration changes r
    alone.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for probabilities, scores, soft in clips:
        for j, name in enumerate(AU_NAMES):
            known = ~np.isnan(scores[:, j]) & ~np.isnan(probabilities[:, j])
            if known.sum() <= LEAST_FRAMES or soft[known, j].std() <= LEAST_SPREAD:
                continue
            said, target = probabilities[known, j].astype(np.float64), soft[known, j].astype(np.float64)
            plain = np.corrcoef(said, scores[known, j])[0, 1]
            rank = np.corrcoef(rankdata(said), rankdata(scores[known, j]))[0, 1]
            said, target = (np.clip(each, SURE, 1 - SURE) for each in (said, target))
            found.setdefault(name, []).append((plain, rank, np.corrcoef(logit(said), logit(target))[0, 1]))
    rows = {name: (len(found[name]), *np.mean(found[name], axis=0)) for name in AU_NAMES if name in found}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["clips", "r", "rank", "r_logit"])


def markdown(table: pd.DataFrame, first: str, forms: dict[str, str]) -> list[str]:
    """A table as Markdown lines. forms: title of a column -> its format; missing values are a dash."""
    lines = [f"| {first} | {' | '.join(table.columns)} |", "| --- " * (len(table.columns) + 1) + "|"]
    for name, row in table.iterrows():
        cells = ["-" if pd.isna(value) else format(value, forms.get(str(k), "")) for k, value in row.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
