"""Compare two sets of scores of the same frames: the paired difference of F1 and AUC, with intervals.

The same draws of source videos (or people) are made for both, and the interval is that of the difference of
the draws. It is much narrower than the two intervals suggest, because hard videos are hard for both.

Inputs: labels and two tables of scores (scores.py), a `Decision` for each. Returns: a `Comparison`, also as
plain JSON types.
See also: evaluation.py (one set of scores), cli/compare.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import au_columns
from auscan.core.errors import InputError
from auscan.training.evaluation import CountedLabels, count_labels
from auscan.training.metrics import DRAWS, Rule, bootstrap, count_by, percentile_ends, ranking, with_mean
from auscan.training.ranking_draws import count_levels, ranking_draws
from auscan.training.scores import shared_aus
from auscan.training.smoothing import final_scores
from auscan.training.thresholds import Decision

MEAN: Final = "mean"
"""Key of the mean over the AUs in JSON."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Difference:
    """One measure of A and B for each AU and, last, their mean: [A + 1]; NaN if undefined."""

    a: Floats
    b: Floats
    ends: Floats
    """[2, A + 1] ends of the interval of B - A; NaN for a single source video."""

    @property
    def difference(self) -> Floats:
        """B - A."""
        return self.b - self.a

    def to_dict(self, au_names: Sequence[str]) -> dict[str, Any]:
        """Return plain JSON types by AU; an undefined figure is None."""
        columns = zip(self.a, self.b, self.difference, *self.ends, strict=True)
        return {
            name: {
                "a": _number(a),
                "b": _number(b),
                "difference": _number(difference),
                "interval": [_number(low), _number(high)],
            }
            for name, (a, b, difference, low, high) in zip([*au_names, MEAN], columns, strict=True)
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences between two sets of scores, B - A."""

    au_names: tuple[str, ...]
    """[A] AUs with labels and scores of both."""
    left_out: tuple[str, ...]
    """AUs that are in some of the three tables only. They are in no figure."""
    rule: Rule
    frames: int
    sources: int
    f1: Difference
    """At the thresholds of the decisions, over all labelled frames."""
    auc: Difference

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "au_names": list(self.au_names),
            "left_out": list(self.left_out),
            "rule": self.rule,
            "frames": self.frames,
            "sources": self.sources,
            "f1": self.f1.to_dict(self.au_names),
            "auc": self.auc.to_dict(self.au_names),
        }


def compare(
    labels: pd.DataFrame,
    scores: tuple[pd.DataFrame, pd.DataFrame],
    decisions: tuple[Decision | None, Decision | None] = (None, None),
    rule: Rule = "frame",
    draws: int = DRAWS,
) -> Comparison:
    """Compare two sets of scores, A and B, for the AUs that labels and both scores have.

    decisions: thresholds and smoothing of A and of B; None: 0.5 without smoothing
    draws: number of bootstrap draws
    Raises InputError if no AU is shared, a labelled track has no scores, no label counts, or a decision lacks
    an AU; AuscanError without scikit-learn.
    """
    in_both = shared_aus(*scores)
    names = tuple(name for name in shared_aus(labels, scores[0]) if name in in_both)
    if not names:
        raise InputError("No AU has labels and both scores, so there is nothing to compare.")
    tables = (labels, *scores)
    left_out = {name for table in tables for name in au_columns(table.columns)} - set(names)
    kept = count_labels(labels, names, rule)
    chosen = [(each or Decision(names)).for_aus(names) for each in decisions]
    finals = [
        final_scores(table[[*_other_columns(table), *names]], labels, decision.windows).probabilities[
            kept.counted
        ]
        for table, decision in zip(scores, chosen, strict=True)
    ]
    active = [decision.predict(final) for decision, final in zip(chosen, finals, strict=True)]
    return Comparison(
        au_names=names,
        left_out=tuple(sorted(left_out)),
        rule=rule,
        frames=int(kept.counted.sum()),
        sources=kept.sources,
        f1=_compare_f1(kept, active, draws),
        auc=_compare_auc(kept, finals, draws),
    )


def _other_columns(table: pd.DataFrame) -> list[str]:
    aus = au_columns(table.columns)
    return [column for column in table.columns if column not in aus]


def _compare_f1(kept: CountedLabels, predictions: Sequence[NDArray[np.bool_]], draws: int) -> Difference:
    values, drawn = [], []
    for active in predictions:
        counts = count_by(kept.source, kept.sources, kept.labels, active, "element")
        values.append(np.append(counts.pooled().f1(), counts.pooled().score()))
        drawn.append(np.column_stack(bootstrap(counts, draws)))  # [D, A + 1]
    return _difference(kept, values, drawn)


def _compare_auc(kept: CountedLabels, scores: Sequence[NDArray[np.float32]], draws: int) -> Difference:
    # Frames that one of the two cannot score are left out of both.
    labels = np.where(np.isnan(scores[0]) | np.isnan(scores[1]), -1, kept.labels)
    values, drawn = [], []
    for each in scores:
        columns = list(zip(labels.T, each.T, strict=True))
        auc = np.array([ranking(*column).auc for column in columns])
        levels = [count_levels(*column, kept.source, kept.sources) for column in columns]
        values.append(with_mean(auc))
        drawn.append(with_mean(np.stack([ranking_draws(counts, draws)[0] for counts in levels], axis=-1)))
    return _difference(kept, values, drawn)


def _difference(kept: CountedLabels, values: Sequence[Floats], drawn: Sequence[Floats]) -> Difference:
    """Return the difference of values [A + 1], with the intervals of the differences of draws [D, A + 1]."""
    a, b = values
    ends = percentile_ends(drawn[1] - drawn[0]) if kept.sources > 1 else np.full((2, len(a)), np.nan)
    return Difference(a, b, ends)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
