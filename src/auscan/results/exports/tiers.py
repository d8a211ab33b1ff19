"""Write events as annotation tiers: ELAN .eaf and Praat TextGrid.

Each AU and face has a tier named `AU12 face 0`; the text of an annotation is the event's peak probability. An
AU that the model was trained on has its tiers even if no event was found. An untrained AU has no tiers.

ELAN: times are those of the container in whole milliseconds, and events before 0 are clipped, because ELAN
has no negative times. The link to the video is relative to the .eaf, so both can be moved together and no
path of this machine is written.

Praat: intervals without a label fill the time between events, because a tier must not have gaps. Time begins
at 0 and ends with the last frame; events before 0 are clipped.

Inputs: the data of a result and, if known, the path of its video.
Writes: NAME_auscan.eaf or NAME_auscan.TextGrid.
See also: results/readers/elan.py (reading .eaf files).
"""

import mimetypes
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as Xml

import pandas as pd

from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.results.exports.content import ExportData, end_s, face_ids, stem, trained_aus

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
LINGUISTIC_TYPE = "AU event"


def write_elan(data: ExportData, folder: Path, media: Path | None = None) -> list[Path]:
    """Write the file into `folder`; return its path.

    media: path of the video; None: link to the file name, which ELAN searches beside the .eaf.
    Raises InputError if the file exists, because people edit such files by hand.
    """
    path = folder / f"{stem(data)}_auscan.eaf"
    require_new_file(path)
    document = Xml.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": f"auscan {data.info.versions['auscan']}, model {data.info.model}",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{INSTANCE}}}noNamespaceSchemaLocation": SCHEMA,
        },
    )
    header = Xml.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    Xml.SubElement(header, "MEDIA_DESCRIPTOR", _media_link(data.info.source, folder, media))
    time_order = Xml.SubElement(document, "TIME_ORDER")
    number = 0
    for name, attributes, events in _tiers_with_attributes(data):
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
    """Raise InputError if the file exists, because people edit such files by hand."""
    if path.exists():
        raise InputError(
            f"{path} already exists and may have been edited by hand. Move it away, or give another "
            "folder with --out."
        )


def tier_name(au: str, face: int) -> str:
    """Return the name of the tier of an AU and face, in ELAN and in Praat."""
    return f"{au} face {face}"


def au_tiers(data: ExportData) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield name, face and events of every tier, by face and AU."""
    events = data.events
    for face in face_ids(data):
        for au in trained_aus(data):
            chosen = events[(events["face_id"] == face) & (events["AU"] == au)]
            yield tier_name(au, face), face, chosen


def _tiers_with_attributes(data: ExportData) -> Iterator[tuple[str, dict[str, str], pd.DataFrame]]:
    for name, face, events in au_tiers(data):
        yield name, {"PARTICIPANT": f"face {face}", "ANNOTATOR": "auscan"}, events


def _media_link(source: str, folder: Path, media: Path | None) -> dict[str, str]:
    where = source if media is None else os.path.relpath(media.resolve(), folder.resolve())
    url = quote(Path(where).as_posix())
    url = url if url.startswith(".") else f"./{url}"
    mime_type = mimetypes.guess_type(source)[0] or "unknown"
    return {"MEDIA_URL": url, "MIME_TYPE": mime_type, "RELATIVE_MEDIA_URL": url}


def _milliseconds(events: pd.DataFrame) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and text of each event; after rounding none is empty and none overlap."""
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
"""Least length of a tier: Praat needs one above 0, but a picture lasts 0 s."""

LabelledInterval = tuple[float, float, str]
"""Begin and end in seconds, and the label."""


def write_textgrid(data: ExportData, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path.  Raises InputError if the file exists."""
    path = folder / f"{stem(data)}_auscan.TextGrid"
    require_new_file(path)
    end = max(round(end_s(data), 6), MIN_DURATION_S)
    grid = [(name, _intervals(events, end)) for name, _, events in au_tiers(data)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(_textgrid_lines(grid, end)) + "\n", encoding="utf-8")
    return [path]


def _intervals(events: pd.DataFrame, end: float) -> list[LabelledInterval]:
    """Return labelled intervals for the events and unlabelled ones between them, from 0 to `end` s."""
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
    """Yield the lines of a file in Praat's long text format."""
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
