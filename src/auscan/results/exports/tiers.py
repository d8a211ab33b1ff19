"""ELAN's .eaf: a tier an AU and face, an annotation an event, linked to the video.

A tier is called `AU12 face 0`; the text of an annotation is the event's peak probability. An AU that the
model was taught has its tiers even where nothing was found; one that it was not taught has none. Times are
the container's, in whole milliseconds, as ELAN keeps them; what lies before 0, which ELAN does not know,
is cut off. The link is relative to the file, so both can move together, and no path of this machine is
written.

In: a Result and, where it is known, the place of its video.  Out: NAME_auscan.eaf.
Not here: reading such files (results/readers/elan.py).

Praat's TextGrid: an interval tier an AU and face, called and labelled as in the .eaf.

Intervals without a label lie between the events, as Praat wants a tier without holes. Time begins at 0, as
Praat's sounds do, and ends with the last frame; what lies before 0 is cut off.

In: a Result.  Out: NAME_auscan.TextGrid.
"""

import mimetypes
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as Xml

import pandas as pd

from auscan.core.atomic_write import atomic_path
from auscan.core.errors import InputError
from auscan.results.exports.content import end_s, face_ids, stem, trained_aus
from auscan.results.result import Result

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
LINGUISTIC_TYPE = "AU event"


def write_elan(result: Result, folder: Path, media: Path | None = None) -> list[Path]:
    """Write the file into `folder`; return its path.

    media: the video; unknown, it is looked for beside the file, as ELAN does.
    Raises InputError where the file is there already: somebody may have worked on it.
    """
    path = folder / f"{stem(result)}_auscan.eaf"
    require_new_file(path)
    document = Xml.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": f"auscan {result.info.versions['auscan']}, model {result.info.model}",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{INSTANCE}}}noNamespaceSchemaLocation": SCHEMA,
        },
    )
    header = Xml.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    Xml.SubElement(header, "MEDIA_DESCRIPTOR", _media_link(result.info.source, folder, media))
    time_order = Xml.SubElement(document, "TIME_ORDER")
    number = 0
    for name, attributes, events in _tiers_with_attributes(result):
        tier = Xml.SubElement(
            document, "TIER", {"TIER_ID": name, **attributes, "LINGUISTIC_TYPE_REF": LINGUISTIC_TYPE}
        )
        for begin_ms, end_ms, text in _milliseconds(events):
            number += 1
            _add_annotation(time_order, tier, number, begin_ms, end_ms, text)
    last = Xml.SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"})
    last.text = str(number)
    linguistic_type = {
        "LINGUISTIC_TYPE_ID": LINGUISTIC_TYPE,
        "TIME_ALIGNABLE": "true",
        "GRAPHIC_REFERENCES": "false",
    }
    Xml.SubElement(document, "LINGUISTIC_TYPE", linguistic_type)
    Xml.register_namespace("xsi", INSTANCE)
    Xml.indent(document)
    with atomic_path(path) as temporary:
        Xml.ElementTree(document).write(temporary, encoding="UTF-8", xml_declaration=True)
    return [path]


def require_new_file(path: Path) -> None:
    """Raise InputError if the file is there: people work on such files by hand."""
    if path.exists():
        raise InputError(
            f"{path} is there already, and somebody may have worked on it. Move it away, or give another "
            "folder with --out."
        )


def tier_name(au: str, face: int) -> str:
    """What the tier of an AU and face is called, in ELAN and in Praat."""
    return f"{au} face {face}"


def au_tiers(result: Result) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Name, face and events of every tier, by face and AU."""
    events = result.events
    for face in face_ids(result):
        for au in trained_aus(result):
            chosen = events[(events["face_id"] == face) & (events["AU"] == au)]
            yield tier_name(au, face), face, chosen


def _tiers_with_attributes(result: Result) -> Iterator[tuple[str, dict[str, str], pd.DataFrame]]:
    for name, face, events in au_tiers(result):
        yield name, {"PARTICIPANT": f"face {face}", "ANNOTATOR": "auscan"}, events


def _media_link(source: str, folder: Path, media: Path | None) -> dict[str, str]:
    where = source if media is None else os.path.relpath(media.resolve(), folder.resolve())
    url = quote(Path(where).as_posix())
    url = url if url.startswith(".") else f"./{url}"
    mime_type = mimetypes.guess_type(source)[0] or "unknown"
    return {"MEDIA_URL": url, "MIME_TYPE": mime_type, "RELATIVE_MEDIA_URL": url}


def _milliseconds(events: pd.DataFrame) -> Iterator[tuple[int, int, str]]:
    """Begin, end and text of each event; rounding leaves none without length and none over another."""
    free_ms = 0
    for onset, offset, peak in events[["onset", "offset", "peak"]].itertuples(index=False):
        if round(1000 * offset) <= 0:
            continue
        begin_ms = max(round(1000 * onset), free_ms)
        free_ms = max(round(1000 * offset), begin_ms + 1)
        yield begin_ms, free_ms, f"{peak:.2f}"


def _add_annotation(
    time_order: Xml.Element, tier: Xml.Element, number: int, begin_ms: int, end_ms: int, text: str
) -> None:
    slots = {f"ts{2 * number - 1}": begin_ms, f"ts{2 * number}": end_ms}
    for slot, time_ms in slots.items():
        Xml.SubElement(time_order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(time_ms)})
    begin, end = slots
    annotation = Xml.SubElement(tier, "ANNOTATION")
    attributes = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": begin, "TIME_SLOT_REF2": end}
    Xml.SubElement(
        Xml.SubElement(annotation, "ALIGNABLE_ANNOTATION", attributes), "ANNOTATION_VALUE"
    ).text = text


MIN_DURATION_S = 0.001
"""Praat knows no tier without length, though a picture has none."""

LabelledInterval = tuple[float, float, str]


def write_textgrid(result: Result, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path.  Raises InputError where it is there already."""
    path = folder / f"{stem(result)}_auscan.TextGrid"
    require_new_file(path)
    end = max(round(end_s(result), 6), MIN_DURATION_S)
    grid = [(name, _intervals(events, end)) for name, _, events in au_tiers(result)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(_textgrid_lines(grid, end)) + "\n", encoding="utf-8")
    return [path]


def _intervals(events: pd.DataFrame, end: float) -> list[LabelledInterval]:
    """The events and what lies between them, from 0 to the end without a hole."""
    intervals, covered_until = [], 0.0
    for onset, offset, peak in events[["onset", "offset", "peak"]].itertuples(index=False):
        onset, offset = max(round(onset, 6), covered_until), min(round(offset, 6), end)
        if offset <= onset:
            continue
        if onset > covered_until:
            intervals.append((covered_until, onset, ""))
        intervals.append((onset, offset, f"{peak:.2f}"))
        covered_until = offset
    if covered_until < end:
        intervals.append((covered_until, end, ""))
    return intervals


def _textgrid_lines(grid: list[tuple[str, list[LabelledInterval]]], end: float) -> Iterator[str]:
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
