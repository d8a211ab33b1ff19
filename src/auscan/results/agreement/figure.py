"""Draw an agreement as an SVG figure.

SVG opens in browsers, Word and Inkscape, and the file is small. Each AU is a row and each level a panel; each
measure has a mark and its interval. Marks differ in shape and colour, so the figure is readable in black and
white and for colour-blind people.

Inputs: an `Agreement`.
Writes: an .svg file.
"""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import atomic_path
from auscan.results.agreement.agree import MEAN, Agreement
from auscan.results.agreement.measures import MEASURES

COLOURS: Final = {  # palette of Okabe and Ito
    "kappa": "#0072B2",
    "icc": "#D55E00",
    "f1": "#009E73",
    "r": "#CC79A7",
}
TITLES: Final = {"kappa": "Cohen's kappa", "icc": "ICC(3,1)", "f1": "F1", "r": "Pearson's r"}

LEFT, WIDTH, GAP, ROW, TOP, BOTTOM = 190, 330, 40, 30, 80, 40  # px
TICKS: Final = (-0.5, 0.0, 0.5, 1.0)
LOWEST: Final = -0.5
"""Left end of the axis; lower values are drawn there."""


def write_figure(path: Path, agreement: Agreement) -> None:
    """Write the figure to `path` (.svg)."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(_lines(agreement)) + "\n", encoding="utf-8")


def _lines(agreement: Agreement) -> Iterator[str]:
    panels = _panels(agreement)
    names = agreement.table["AU"].unique().tolist()
    height = TOP + ROW * len(names) + BOTTOM
    width = LEFT + len(panels) * (WIDTH + GAP)
    title = html.escape(f"Agreement of {agreement.a} and {agreement.b}")
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="title desc" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1b1f24">'
    )
    yield f'<title id="title">{title}</title>'
    yield f'<desc id="desc">{html.escape(_description(agreement))}</desc>'
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="12" y="22" font-size="16">{title}</text>'
    yield from _legend(dict.fromkeys(measure for panel in panels for measure in panel.measures))
    for i, name in enumerate(names):
        y = _row_y(i)
        yield f'<text x="12" y="{y + 4}">{name} {_meaning(name)}</text>'
    for p, panel in enumerate(panels):
        yield from _draw_panel(panel, LEFT + p * (WIDTH + GAP), names)
    yield "</svg>"


@dataclass(frozen=True, eq=False)
class _AgreementPanel:
    """One panel of the figure."""

    title: str
    measures: tuple[str, ...]
    rows: dict[str, dict[Any, Any]]
    """Measures by AU."""


def _panels(agreement: Agreement) -> list[_AgreementPanel]:
    """Return the panels of frames, of events and, if there are any, of intensities."""
    table, intensities = agreement.table, agreement.intensities
    panels = [
        ("Frames", MEASURES, table[table["level"] == "frame"]),
        ("Events", MEASURES, table[table["level"] == "event"]),
        ("Intensities", ("icc", "r"), intensities),  # the mean error has another unit
    ]
    return [
        _AgreementPanel(title, measures, {row["AU"]: row for row in rows.to_dict("records")})
        for title, measures, rows in panels
        if not rows.empty
    ]


def _meaning(name: str) -> str:
    """Return the meaning of an AU, or the rest of the title of the mean."""
    return ACTION_UNITS[name].meaning if name in ACTION_UNITS else "of the AUs"


def _draw_panel(panel: _AgreementPanel, left: int, names: list[str]) -> Iterator[str]:
    bottom = TOP + ROW * len(names)
    yield f'<text x="{left}" y="{TOP - 10}" font-weight="bold">{panel.title}</text>'
    for tick in TICKS:
        x = _x(tick, left)
        yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="{"#888" if not tick else "#ddd"}"/>'
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
    for i, name in enumerate(names):
        if name not in panel.rows:  # no intensities
            continue
        for k, measure in enumerate(panel.measures):
            yield from _mark(panel.rows[name], measure, left, _row_y(i) + 8 * (k - 1))


def _mark(row: dict[Any, Any], measure: str, left: int, y: int) -> Iterator[str]:
    value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
    if value != value:  # NaN: undefined
        return
    x, colour = _x(value, left), COLOURS[measure]
    text = f"{TITLES[measure]} {value:.2f}"
    if low == low:
        yield f'<line x1="{_x(low, left)}" x2="{_x(high, left)}" y1="{y}" y2="{y}" stroke="{colour}"/>'
        text += f", {low:.2f} to {high:.2f}"
    yield f'<g fill="{colour}"><title>{text}</title>{_shape(measure, x, y)}</g>'


def _shape(measure: str, x: float, y: int) -> str:
    if measure == "kappa":
        return f'<circle cx="{x}" cy="{y}" r="4"/>'
    if measure == "icc":
        return f'<rect x="{x - 3.5}" y="{y - 3.5}" width="7" height="7"/>'
    if measure == "r":
        return f'<path d="M{x} {y - 5}l5 5l-5 5l-5 -5z"/>'
    return f'<path d="M{x} {y - 4.5}l4.5 8h-9z"/>'


def _legend(measures: Iterable[str]) -> Iterator[str]:
    for k, measure in enumerate(measures):
        x = LEFT + 130 * k
        yield f'<g fill="{COLOURS[measure]}">{_shape(measure, x + 4, 42)}</g>'
        yield f'<text x="{x + 14}" y="46">{TITLES[measure]}</text>'


def _description(agreement: Agreement) -> str:
    """Return the text alternative of the figure."""
    text = [
        f"{panel.title}: " + ", ".join(f"{TITLES[m]} {panel.rows[MEAN][m]:.2f}" for m in panel.measures)
        for panel in _panels(agreement)
    ]
    return f"Mean of the action units. {'; '.join(text)}. {' '.join(agreement.notes)}"


def _row_y(row: int) -> int:
    return TOP + ROW * row + ROW // 2


def _x(value: float, left: int) -> float:
    return round(left + WIDTH * (max(value, LOWEST) - LOWEST) / (1 - LOWEST), 1)
