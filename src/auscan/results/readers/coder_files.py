"""Read files of human coders, in seconds or frames and with the names as they were written.

    .eaf                ELAN: a tier for each name
    .TextGrid           Praat: a tier for each name
    .opf                Datavyu: a column for each name
    .csv, .tsv          tables: see coder_tables.py

The text of an annotation is active, unless it is one of `INACTIVE_TEXTS` or `UNCODED_TEXTS`.

Inputs: a path.
Returns: a sheet for each video, coder and face of the file.
See also: elan.py, read.py (files for `auscan agree`), datasets/own_labels.py (which uses the sheets).
"""

import re
import zipfile
from pathlib import Path
from typing import Final

from auscan.core.errors import InputError
from auscan.results.readers.coder_sheet import (
    CodedSpan,
    CoderSheet,
    IsUsed,
    media_stem,
    read_seconds,
    read_text,
    text_value,
)
from auscan.results.readers.coder_tables import read_table_sheets
from auscan.results.readers.elan import read_eaf

TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
"""Suffixes of tables."""
CODER_SUFFIXES: Final = frozenset({".eaf", ".textgrid", ".opf"}) | TABLE_SUFFIXES
"""Suffixes of files that coders write, in lower case."""
EXPORTER: Final = "auscan"
"""Annotator in the .eaf files that `auscan export-results` writes: not the coder who corrects them."""


def read_sheets(path: Path, is_used: IsUsed = bool) -> list[CoderSheet]:
    """Return the sheets of a file; none if it is a table without a known form.

    is_used: whether to read the events and values of a name; a sheet lists the others without them.
    Raises InputError if the file cannot be read, or a value in it is invalid.
    """
    kind = path.suffix.lower()
    if kind == ".eaf":
        return _read_eaf(path, is_used)
    if kind == ".textgrid":
        return _read_textgrid(path)
    if kind == ".opf":
        return _read_opf(path)
    return read_table_sheets(path, is_used)


# --- ELAN ---


def _read_eaf(path: Path, is_used: IsUsed) -> list[CoderSheet]:
    """Return a sheet for each annotator of an .eaf file."""
    root = read_eaf(path)
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    video = None if media is None else media_stem(media.get("MEDIA_URL", "")) or None
    slots = {slot.attrib["TIME_SLOT_ID"]: slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    sheets: dict[str | None, CoderSheet] = {}
    for tier in root.iter("TIER"):
        coder = tier.get("ANNOTATOR") or None
        coder = None if coder == EXPORTER else coder
        sheet = sheets.setdefault(coder, CoderSheet(path=path, video=video, coder=coder))
        name = tier.attrib["TIER_ID"]
        sheet.names.append(name)
        for annotation in tier.iter("ALIGNABLE_ANNOTATION") if is_used(name) else ():
            onset, offset = (slots.get(annotation.attrib[f"TIME_SLOT_REF{end}"]) for end in (1, 2))
            if onset is None or offset is None:
                raise InputError(f"{path} has annotations without times in tier {name}.")
            value = text_value(annotation.findtext("ANNOTATION_VALUE") or "")
            sheet.spans.append(CodedSpan(name, int(onset) / 1000, int(offset) / 1000, value))
    return list(sheets.values())


# --- Praat ---

_TEXTGRID_TOKEN: Final = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d[\d.eE+-]*)(?!\S)')


def _read_textgrid(path: Path) -> list[CoderSheet]:
    """Read a TextGrid in the long or the short text format."""
    tokens = iter([found[0] or found[1] for found in _TEXTGRID_TOKEN.findall(read_text(path))])
    sheet = CoderSheet(path=path)
    try:
        if [next(tokens), next(tokens)] != ["ooTextFile", "TextGrid"]:
            raise ValueError
        _, _, count = next(tokens), next(tokens), int(next(tokens, "0"))
        for _ in range(count):
            kind, name, _, _, items = (next(tokens) for _ in range(5))
            sheet.names.append(name.replace('""', '"'))
            for _ in range(int(items)):
                onset = float(next(tokens))
                offset = float(next(tokens)) if kind == "IntervalTier" else onset
                text = next(tokens)
                if text.strip():
                    sheet.spans.append(CodedSpan(sheet.names[-1], onset, offset, text_value(text)))
    except (StopIteration, RuntimeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a TextGrid. Save it in Praat as a text file.") from error
    return [sheet]


# --- Datavyu ---

_OPF_COLUMN: Final = re.compile(r"(.+?) \((?:MATRIX|TEXT|NOMINAL),")
_OPF_CELL: Final = re.compile(r"(\d+:\d+:\d+:\d+),(\d+:\d+:\d+:\d+),(.*)")


def _read_opf(path: Path) -> list[CoderSheet]:
    """Read the spreadsheet in a Datavyu project: a line for each column, then a line for each cell."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read("db").decode("utf-8")
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a project of Datavyu ({error}).") from error
    sheet = CoderSheet(path=path)
    for line in text.splitlines():
        column, cell = _OPF_COLUMN.match(line), _OPF_CELL.match(line)
        if column:
            sheet.names.append(column[1])
        elif cell and sheet.names:
            onset, offset = read_seconds(cell[1], path), read_seconds(cell[2], path)
            sheet.spans.append(CodedSpan(sheet.names[-1], onset, offset, text_value(cell[3].strip("()"))))
    return [sheet]
