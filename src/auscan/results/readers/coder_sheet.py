"""Define what a coder's file holds, and how its cells are read.

A `CoderSheet` has the names as they were written; datasets/coder_names.py finds their AUs.

See also: coder_files.py (ELAN, Praat, Datavyu), coder_tables.py (tables).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Final
from urllib.parse import unquote

import pandas as pd

from auscan.core.errors import InputError

INACTIVE_TEXTS: Final = frozenset({"0", "0.0"})
"""Texts of an interval in which the AU is inactive."""
UNCODED_TEXTS: Final = frozenset({"-1", "uncoded", "not coded", "n/a", "?"})
"""Texts of an interval in which the AU was not coded."""


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


def text_value(text: str) -> int:
    """Return 1, 0 or -1 for the text of an annotation."""
    text = text.strip().casefold()
    return 0 if text in INACTIVE_TEXTS else -1 if text in UNCODED_TEXTS else 1


def media_stem(name: str) -> str:
    """Return the name of a media file or URL without folders and suffix."""
    name = PureWindowsPath(unquote(name.strip())).name  # also splits at /
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.isalnum() and not suffix.isdecimal() else name


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, with a byte order mark, UTF-16.  Raises InputError."""
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}). Save it in UTF-8.") from error


def read_seconds(text: str, path: Path) -> float:
    """Return the number in a cell; a clock time such as 00:01:02.5 or 00:01:02:500 in seconds."""
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?", text)
    if clock:
        hours, minutes, seconds, fraction = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise InputError(f"{path} has {text!r} where a time or a frame number is expected.") from error
