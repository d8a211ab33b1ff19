"""One figure of an evaluation: the F1 of each AU with its interval, in an HTML file that opens offline.

In: an `Evaluation`.  Out: one file of about 5 MB, plotly.js inside.
"""

from pathlib import Path
from typing import Final

import numpy as np
import plotly.graph_objects as go

from auscan.core.aus import AU_MEANINGS, AU_NAMES
from auscan.results.atomic import atomic_path
from auscan.training.evaluation import Evaluation, Figures

_DEFAULT, _TUNED, _ALWAYS = "#56B4E9", "#0072B2", "#D55E00"  # Okabe and Ito's: safe for colour-blind people
MEAN: Final[str] = "mean"


def write_figure(path: Path, evaluation: Evaluation) -> None:
    """Write the figure to `path`: f1_all at 0.5, at the tuned thresholds, and of always yes."""
    figure = go.Figure()
    _add_bars(figure, "at 0.5", evaluation.at_default.f1_all, _DEFAULT)
    tuned = "at thresholds tuned on these frames" if evaluation.tuned_here else "at the given thresholds"
    _add_bars(figure, tuned, evaluation.at_tuned.f1_all, _TUNED)
    counts = evaluation.at_default.f1_all.counts
    positives, labelled = counts.positives(), counts.labelled()
    known = labelled > 0
    always = np.divide(2 * positives, positives + labelled, out=np.full(len(known), np.nan), where=known)
    figure.add_scatter(
        x=[*_labels(), MEAN],
        y=[*always.tolist(), float(np.nanmean(always))],
        mode="markers",
        name="always yes",
        marker={"symbol": "line-ew-open", "size": 24, "color": _ALWAYS, "line": {"width": 3}},
    )
    figure.update_layout(
        template="plotly_white",
        title=f"Binary F1, {evaluation.frames} frames of {evaluation.sources} videos, with 95 % intervals",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1b1f24"},
        barmode="group",
        legend={"orientation": "h", "y": 1.08},
        yaxis={"title": "F1", "range": [0, 1]},
    )
    with atomic_path(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True, full_html=True)


def _add_bars(figure: go.Figure, name: str, figures: Figures, colour: str) -> None:
    f1 = np.append(figures.counts.f1(), figures.counts.score())  # [A + 1]
    ends = np.column_stack([figures.interval.f1, figures.interval.score])  # [2, A + 1]
    figure.add_bar(
        x=[*_labels(), MEAN],
        y=f1.tolist(),
        name=name,
        marker_color=colour,
        error_y={
            "array": np.maximum(ends[1] - f1, 0).tolist(),
            "arrayminus": np.maximum(f1 - ends[0], 0).tolist(),
            "thickness": 1,
        },
        hovertemplate="%{x}: %{y:.3f}<extra></extra>",
    )


def _labels() -> list[str]:
    return [f"{name}<br>{AU_MEANINGS[name].replace(' ', '<br>')}" for name in AU_NAMES]
