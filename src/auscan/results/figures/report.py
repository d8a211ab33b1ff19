"""Write a result as one HTML file that opens offline.

Inputs: a Result, and pictures of faces at the apex of events.
Writes: one file below 8 MB, with plotly.js inside.
See also: plots.py (figures), templates/ (text and layout), pipeline/outputs.py (crops of faces).
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cv2
import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from auscan.core.aus import ACTION_UNITS, au_columns
from auscan.core.environment import atomic_path
from auscan.results.attributions import Attributions
from auscan.results.figures.heat import Image, draw_apex
from auscan.results.figures.plots import MAX_POINTS, FigureData, face_figure, overview_figure
from auscan.results.result import Result
from auscan.results.table import MIN_QUALITY, NO_FACE_REASON, active_columns

MAX_FACES: Final[int] = 6
"""Faces with a timeline and pictures: those with the most frames. Events and counts include all faces."""
MAX_EVENTS: Final[int] = 500
"""Rows of the table of events at most: those with the highest peaks."""

_MAX_POINTS_ALL_FACES: Final[int] = 9000  # limits the file size for many faces
_REASON_TEXTS: Final[dict[str, str]] = {
    "small": "the face is too small",
    "blur": "the face is blurred",
    "dark": "the face is too dark or has too little contrast",
    "profile": "the face is turned too far to the side, up or down",
    "occluded": "part of the face is covered",
}
"""Meanings of the reasons in the table."""


@dataclass(frozen=True, eq=False)
class Apex:
    """Picture of a face at the apex of an event."""

    face_id: int
    """Id of the face."""
    au: str
    """Name of the AU."""
    time_s: float
    """Time of the apex, seconds."""
    peak: float
    """Probability at the apex."""
    crop: Image
    """[S, S, 3] RGB, the aligned crop."""
    attributions: Attributions | None
    """Attention and gates at the apex, one row; None if they were not kept."""


@dataclass(frozen=True)
class Panel:
    """One figure of the report with its text alternative."""

    title: str
    """Title of the figure."""
    text: str
    """Text alternative."""
    figure: str
    """HTML of the plot."""


def write_report(path: Path, result: Result, apexes: Sequence[Apex] = ()) -> None:
    """Write the report of `result` to `path`, with pictures of the apexes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary, faces = result.summary(), longest_faces(result.table)
    max_points = min(MAX_POINTS, _MAX_POINTS_ALL_FACES // max(len(faces), 1))
    strongest = _strongest(result.events, MAX_EVENTS)
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        action_units={name: ACTION_UNITS[name] for name in result.info.au_names},
        reasons=_REASON_TEXTS,
        min_quality=MIN_QUALITY,
        unscored=_unscored_shares(result.table),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly_js=get_plotlyjs(),
        overview=_overview(result, summary),
        timelines=[_timeline(result, face_id, max_points) for face_id in faces],
        hidden_faces=summary["faces"] - len(faces),
        pictures=[_apex_context(apex) for apex in apexes],
        events=list(strongest.itertuples()),
        hidden_events=len(result.events) - len(strongest),
        has_speech=result.sound is not None,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def longest_faces(table: pd.DataFrame) -> list[int]:
    """Return the MAX_FACES faces with the most frames, sorted by face_id."""
    counts = table.loc[table["success"] == 1, "face_id"].value_counts(sort=False).sort_index()
    longest = counts.sort_values(ascending=False, kind="stable").index[:MAX_FACES]
    return sorted(int(face_id) for face_id in longest)


def pictured_events(result: Result) -> pd.DataFrame:
    """Return the event with the highest peak (the first of equals) of each AU and face with a timeline."""
    events = result.events[result.events["face_id"].isin(longest_faces(result.table))]
    ordered = events.sort_values("peak", ascending=False, kind="stable")
    return ordered.drop_duplicates(["face_id", "AU"]).sort_index()


def _strongest(events: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the events with the highest peaks, sorted by onset."""
    return events.nlargest(count, "peak").sort_values(["onset", "face_id", "AU"], kind="stable")


def _apex_context(apex: Apex) -> dict[str, Any]:
    """Return the template variables of an apex; gates are None if attributions were not kept."""
    row = apex.attributions
    j = 0 if row is None else row.au_names.index(apex.au)
    return {
        "face_id": apex.face_id,
        "au": apex.au,
        "time_s": apex.time_s,
        "peak": apex.peak,
        "jpeg": _jpeg(draw_apex(apex.crop, row, apex.au)),
        "gate": None if row is None else float(row.gates[0, j]),
        "audio_gate": None if row is None else float(row.audio_gate[0]),
        "selected": None if row is None else f"{np.count_nonzero(row.patches[0])} of {row.patches.shape[1]}",
    }


def _jpeg(picture: Image) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return base64.b64encode(data.tobytes()).decode("ascii")


def _overview(result: Result, summary: dict[str, Any]) -> Panel:
    """Return the panel of the number of faces and, with sound, of its level and speech."""
    faces = f"{summary['faces']} face{'' if summary['faces'] == 1 else 's'}"
    text = (
        f"A face was found in {summary['frames_with_face']} of {summary['frames']} frames "
        f"({summary['coverage']:.0%}); {faces} in total. "
        f"{_quality_text(result.table, summary)} {_sound_text(result)}"
    )
    return Panel("Faces and sound", text, _html(overview_figure(result.table, result.sound), "overview"))


def _quality_text(table: pd.DataFrame, summary: dict[str, Any]) -> str:
    """Return a sentence on scored face rows and their quality."""
    faces = table[table["success"] == 1]
    if not len(faces):
        return "There are no faces to score."
    return (
        f"{summary['judged']:.0%} of {len(faces)} face rows are scored; "
        f"median quality {faces['quality'].median():.2f}."
    )


def _unscored_shares(table: pd.DataFrame) -> dict[str, float]:
    """Return the share of face rows that are not scored, by reason, most frequent first."""
    faces = table[table["success"] == 1]
    unscored = faces[faces[active_columns(au_columns(faces.columns))].isna().all(axis=1)]
    reasons = unscored.loc[~unscored["reason"].isin(["", NO_FACE_REASON]), "reason"].value_counts()
    return {str(reason): count / len(faces) for reason, count in reasons.items()}


def _sound_text(result: Result) -> str:
    sound = result.sound
    if sound is None or not len(sound.level_db):
        return "The input has no sound, so only the face was used."
    low, high = np.percentile(sound.level_db, [5, 95])
    return (
        f"The sound level is between {low:.0f} and {high:.0f} dB of full scale for 90% of the time; "
        f"there is speech for {sound.speech.mean():.0%} of the time."
    )


def _timeline(result: Result, face_id: int, max_points: int) -> Panel:
    """Return the panel of one face: the timeline and its text alternative."""
    rows = result.table[result.table["face_id"] == face_id]
    info = result.info
    data = FigureData(result.table, result.events, info.thresholds, info.untrained_aus, result.sound)
    figure = face_figure(data, face_id, max_points)
    return Panel(f"Face {face_id}", _timeline_text(rows), _html(figure, f"face-{face_id}"))


def _timeline_text(rows: pd.DataFrame) -> str:
    """Return the text alternative of a timeline: each active AU with its share of the scored frames."""
    au_names = au_columns(rows.columns)
    active = rows[active_columns(au_names)]
    scored_share = active.notna().any(axis=1).mean()
    seen = f"Found in {len(rows)} frames, scored in {scored_share:.0%} of them"
    shares = active.mean().to_numpy()
    order = np.argsort(-np.nan_to_num(shares), kind="stable")
    active_texts = [
        f"{au_names[j]} ({ACTION_UNITS[au_names[j]].meaning}) in {shares[j]:.0%}"
        for j in order
        if shares[j] > 0
    ]
    if not active_texts:
        return f"{seen}; no action unit reached its threshold."
    return f"{seen}. Active, as a share of the scored frames: {', '.join(active_texts)}."


def _html(figure: go.Figure, name: str) -> str:
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,  # the page includes it once, in its head
        div_id=f"plot-{name}",
        default_height=f"{figure.layout.height}px",
        config={"displayModeBar": False, "responsive": True},
    )
    return text
