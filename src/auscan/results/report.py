"""One HTML file that shows a whole run and opens offline.

Why: a table of a hundred thousand rows cannot be read; a timeline can be, and it can be sent to a colleague.
In: a Result and, where there is sound, its level.  Out: one file under 8 MB, plotly.js inside.
Not here: the words and the layout (report.html.j2), measuring the sound level (pipeline/render.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from auscan.core.aus import AU_MEANINGS, AU_NAMES
from auscan.results.atomic import atomic_path
from auscan.results.quality import NO_FACE_REASON
from auscan.results.result import Result
from auscan.results.table import ACTIVE_COLUMNS, frame_times_s

MAX_FACES: Final[int] = 6
"""The faces seen longest get a timeline each; the table and the counts cover all."""

MAX_POINTS: Final[int] = 3000
"""Points of one curve; more cannot be told apart on a screen."""

_POINTS_OF_ALL_FACES: Final[int] = 9000  # so that many faces do not make a heavy file

_CURVE, _ACTIVE, _THRESHOLD = "#0072B2", "#D55E00", "#444444"  # Okabe and Ito's: safe for colour-blind people
_LAYOUT: Final[dict[str, Any]] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1b1f24"},
    "margin": {"l": 205, "r": 20, "t": 12, "b": 42},
    "showlegend": False,
    "hovermode": "closest",
}


@dataclass(frozen=True)
class Panel:
    """One figure of the report and the sentence that says the same in words."""

    title: str
    text: str
    figure: str
    """HTML of the plot."""


def write_report(
    path: Path, result: Result, sound_level: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> None:
    """Write the report of `result` to `path`.

    sound_level: times [L] s on the clock of the frames and level [L] in dB of full scale; None: no sound.
    """
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    summary = result.summary()
    faces = _longest_faces(result.table)
    page = environment.from_string(template).render(
        summary=summary,
        meanings=AU_MEANINGS,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly_js=get_plotlyjs(),
        overview=_overview(result.table, summary, sound_level),
        timelines=[_timeline(result, face_id, len(faces)) for face_id in faces],
        hidden_faces=summary["faces"] - len(faces),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def pool(
    times_s: NDArray[np.float64], values: NDArray[Any], limit: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Thin a curve [T] to at most `limit` points, keeping the highest of each bin at its own time.

    Peaks survive, so a short activation is never lost; a bin of NaN stays NaN, so gaps survive too.
    """
    count = len(times_s)
    if count <= limit:
        return times_s, values
    edges = np.linspace(0, count, limit + 1).astype(int)
    filled = np.where(np.isnan(values), -np.inf, values)
    best = np.array([a + int(np.argmax(filled[a:b])) for a, b in pairwise(edges)])
    return times_s[best], values[best]


def _longest_faces(table: pd.DataFrame) -> list[int]:
    counts = table.loc[table["success"] == 1, "face_id"].value_counts(sort=False).sort_index()
    longest = counts.sort_values(ascending=False, kind="stable").index[:MAX_FACES]
    return sorted(int(face_id) for face_id in longest)


