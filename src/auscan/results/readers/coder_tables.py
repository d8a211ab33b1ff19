"""Read tables of human coders: Datavyu, BORIS, BIDS events, and tables of one's own.

    Datavyu            groups of columns NAME.onset, NAME.offset and codes, milliseconds
    BORIS, BIDS, own   events (onset, offset or duration, code) or frames (frame or time), long or wide

Columns are recognised by `ROLES`. A wide table has a column for each name, a long one a row for each event or
value. Values are 1 active, 0 inactive, -1 or empty not coded.

Inputs: a .csv or .tsv.
Returns: a sheet for each video, coder, person and face of the table.
See also: coder_sheet.py (sheets), coder_files.py (other files).
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from auscan.core.errors import InputError
from auscan.results.readers.coder_sheet import (
    UNCODED_TEXTS,
    CodedSpan,
    CoderSheet,
    IsUsed,
    media_stem,
    read_seconds,
    read_text,
    text_value,
)

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


def read_table_sheets(path: Path, is_used: IsUsed) -> list[CoderSheet]:
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
        onset_s = read_seconds(row[columns["onset"]], sheet.path) * scale[columns["onset"]]
        end = columns.get("offset") or columns["duration"]
        ending = read_seconds(row[end], sheet.path) * scale[end]
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
        time_s = read_seconds(row[columns["time"]], sheet.path) * scale[columns["time"]]
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
    times = [read_seconds(text, sheet.path) * scale.get(clock, 1.0) for text in rows[clock]]
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


def _datavyu_sheets(table: pd.DataFrame, path: Path) -> list[CoderSheet]:
    """Read groups of columns NAME.onset, NAME.offset and codes, in milliseconds."""
    sheet = CoderSheet(path=path)
    for column in table.columns[table.columns.str.endswith(".onset")]:
        name = column.removesuffix(".onset")
        codes = [c for c in table.columns if c.startswith(f"{name}.") and c not in _times_of(name)]
        sheet.names.append(name)
        for _, row in table[table[column] != ""].iterrows():
            onset, offset = (read_seconds(row[f"{name}.{end}"], path) / 1000 for end in ("onset", "offset"))
            value = text_value(row[codes[0]]) if codes else 1
            sheet.spans.append(CodedSpan(name, onset, offset, value))
    return [sheet]


def _times_of(name: str) -> tuple[str, ...]:
    return f"{name}.ordinal", f"{name}.onset", f"{name}.offset"
