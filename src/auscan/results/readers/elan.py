"""Read ELAN .eaf files: one tier for each AU, one annotation for each event.

A tier belongs to an AU if its name begins with it: `AU12`, `AU 12`, `au_12 face 0`, `AU12@anna`. The face is
the number after `face` in the name, if there is one. The text of an annotation is not read: it may be an
intensity, a side or a remark. An AU with an empty tier was coded and not found; an AU without a tier is
unknown. ELAN's media offset is not applied.

Inputs: an .eaf file.
Returns: a coding for each face.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as Xml

import pandas as pd

from auscan.core.aus import ACTION_UNITS
from auscan.core.errors import InputError
from auscan.results.readers.coding import EventCoding

AU_PATTERN: Final = re.compile(r"\s*au[ _-]?0*(\d+)(?!\d)", re.IGNORECASE)
FACE_PATTERN: Final = re.compile(r"face[ _-]?(\d+)", re.IGNORECASE)
TimeSpan = tuple[float, float]
"""Onset and offset, seconds."""


def read_elan(path: Path) -> list[EventCoding]:
    """Return a coding for each face of the file.

    Raises InputError if the file is not an .eaf, has no tier of an AU, or has annotations without times.
    """
    root = read_eaf(path)
    slots = {slot.attrib["TIME_SLOT_ID"]: slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    spans_by_face: dict[int | None, dict[str, list[TimeSpan]]] = defaultdict(dict)
    names = [tier.attrib["TIER_ID"] for tier in root.iter("TIER")]
    for name, tier in zip(names, root.iter("TIER"), strict=True):
        au = _au(name)
        if au is not None:
            face = FACE_PATTERN.search(name)
            spans_by_face[int(face[1]) if face else None].setdefault(au, []).extend(_spans(tier, slots, path))
    if not spans_by_face:
        raise InputError(
            f"{path} has no tier of an action unit (its tiers: {', '.join(names) or 'none'}). "
            "Name each tier after its AU, for example AU12."
        )
    return [_coding(path.name, face, spans) for face, spans in sorted(spans_by_face.items(), key=_face_order)]


def read_eaf(path: Path) -> Xml.Element:
    """Return the root of an .eaf file.  Raises InputError if it is none, or has times in frames."""
    try:
        root = Xml.parse(path).getroot()
    except (OSError, Xml.ParseError) as error:
        raise InputError(f"{path} cannot be read as an .eaf file ({error}).") from error
    header = root.find("HEADER")
    if root.tag != "ANNOTATION_DOCUMENT" or header is None:
        raise InputError(f"{path} is not an .eaf file of ELAN.")
    if header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise InputError(f"{path} has times in frames. Save it in ELAN with times in milliseconds.")
    return root


def _au(tier: str) -> str | None:
    """Return the AU of a tier by its name; None if it names none."""
    match = AU_PATTERN.match(tier)
    name = f"AU{int(match[1]):02d}" if match else ""
    return name if name in ACTION_UNITS else None


def _spans(tier: Xml.Element, slots: dict[str, str | None], path: Path) -> list[TimeSpan]:
    spans = []
    for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
        times = [slots.get(annotation.attrib[f"TIME_SLOT_REF{end}"]) for end in (1, 2)]
        if times[0] is None or times[1] is None:
            raise InputError(f"{path} has annotations without times in tier {tier.attrib['TIER_ID']}.")
        spans.append((int(times[0]) / 1000, int(times[1]) / 1000))
    return spans


def _face_order(item: tuple[int | None, object]) -> int:
    """Sort faces by number, tiers without one first."""
    return -1 if item[0] is None else item[0]


def _coding(name: str, face: int | None, spans: dict[str, list[TimeSpan]]) -> EventCoding:
    rows = [(au, *span) for au in sorted(spans) for span in _merge_overlaps(spans[au])]
    events = pd.DataFrame(rows, columns=["AU", "onset", "offset"])
    events = events.astype({"AU": "str", "onset": float, "offset": float})  # dtypes of an empty table, too
    return EventCoding(name=name, face=face, au_names=tuple(sorted(spans)), events=events)


def _merge_overlaps(spans: list[TimeSpan]) -> list[TimeSpan]:
    """Return spans sorted by time; overlapping spans, as of two tiers of one AU, become one."""
    merged: list[TimeSpan] = []
    for onset, offset in sorted(spans):
        if merged and onset < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], offset))
        elif offset > onset:
            merged.append((onset, offset))
    return merged