def _overview(
    table: pd.DataFrame,
    summary: dict[str, Any],
    sound_level: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Panel:
    """Number of faces over time and, where there is sound, its level below it."""
    rows = 1 if sound_level is None else 2
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    times = frame_times_s(table)
    faces = table.groupby("frame", sort=True)["success"].sum().to_numpy(float)
    x, fewest = pool(times, -faces, MAX_POINTS)  # the fewest of each stretch, so that a short loss shows
    y = -fewest
    figure.add_scatter(
        x=_compact(x),
        y=_compact(y),
        mode="lines" if len(x) > 1 else "markers",
        line={"color": _CURVE, "width": 1, "shape": "hv"},
        fill="tozeroy",
        hovertemplate="%{x:.2f} s: %{y:.0f} faces<extra></extra>",
        row=1,
        col=1,
    )
    step = max(1, math.ceil(faces.max(initial=1) / 4))  # whole faces only, and at most five ticks
    figure.update_yaxes(rangemode="tozero", dtick=step, row=1, col=1)
    _row_title(figure, 1, "faces found", shift_px=40)
    if sound_level is not None:
        x, y = pool(*sound_level, MAX_POINTS)
        figure.add_scatter(
            x=_compact(x),
            y=_compact(y),
            mode="lines",
            line={"color": _ACTIVE, "width": 1},
            hovertemplate="%{x:.2f} s: %{y:.0f} dB<extra></extra>",
            row=2,
            col=1,
        )
        _row_title(figure, 2, "sound level, dB", shift_px=40)
    figure.update_xaxes(title_text="time, s", row=rows, col=1)
    share = summary["coverage"]
    text = (
        f"A face was found in {summary['frames_with_face']} of {summary['frames']} frames "
        f"({share:.0%}), different faces in all: {summary['faces']}. "
    )
    text += f"{_quality_words(table, summary)} {_sound_words(sound_level)}"
    return Panel("Faces and sound", text, _html(figure, "overview", height=110 + 110 * rows))


def _quality_words(table: pd.DataFrame, summary: dict[str, Any]) -> str:
    """How many face rows were judged, how good they are, and why the others were not."""
    faces = table[table["success"] == 1]
    if not len(faces):
        return "There was nothing to judge."
    why = [
        f"{reason} {count / len(faces):.0%}"
        for reason, count in summary["reasons"].items()
        if count and reason != NO_FACE_REASON
    ]
    text = (
        f"Of {len(faces)} face rows {summary['judged']:.0%} were judged; their quality is "
        f"{faces['quality'].median():.2f} in the median."
    )
    return f"{text} Hard to read: {', '.join(why)}." if why else text


def _sound_words(sound_level: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> str:
    if sound_level is None or not len(sound_level[1]):
        return "The input has no sound, so the face alone was read."
    low, high = np.percentile(sound_level[1], [5, 95])
    return f"The sound lies between {low:.0f} and {high:.0f} dB of full scale for nine tenths of its time."


def _timeline(result: Result, face_id: int, faces: int) -> Panel:
    """Twelve bands over one time axis: the probability, its threshold, and a strip where the AU is active."""
    times = frame_times_s(result.table)
    rows = result.table[result.table["face_id"] == face_id]
    probabilities = np.full((len(times), len(AU_NAMES)), np.nan)  # [F, A], NaN without this face
    first_frame = int(result.table["frame"].iloc[0])
    active = np.full_like(probabilities, np.nan)  # [F, A], NaN where it is not judged either
    at = rows["frame"].to_numpy() - first_frame
    probabilities[at], active[at] = rows[list(AU_NAMES)].to_numpy(), rows[list(ACTIVE_COLUMNS)].to_numpy()

    limit = min(MAX_POINTS, _POINTS_OF_ALL_FACES // faces)
    figure = make_subplots(rows=len(AU_NAMES), cols=1, shared_xaxes=True, vertical_spacing=0.012)
    for j, name in enumerate(AU_NAMES):
        threshold = result.info.thresholds[j]
        if name not in result.info.untaught:
            _add_band(figure, j + 1, name, *pool(times, probabilities[:, j], limit), threshold)
            _add_strip(figure, j + 1, *pool(times, active[:, j], limit))
        else:
            figure.add_scatter(x=times[:1], y=[None], row=j + 1, col=1)
        suffix = " (not taught)" if name in result.info.untaught else ""
        _row_title(figure, j + 1, f"<b>{name}</b> {AU_MEANINGS[name]}{suffix}")
    figure.update_yaxes(range=[-0.16, 1.04], showticklabels=False, showgrid=False, zeroline=False)
    figure.update_xaxes(range=[float(times[0]), float(max(times[-1], times[0] + 0.04))])
    figure.update_xaxes(title_text="time, s", row=len(AU_NAMES), col=1)
    title = f"Face {face_id}"
    return Panel(title, _timeline_words(result, rows), _html(figure, f"face-{face_id}", height=640))


def _add_band(
    figure: go.Figure,
    row: int,
    name: str,
    times_s: NDArray[np.float64],
    probability: NDArray[np.float64],
    threshold: float,
) -> None:
    place = {"row": row, "col": 1}
    # A point without neighbours draws no line; markers show it (a picture, a face seen for one frame).
    alone = np.isfinite(probability).sum() <= 2
    figure.add_scatter(
        x=_compact(times_s),
        y=_compact(probability),
        mode="markers" if alone else "lines",
        line={"color": _CURVE, "width": 1},
        fill="tozeroy",
        fillcolor="rgba(86, 180, 233, 0.45)",
        connectgaps=False,
        hovertemplate=f"{name} at %{{x:.2f}} s: %{{y:.2f}}<extra></extra>",
        **place,
    )
    figure.add_hline(y=threshold, line={"color": _THRESHOLD, "width": 1, "dash": "dot"}, **place)


def _add_strip(
    figure: go.Figure, row: int, times_s: NDArray[np.float64], active: NDArray[np.float64]
) -> None:
    x, y = _strips(times_s, active == 1)
    strip = {"color": _ACTIVE, "width": 6}
    place = {"row": row, "col": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=strip, hoverinfo="skip", connectgaps=False, **place)


def _strips(
    times_s: NDArray[np.float64], active: NDArray[np.bool_]
) -> tuple[list[float | None], list[float | None]]:
    """Line segments at the foot of a band, one for each stretch of active points, with gaps between."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    ends = np.append(times_s[1:], times_s[-1] + np.median(np.diff(times_s)) if len(times_s) > 1 else times_s)
    x: list[float | None] = []
    y: list[float | None] = []
    for begin, end in zip(change[::2], change[1::2], strict=True):
        x += [round(float(times_s[begin]), 4), round(float(ends[end - 1]), 4), None]
        y += [-0.09, -0.09, None]
    return x, y


def _timeline_words(result: Result, rows: pd.DataFrame) -> str:
    """The text alternative of a timeline: which AUs were active, and in which share of the face's frames."""
    seen = (
        f"Seen in {len(rows)} frames, judged in {rows[list(ACTIVE_COLUMNS)].notna().any(axis=1).mean():.0%}"
    )
    shares = rows[list(ACTIVE_COLUMNS)].mean().to_numpy()
    order = np.argsort(-np.nan_to_num(shares), kind="stable")
    said = [f"{AU_NAMES[j]} ({AU_MEANINGS[AU_NAMES[j]]}) in {shares[j]:.0%}" for j in order if shares[j] > 0]
    if not said:
        return f"{seen}; no action unit reached its threshold."
    return f"{seen}. Active, as a share of the judged ones: {', '.join(said)}."


def _row_title(figure: go.Figure, row: int, text: str, shift_px: int = 8) -> None:
    """Name a row at the left, `shift_px` away from the axis."""
    axis = f"y{'' if row == 1 else row} domain"
    place = {"xref": "paper", "x": 0, "xanchor": "right", "xshift": -shift_px, "yref": axis, "y": 0.5}
    figure.add_annotation(text=text, showarrow=False, **place)


def _compact(values: NDArray[Any] | Sequence[float]) -> NDArray[np.float32]:
    """Plotly writes arrays in binary; half the bytes are enough for the eye."""
    return np.asarray(values, np.float32)


def _html(figure: go.Figure, name: str, height: int) -> str:
    figure.update_layout(height=height, **_LAYOUT)
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,  # once for the page, in its head
        div_id=f"plot-{name}",
        config={"displayModeBar": False, "responsive": True},
    )
    return text
