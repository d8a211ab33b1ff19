"""Draw the F1 of each AU with its interval into an HTML file that opens offline.

plotly.js is embedded, so the file has about 5 MB.

Inputs: an `Evaluation`. Returns: an HTML file.
See also: evaluation.py.
"""

from pathlib import Path
from typing import Final

import numpy as np
import plotly.graph_objects as go

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import atomic_path
from auscan.training.evaluation import Evaluation, F1Metrics

# The palette of Okabe and Ito, safe for colour-blind readers.
DEFAULT_COLOUR, TUNED_COLOUR, ALWAYS_YES_COLOUR = "#56B4E9", "#0072B2", "#D55E00"
MEAN: Final[str] = "mean"
"""Label of the bar of the mean over all AUs."""


def write_figure(path: Path, evaluation: Evaluation) -> None:
    """Write a bar chart of f1_all to `path`: at 0.5, at the tuned thresholds, and of always predicting
    active.
    """
    figure = go.Figure()
    bars = [*map(_au_label, evaluation.au_names), MEAN]
    _add_bars(figure, bars, "at 0.5", evaluation.at_default.f1_all, DEFAULT_COLOUR)
    tuned = "at thresholds tuned on these frames" if evaluation.tuned_here else "at the given thresholds"
    _add_bars(figure, bars, tuned, evaluation.at_tuned.f1_all, TUNED_COLOUR)
    counts = evaluation.at_default.f1_all.counts
    positives, labelled = counts.positives(), counts.labelled()
    known = labelled > 0
    always = np.divide(2 * positives, positives + labelled, out=np.full(len(known), np.nan), where=known)
    figure.add_scatter(
        x=bars,
        y=[*always.tolist(), float(np.nanmean(always))],
        mode="markers",
        name="always yes",
        marker={"symbol": "line-ew-open", "size": 24, "color": ALWAYS_YES_COLOUR, "line": {"width": 3}},
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


def _add_bars(figure: go.Figure, bars: list[str], name: str, metrics: F1Metrics, colour: str) -> None:
    f1 = np.append(metrics.counts.f1(), metrics.counts.score())  # [A + 1]
    ends = np.column_stack([metrics.interval.f1, metrics.interval.score])  # [2, A + 1]
    figure.add_bar(
        x=bars,
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


def _au_label(name: str) -> str:
    return f"{name}<br>{ACTION_UNITS[name].meaning.replace(' ', '<br>')}"
