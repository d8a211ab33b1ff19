"""Draw a result over time: a plotly figure for each face, and one of the number of faces and the sound.

The bands of the AUs share one time axis. Each has the probability, its threshold, the events at its foot and
a mark at their apex; a thin line is the intensity over 5, if the model computes it. Below are the quality of
the face and, with sound, speech. Grey marks frames in which the face is not scored; the curve has a gap if
the face is missing. Names are above the bands, so one figure fits a phone, a screen and paper.

Inputs: a table, its events, sound and thresholds.
Returns: figures.
See also: report.py (the page).
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from auscan.core.aus import ACTION_UNITS, au_columns
from auscan.core.config import MAX_INTENSITY
from auscan.results.events import Speech
from auscan.results.table import ROUNDING_S, active_columns, frame_durations_s, frame_times_s, value_column

MAX_POINTS: Final[int] = 6000
"""Points of one curve at most; more are not visible and make the file large."""
MAX_SHADED_SPANS: Final[int] = 1000
"""Bins in which a figure shades unscored frames, at most."""

_STRIP_SHARE, _MARK_SHARE = 6, 15  # points of a curve to one strip and to one mark of an event

_CURVE_COLOUR, _EVENT_COLOUR, _THRESHOLD_COLOUR = (
    "#0072B2",
    "#D55E00",
    "#444444",
)  # palette of Okabe and Ito, for colour-blind people
_INTENSITY_COLOUR: Final[str] = "#7a2d5e"
_AREA_COLOUR, _UNSCORED_COLOUR, _SPEECH_COLOUR = "rgba(86, 180, 233, 0.45)", "#c9ced4", "#00795a"
_LAYOUT: Final[dict[str, Any]] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1b1f24"},
    "margin": {"l": 6, "r": 6, "t": 22, "b": 40},
    "showlegend": False,
    "hovermode": "closest",
    "dragmode": "zoom",
}
_GAP_PX, _ENDS_PX = 19, 62
"""Height of the gap above each row, which has its name; height of both margins."""


@dataclass(frozen=True, eq=False)
class FigureData:
    """Data of a timeline."""

    table: pd.DataFrame
    """One row for each face and frame (table.py)."""
    events: pd.DataFrame
    """One row for each event (events.py)."""
    thresholds: tuple[float, ...]
    """[A] thresholds."""
    untrained_aus: tuple[str, ...] = ()
    """Untrained AUs, drawn as empty rows."""
    sound: Speech | None = None
    """Sound level and speech over time; None without sound."""


@dataclass(frozen=True)
class _FrameTimes:
    """Times of the frames of a video."""

    frames: NDArray[np.int64]
    """[F] frame indices, increasing."""
    starts_s: NDArray[np.float64]
    """[F] seconds."""
    ends_s: NDArray[np.float64]
    """[F] seconds."""


def face_figure(data: FigureData, face_id: int, limit: int = MAX_POINTS) -> go.Figure:
    """Return a figure of the AUs, the quality and speech over the whole video for one face.

    limit: points of one curve at most; longer curves are downsampled (`downsample`).
    Raises ValueError if the table does not have the face.
    """
    rows = data.table[(data.table["face_id"] == face_id) & (data.table["success"] == 1)]
    if rows.empty:
        raise ValueError(f"The table has no face {face_id}.")
    times = _frame_times(data.table)
    events = data.events[data.events["face_id"] == face_id]
    au_names = au_columns(data.table.columns)
    heights_px = [26] * len(au_names) + [26] + ([8] if data.sound is not None else [])
    figure = _make_rows(heights_px)
    index = np.searchsorted(times.frames, rows["frame"])
    for j, name in enumerate(au_names):
        untrained = name in data.untrained_aus
        note = " (not trained)" if untrained else ""
        _add_row_title(figure, j + 1, f"<b>{name}</b> {ACTION_UNITS[name].meaning}{note}")
        if untrained:
            figure.add_scatter(x=times.starts_s[:1], y=[None], row=j + 1, col=1)
            continue
        values = _values_by_frame(times, index, rows[value_column(data.table, name)])
        label = f"{name} at %{{x:.2f}} s: %{{y:.2f}}"
        _add_curve(figure, j + 1, *_points(times, values, limit), label)
        if f"{name}_r" in rows:
            intensities = _values_by_frame(times, index, rows[f"{name}_r"])
            _add_intensity(figure, j + 1, *_points(times, intensities, limit), name)
        line = {"color": _THRESHOLD_COLOUR, "width": 1, "dash": "dot"}
        figure.add_hline(y=data.thresholds[j], line=line, row=j + 1, col=1)
        span_s = float(times.ends_s[-1] - times.starts_s[0])
        _add_events(figure, j + 1, events[events["AU"] == name], limit, span_s)
    quality_row, speech_row = len(au_names) + 1, len(au_names) + 2
    _add_row_title(figure, quality_row, "<b>quality</b> of the face image")
    quality = _values_by_frame(times, index, rows["quality"])
    points = _points(times, quality, limit // 3)
    _add_curve(figure, quality_row, *points, "quality at %{x:.2f} s: %{y:.2f}")
    figure.update_yaxes(range=[-0.24, 1.06], showticklabels=False, showgrid=False, zeroline=False)
    if data.sound is not None:
        _add_row_title(figure, speech_row, "<b>speech</b> of any person")
        _add_speech(figure, speech_row, data.sound, 0.5)
        figure.update_yaxes(range=[0, 1], row=speech_row, col=1)
    _shade_unscored(figure, times, _scored_by_frame(times, index, rows))
    return _set_layout(figure, times, heights_px)


def overview_figure(table: pd.DataFrame, sound: Speech | None) -> go.Figure:
    """Return a figure of the number of faces over time and, with sound, its level and speech."""
    times = _frame_times(table)
    heights_px = [70] if sound is None else [70, 90]
    figure = _make_rows(heights_px)
    faces = table.groupby("frame", sort=True)["success"].sum().to_numpy(float)
    _add_row_title(figure, 1, "<b>faces</b> in each frame")
    x, y = _points(times, faces, MAX_POINTS)
    _add_curve(figure, 1, x, y, "%{x:.2f} s: %{y:.0f} faces", shape="hv")
    step = max(1, math.ceil(faces.max(initial=1) / 4))  # integers, and at most five ticks
    inside = {"ticklabelposition": "inside top", "col": 1}  # the margin is narrow for phones
    figure.update_yaxes(rangemode="tozero", dtick=step, row=1, **inside)
    if sound is not None and len(sound.level_db):
        _add_row_title(figure, 2, "<b>sound</b> level, dB of full scale; below: speech")
        x, y = downsample(sound.times_s, sound.level_db.astype(np.float64), MAX_POINTS)
        figure.add_scatter(
            x=_to_float32(x),
            y=_to_float32(y),
            line={"color": _CURVE_COLOUR, "width": 1},
            mode="lines",
            hovertemplate="%{x:.2f} s: %{y:.0f} dB<extra></extra>",
            row=2,
            col=1,
        )
        lowest = float(np.floor(sound.level_db.min() / 20) * 20) - 12  # space for the strip below the ticks
        _add_speech(figure, 2, sound, lowest + 5)
        figure.update_yaxes(range=[lowest, max(6.0, float(sound.level_db.max()))], row=2, dtick=20, **inside)
    return _set_layout(figure, times, heights_px)


def longest_face(table: pd.DataFrame) -> int | None:
    """Return the face_id with the most frames, the smallest of equals; None without a face."""
    counts = table.loc[table["success"] == 1, "face_id"].value_counts()
    return None if counts.empty else int(counts[counts == counts.max()].index.min())


def downsample(
    times_s: NDArray[np.float64], values: NDArray[Any], limit: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return at most `limit` points of a curve [T]: the lowest and highest of each bin, at their own times.

    Peaks and troughs are kept, so short activations stay visible. A bin of NaN stays NaN, so gaps are kept
    unless they are shorter than a bin.
    """
    if len(times_s) <= limit:
        return times_s, values
    width = math.ceil(len(times_s) / (limit // 2))
    padding = -len(times_s) % width
    bins = np.pad(np.asarray(values, float), (0, padding), constant_values=np.nan).reshape(-1, width)
    first = np.arange(len(bins)) * width
    highest = first + np.where(np.isnan(bins), -np.inf, bins).argmax(axis=1)
    lowest = first + np.where(np.isnan(bins), np.inf, bins).argmin(axis=1)
    kept = np.unique(np.concatenate([lowest, highest]))
    return times_s[kept], values[kept]


def _points(
    times: _FrameTimes, values: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of a curve [F], at most `limit`, and a NaN in each of the `limit` longest pauses."""
    times_s, values = downsample(times.starts_s, values, limit)
    lengths_s = times.starts_s[1:] - times.ends_s[:-1]
    longest = np.argsort(-lengths_s, kind="stable")[:limit]
    ends_s = np.sort(times.ends_s[longest[lengths_s[longest] > ROUNDING_S]])
    at = np.searchsorted(times_s, ends_s)
    return np.insert(times_s, at, ends_s), np.insert(np.asarray(values, np.float64), at, np.nan)


def runs(codes: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and last index of each run of equal codes [T]."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    return np.concatenate([[0], edges]), np.append(edges, len(codes)) - 1


def _frame_times(table: pd.DataFrame) -> _FrameTimes:
    starts_s = frame_times_s(table)
    frames = table["frame"].drop_duplicates().to_numpy(np.int64)
    return _FrameTimes(frames, starts_s, starts_s + frame_durations_s(starts_s))


def _values_by_frame(times: _FrameTimes, index: NDArray[np.intp], values: pd.Series) -> NDArray[np.float64]:
    """Return the values of a face by frame, [F]; NaN in frames without the face."""
    filled = np.full(len(times.frames), np.nan)
    filled[index] = values
    return filled


def _scored_by_frame(times: _FrameTimes, index: NDArray[np.intp], rows: pd.DataFrame) -> NDArray[np.int8]:
    """Return for each frame [F]: 1 the face is scored, 0 it is not scored, -1 it is missing."""
    scored = np.full(len(times.frames), -1, np.int8)
    scored[index] = rows[active_columns(au_columns(rows.columns))].notna().any(axis=1)
    return scored


def _make_rows(heights_px: list[int]) -> go.Figure:
    total = sum(heights_px) + _GAP_PX * (len(heights_px) - 1)
    return make_subplots(
        rows=len(heights_px),
        cols=1,
        shared_xaxes=True,
        row_heights=heights_px,
        vertical_spacing=_GAP_PX / total if len(heights_px) > 1 else 0,
    )


def _set_layout(figure: go.Figure, times: _FrameTimes, heights_px: list[int]) -> go.Figure:
    begin, end = float(times.starts_s[0]), float(times.ends_s[-1])
    figure.update_xaxes(range=[begin, max(end, begin + 0.04)], showgrid=True)
    figure.update_xaxes(title_text="time, s", row=len(heights_px), col=1)
    height = sum(heights_px) + _GAP_PX * (len(heights_px) - 1) + _ENDS_PX
    figure.update_layout(height=height, **_LAYOUT)
    return figure


def _add_row_title(figure: go.Figure, row: int, text: str) -> None:
    axis = f"y{'' if row == 1 else row} domain"
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": axis, "y": 1, "yanchor": "bottom"}
    figure.add_annotation(text=text, showarrow=False, align="left", **place)


def _add_curve(
    figure: go.Figure,
    row: int,
    times_s: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    shape: str = "linear",
) -> None:
    # Markers show single points, of a picture or a face in one frame; a line would be invisible.
    few_points = np.isfinite(values).sum() <= 2
    figure.add_scatter(
        x=_to_float32(times_s),
        y=_to_float32(values),
        mode="markers" if few_points else "lines",
        line={"color": _CURVE_COLOUR, "width": 1, "shape": shape},
        fill="tozeroy",
        fillcolor=_AREA_COLOUR,
        connectgaps=False,
        hovertemplate=f"{label}<extra></extra>",
        row=row,
        col=1,
    )


def _add_intensity(
    figure: go.Figure, row: int, times_s: NDArray[np.float64], values: NDArray[np.float64], name: str
) -> None:
    """Draw the intensity of an AU, 0 to 5, as a thin line over the height of the band."""
    figure.add_scatter(
        x=_to_float32(times_s),
        y=_to_float32(values / MAX_INTENSITY),
        customdata=_to_float32(values),
        mode="lines",
        line={"color": _INTENSITY_COLOUR, "width": 1},
        connectgaps=False,
        hovertemplate=f"{name} at %{{x:.2f}} s: intensity %{{customdata:.1f}}<extra></extra>",
        row=row,
        col=1,
    )


def _add_events(figure: go.Figure, row: int, events: pd.DataFrame, limit: int, span_s: float) -> None:
    """Draw a strip from onset to offset at the foot of the band, and a mark with hover text at the apex.

    If there are very many events, adjacent strips are merged and only the highest apexes are marked.
    """
    if events.empty:
        return
    begins, ends = events["onset"].to_numpy(), events["offset"].to_numpy()
    is_separate = begins[1:] - ends[:-1] > span_s * _STRIP_SHARE / limit
    begins, ends = begins[np.append(True, is_separate)], ends[np.append(is_separate, True)]
    strip, place = {"color": _EVENT_COLOUR, "width": 6}, {"row": row, "col": 1}
    x, y = _strips(begins, ends, -0.14)
    figure.add_scatter(x=x, y=y, mode="lines", line=strip, hoverinfo="skip", **place)
    marked = events.nlargest(limit // _MARK_SHARE, "peak").sort_values("apex")
    mark = {"symbol": "diamond", "size": 7, "color": _EVENT_COLOUR, "line": {"color": "#fff", "width": 1}}
    text = [f"{e.AU}, {e.onset:.2f} to {e.offset:.2f} s, peak {e.peak:.2f}" for e in marked.itertuples()]
    hover = {"text": text, "hovertemplate": "%{text}<extra></extra>"}
    x, y = _to_float32(marked["apex"]), _to_float32(marked["peak"])
    figure.add_scatter(x=x, y=y, mode="markers", marker=mark, **hover, **place)


def _strips(
    begins: NDArray[np.floating], ends: NDArray[np.floating], y: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x and y of lines from begin to end at height y, separated by NaN."""
    x = np.stack([begins, ends, np.full(len(begins), np.nan)], axis=1).ravel()
    return _to_float32(x), _to_float32(np.where(np.isnan(x), np.nan, y))


def _add_speech(figure: go.Figure, row: int, sound: Speech, y: float) -> None:
    """Draw a strip at times with speech."""
    if not len(sound.speech):
        return
    first, last = runs(sound.speech.astype(np.int8))
    has_speech = sound.speech[first]
    begins = sound.start_s + first[has_speech] * sound.step_s
    ends = sound.start_s + (last[has_speech] + 1) * sound.step_s
    x, line_y = _strips(begins, ends, y)
    figure.add_scatter(
        x=x,
        y=line_y,
        mode="lines",
        line={"color": _SPEECH_COLOUR, "width": 6},
        hovertemplate="speech, %{x:.2f} s<extra></extra>",
        row=row,
        col=1,
    )


def _shade_unscored(figure: go.Figure, times: _FrameTimes, scored: NDArray[np.int8]) -> None:
    """Shade bins in which the face is present and not scored in at least one frame, over all rows."""
    starts = np.linspace(0, len(scored), min(len(scored), MAX_SHADED_SPANS), endpoint=False).astype(int)
    unscored = np.maximum.reduceat((scored == 0).astype(np.int8), starts)
    first, last = runs(unscored)
    after = np.append(starts, len(scored))[last + 1] - 1
    for begin, end in zip(starts[first][unscored[first] == 1], after[unscored[first] == 1], strict=True):
        figure.add_shape(
            type="rect",
            layer="below",
            xref="x",
            yref="paper",
            x0=round(float(times.starts_s[begin]), 3),
            x1=round(float(times.ends_s[end]), 3),
            y0=0,
            y1=1,
            fillcolor=_UNSCORED_COLOUR,
            line_width=0,
        )


def _to_float32(values: Any) -> NDArray[np.float32]:
    """Return values as float32; plotly writes arrays in binary, so this halves the file."""
    return np.asarray(values, np.float32)
