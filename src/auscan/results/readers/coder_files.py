"""Read files of human coders, in seconds or frames and with the names as they were written.

    .eaf                ELAN: a tier for each name
    .TextGrid           Praat: a tier for each name
    .opf, .csv          Datavyu: a column for each name, milliseconds
    .tsv, .csv          BORIS (tabular and aggregated events), BIDS events, and tables of one's own:
                        events (onset, offset or duration, code) or frames (frame or time), long or wide

A wide table has a column for each name, a long one a row for each event or value. Values are 1 active,
0 inactive, -1 or empty not coded. The text of an annotation is active, unless it is one of `INACTIVE_TEXTS`
or `UNCODED_TEXTS`.

Inputs: a path.
Returns: a sheet for each video, coder and face of the file.
See also: elan.py, read.py (files for `auscan agree`), datasets/own_labels.py (which uses the sheets).
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Final
from urllib.parse import unquote

import pandas as pd

from auscan.core.errors import InputError
from auscan.results.readers.elan import read_eaf

TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
"""Suffixes of tables."""
CODER_SUFFIXES: Final = frozenset({".eaf", ".textgrid", ".opf"}) | TABLE_SUFFIXES
"""Suffixes of files that coders write, in lower case."""
INACTIVE_TEXTS: Final = frozenset({"0", "0.0"})
"""Texts of an interval in which the AU is inactive."""
UNCODED_TEXTS: Final = frozenset({"-1", "uncoded", "not coded", "n/a", "?"})
"""Texts of an interval in which the AU was not coded."""

EXPORTER: Final = "auscan"
"""Annotator in the .eaf files that `auscan export-results` writes: not the coder who corrects them."""


@dataclass(frozen=True)
class CodedSpan:
    """Interval of one name."""

    name: str
    """Tier, column or code as written."""
    onset_s: float
    offset_s: float
    """End; equal to the onset for a point in time."""
    value: int = 1
    """1 active, 0 inactive, -1 not coded."""


@dataclass(eq=False, kw_only=True)
class CoderSheet:
    """Coding of one video by one coder in one file."""

    path: Path
    """The file."""
    video: str | None = None
    """Video named in the file, without folder and suffix."""
    coder: str | None = None
    """Coder named in the file."""
    person: str | None = None
    """Person named in the file."""
    face: int | None = None
    """Number of the face in the file."""
    names: list[str] = field(default_factory=list)
    """Names that were coded, with and without events."""
    is_complete: bool = True
    """Whether `names` has all names that were coded; False for lists of events."""
    spans: list[CodedSpan] = field(default_factory=list)
    """Events."""
    frames: pd.DataFrame | None = None
    """Columns `number` (as written) or `time_s`, and one for each name with 1, 0 and -1; None for events."""


IsUsed = Callable[[str], bool]
"""Function that returns whether a name is used."""


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
    return _read_table(path, is_used)


def text_value(text: str) -> int:
    """Return 1, 0 or -1 for the text of an annotation."""
    text = text.strip().casefold()
    return 0 if text in INACTIVE_TEXTS else -1 if text in UNCODED_TEXTS else 1


def media_stem(name: str) -> str:
    """Return the name of a media file or URL without folders and suffix."""
    name = PureWindowsPath(unquote(name.strip())).name  # also splits at /
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.isalnum() and not suffix.isdecimal() else name


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
            onset, offset = _seconds(cell[1], path), _seconds(cell[2], path)
            sheet.spans.append(CodedSpan(sheet.names[-1], onset, offset, text_value(cell[3].strip("()"))))
    return [sheet]


def _datavyu_sheets(table: pd.DataFrame, path: Path) -> list[CoderSheet]:
    """Read groups of columns NAME.onset, NAME.offset and codes, in milliseconds."""
    sheet = CoderSheet(path=path)
    for column in table.columns[table.columns.str.endswith(".onset")]:
        name = column.removesuffix(".onset")
        codes = [c for c in table.columns if c.startswith(f"{name}.") and c not in _times_of(name)]
        sheet.names.append(name)
        for _, row in table[table[column] != ""].iterrows():
            onset, offset = (_seconds(row[f"{name}.{end}"], path) / 1000 for end in ("onset", "offset"))
            value = text_value(row[codes[0]]) if codes else 1
            sheet.spans.append(CodedSpan(name, onset, offset, value))
    return [sheet]


def _times_of(name: str) -> tuple[str, ...]:
    return f"{name}.ordinal", f"{name}.onset", f"{name}.offset"


# --- tables ---

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "video": ("video", "media file name", "media file path", "media file", "file", "filename", "clip",
              "observation id"),
    "coder": ("coder", "annotator", "rater", "observer"),
    "person": ("person", "participant", "participant id", "subject"),
    "face": ("face", "face id"),
    "onset": ("onset", "start", "begin", "start time"),
    "offset": ("offset", "stop", "end", "stop time", "end time"),
    "duration": ("duration",),
    "code": ("au", "action unit", "code", "behavior", "behaviour", "trial type", "tier", "column", "event",
             "label"),
    "value": ("value", "active", "present", "presence", "code01"),
    "state": ("status", "behavior type"),
    "time": ("time", "timestamp"),
    "frame": ("frame", "frame number"),
    "ignored": ("comment", "comments", "note", "notes", "ordinal", ""),
}  # fmt: skip
"""Columns of a table by what they hold; case, `_` and units at the end do not matter."""
_UNIT: Final = re.compile(r"^(.*?)[ _]*[(\[ _](ms|msec|s|sec|seconds)[)\]]?$")
_NO_PERSON: Final = frozenset({"", "n/a", "no focal subject"})


def _read_table(path: Path, is_used: IsUsed) -> list[CoderSheet]:
    """Return the sheets of a table; none if it has neither times nor names of codes."""
    table = _load_table(path)
    if table.columns.str.endswith(".onset").any():
        return _datavyu_sheets(table, path)
    roles, scale = _find_roles(table.columns)
    is_datavyu = {"column", "ordinal", "onset", "offset"} <= set(table.columns.str.strip().str.casefold())
    if is_datavyu:
        scale = dict.fromkeys(scale, 0.001)
    taken = {column for columns in roles.values() for column in columns}
    others = [column for column in table.columns if column not in taken]
    columns = {role: names[0] for role, names in roles.items()}
    is_events = "onset" in columns and ("offset" in columns or "duration" in columns)
    is_boris = "time" in columns and "code" in columns and "state" in columns
    if not is_events and not is_boris and "frame" not in columns and "time" not in columns:
        return []
    if "code" not in columns and not others:
        return []
    sheets = []
    for rows, sheet in _grouped(table, columns, path):
        if is_events:
            _add_events(sheet, rows, columns, scale, others, is_used)
        elif is_boris:
            _add_boris_events(sheet, rows, columns, scale)
        else:
            _add_frames(sheet, rows, columns, scale, others, is_used)
        sheets.append(sheet)
    levels = _bids_levels(path)
    for sheet in sheets if levels else ():
        sheet.names, sheet.is_complete = list(dict.fromkeys([*sheet.names, *levels])), True
    return sheets


def _bids_levels(path: Path) -> list[str]:
    """Return the codes that the JSON file beside a table of BIDS events describes; none without it."""
    sidecar = path.with_suffix(".json")
    if not path.stem.endswith("_events") or not sidecar.is_file():
        return []
    try:
        return list(json.loads(read_text(sidecar))["trial_type"]["Levels"])
    except KeyError:
        return []
    except (TypeError, ValueError) as error:
        raise InputError(f"{sidecar} cannot be read as the JSON of BIDS events ({error}).") from error


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, with a byte order mark, UTF-16.  Raises InputError."""
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}). Save it in UTF-8.") from error


