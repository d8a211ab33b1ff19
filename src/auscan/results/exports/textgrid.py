"""Praat's TextGrid: an interval tier an AU and face, called and labelled as in the .eaf (elan.py).

Intervals without a label lie between the events, as Praat wants a tier without holes. Time begins at 0, as
Praat's sounds do, and ends with the last frame; what lies before 0 is cut off.

In: a Result.  Out: NAME_auscan.TextGrid.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from auscan.results.atomic import atomic_path
from auscan.results.exports.content import end_s, stem
from auscan.results.exports.elan import refuse_to_replace, tiers
from auscan.results.result import Result

SHORTEST_S = 0.001
"""Praat knows no tier without length, though a picture has none."""

Interval = tuple[float, float, str]


def write_textgrid(result: Result, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path.  Raises InputError where it is there already."""
    path = folder / f"{stem(result)}_auscan.TextGrid"
    refuse_to_replace(path)
    end = max(round(end_s(result), 6), SHORTEST_S)
    grid = [(name, _intervals(events, end)) for name, _, events in tiers(result)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(_lines(grid, end)) + "\n", encoding="utf-8")
    return [path]


def _intervals(events: pd.DataFrame, end: float) -> list[Interval]:
    """The events and what lies between them, from 0 to the end without a hole."""
    found, at = [], 0.0
    for onset, offset, peak in events[["onset", "offset", "peak"]].itertuples(index=False):
        onset, offset = max(round(onset, 6), at), min(round(offset, 6), end)
        if offset <= onset:
            continue
        if onset > at:
            found.append((at, onset, ""))
        found.append((onset, offset, f"{peak:.2f}"))
        at = offset
    if at < end:
        found.append((at, end, ""))
    return found


def _lines(grid: list[tuple[str, list[Interval]]], end: float) -> Iterator[str]:
    """Praat's long text format."""
    yield from ('File type = "ooTextFile"', 'Object class = "TextGrid"', "")
    yield from ("xmin = 0", f"xmax = {end:.6f}")
    if not grid:
        yield "tiers? <absent>"
        return
    yield from ("tiers? <exists>", f"size = {len(grid)}", "item []:")
    for i, (name, intervals) in enumerate(grid, start=1):
        yield f"    item [{i}]:"
        yield from ('        class = "IntervalTier"', f'        name = "{name}"')
        yield from ("        xmin = 0", f"        xmax = {end:.6f}")
        yield f"        intervals: size = {len(intervals)}"
        for k, (begin, until, text) in enumerate(intervals, start=1):
            yield f"        intervals [{k}]:"
            yield f"            xmin = {begin:.6f}"
            yield f"            xmax = {until:.6f}"
            yield f'            text = "{text}"'