def _load_table(path: Path) -> pd.DataFrame:
    """Return all cells as text; lines above the header, as in BORIS, are skipped."""
    lines = read_text(path).splitlines()
    start = next((i for i, line in enumerate(lines) if re.search(r"\bBehavior\b.*\bStatus\b", line)), 0)
    head = lines[start] if lines else ""
    separator = max("\t;,", key=head.count)
    rows = list(csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=separator))
    names = [name.strip() for name in rows[0]] if rows else []
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} has two columns named {twice!r}. Rename one of them.")
    wrong = next((i for i, row in enumerate(rows[1:], start + 2) if row and len(row) > len(names)), None)
    if wrong is not None:
        raise InputError(f"{path} has more cells than columns in line {wrong}.")
    cells = [[*map(str.strip, row), *[""] * (len(names) - len(row))] for row in rows[1:] if any(row)]
    return pd.DataFrame(cells, columns=pd.Index(names, dtype=object), dtype=object)


def _find_roles(columns: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the columns of each role, best first, and the factor to seconds of each column."""
    found: dict[str, list[tuple[int, str]]] = {}
    scale: dict[str, float] = {}
    for column in columns:
        name = column.casefold()
        unit = _UNIT.match(name)
        name = re.sub(r"[\s_]+", " ", unit[1] if unit else name).strip()
        scale[column] = 0.001 if unit and unit[2].startswith("ms") else 1.0
        for role, names in ROLES.items():
            if name in names:
                found.setdefault(role, []).append((names.index(name), column))
    return {role: [column for _, column in sorted(each)] for role, each in found.items()}, scale


def _grouped(
    table: pd.DataFrame, columns: dict[str, str], path: Path
) -> Iterator[tuple[pd.DataFrame, CoderSheet]]:
    """Yield the rows and an empty sheet of each video, coder, person and face."""
    keys = [columns[role] for role in ("video", "coder", "person", "face") if role in columns]
    groups = [((), table)] if not keys else table.groupby(keys, sort=True)
    for key, rows in groups:
        known = dict(zip([r for r in ("video", "coder", "person", "face") if r in columns], key, strict=True))
        face = str(known.get("face", ""))
        if face and not face.isdecimal():
            raise InputError(f"{path} has the face {face!r}. Number faces from 0, as auscan detect does.")
        person = str(known.get("person", ""))
        yield (
            rows,
            CoderSheet(
                path=path,
                video=media_stem(str(known.get("video", ""))) or None,
                coder=str(known.get("coder", "")) or None,
                person=None if person.casefold() in _NO_PERSON else person,
                face=int(face) if face else None,
            ),
        )


def _add_events(
    sheet: CoderSheet,
    rows: pd.DataFrame,
    columns: dict[str, str],
    scale: dict[str, float],
    others: Sequence[str],
    is_used: IsUsed,
) -> None:
    """Add the events of a long table (with a code) or of a wide one (a column for each name)."""
    is_long = "code" in columns
    sheet.is_complete = not is_long
    sheet.names += [] if is_long else others
    for _, row in rows.iterrows():
        onset_s = _seconds(row[columns["onset"]], sheet.path) * scale[columns["onset"]]
        end = columns.get("offset") or columns["duration"]
        ending = _seconds(row[end], sheet.path) * scale[end]
        offset_s = ending if "offset" in columns else onset_s + ending
        if offset_s < onset_s:
            raise InputError(f"{sheet.path} has an event that ends at {offset_s} s, before {onset_s} s.")
        names = [row[columns["code"]]] if is_long else others
        for name in names:
            text = row[columns["value"]] if "value" in columns and is_long else "1" if is_long else row[name]
            sheet.names += [] if name in sheet.names else [name]
            if (text or is_long) and is_used(name):
                value = _label(text, sheet.path)
                sheet.spans.append(CodedSpan(name, onset_s, offset_s, value))


def _add_boris_events(
    sheet: CoderSheet, rows: pd.DataFrame, columns: dict[str, str], scale: dict[str, float]
) -> None:
    """Add the events of a table with START, STOP and POINT rows."""
    sheet.is_complete = False
    started: dict[str, float] = {}
    for _, row in rows.iterrows():
        name, state = row[columns["code"]], row[columns["state"]].upper()
        time_s = _seconds(row[columns["time"]], sheet.path) * scale[columns["time"]]
        sheet.names += [] if name in sheet.names else [name]
        if state == "POINT":
            sheet.spans.append(CodedSpan(name, time_s, time_s))
        elif state == "START" and name not in started:
            started[name] = time_s
        elif state == "STOP" and name in started:
            sheet.spans.append(CodedSpan(name, started.pop(name), time_s))
        else:
            raise InputError(
                f"{sheet.path}: {name} has an unexpected {state or 'empty state'} at {time_s} s."
            )
    if started:
        name, time_s = next(iter(started.items()))
        raise InputError(
            f"{sheet.path}: {name} starts at {time_s} s and does not stop. Add its end in BORIS."
        )


def _add_frames(
    sheet: CoderSheet,
    rows: pd.DataFrame,
    columns: dict[str, str],
    scale: dict[str, float],
    others: Sequence[str],
    is_used: IsUsed,
) -> None:
    """Add the frames of a wide table, or of a long one with a code and a value in each row."""
    clock = columns.get("time") or columns["frame"]
    if "code" in columns:
        if "value" not in columns:
            raise InputError(
                f"{sheet.path} has codes of frames without a column value. Add it with 1, 0 or -1."
            )
        if rows.duplicated([clock, columns["code"]]).any():
            raise InputError(f"{sheet.path} has two values of one code in one frame.")
        rows = rows.pivot(index=clock, columns=columns["code"], values=columns["value"]).reset_index()
        others = [name for name in rows.columns if name != clock]
    if rows[clock].duplicated().any():
        raise InputError(
            f"{sheet.path} has the {clock} {rows[clock][rows[clock].duplicated()].iloc[0]} twice."
        )
    sheet.names += others
    times = [_seconds(text, sheet.path) * scale.get(clock, 1.0) for text in rows[clock]]
    frames = pd.DataFrame({"time_s" if "time" in columns else "number": times})
    for name in filter(is_used, others):
        texts = rows[name].fillna("")
        values = {text: _label(text, sheet.path) for text in set(texts)}
        frames[name] = texts.map(values).to_numpy("int8")
    sheet.frames = frames


def _label(text: str, path: Path) -> int:
    """Return 1, 0 or -1 for a cell.  Raises InputError for any other value, such as an intensity."""
    if text.casefold() in UNCODED_TEXTS or not text:
        return -1
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if value not in (0, 1, -1):
        raise InputError(
            f"{path} has the value {text!r}. Write 1 for active, 0 for inactive, and -1 or nothing for not "
            "coded; of an intensity, decide from which value on the AU is active."
        )
    return int(value)


def _seconds(text: str, path: Path) -> float:
    """Return the number in a cell; a clock time such as 00:01:02.5 or 00:01:02:500 in seconds."""
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?", text)
    if clock:
        hours, minutes, seconds, fraction = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise InputError(f"{path} has {text!r} where a time or a frame number is expected.") from error
