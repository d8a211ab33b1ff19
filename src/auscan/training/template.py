"""What the organisers ask for, and the templates in which they say so.

Two kinds are told apart by their first line:

    one file     the header `image_location,AU1,...,AU26`, then a row a frame, `track/00001.jpg`, followed by
                 nothing (edition 5) or by placeholder labels that mean nothing (edition 6 and later)
    per track    no header, a track name a line (editions 1 to 3), or `name,frames` where the number of frames
                 is told; what is handed in is then a file for each track

In: the template's path.  Out: a `FileTemplate`, or a `TrackTemplate`.
Header and locations are kept as they stand, since a submission repeats them byte for byte.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auscan.core.aus import AU_NAMES, canonical_name
from auscan.core.errors import InputError
from auscan.core.names import is_plain_name

TRACK_HEADER: Final[str] = ",".join(f"AU{int(name[2:])}" for name in AU_NAMES)
"""First line of a file of one track."""

_IMAGE = re.compile(r"(\d{5,})\.jpg")
_FIRST_COLUMN: Final[str] = "image_location"


@dataclass(frozen=True)
class FileTemplate:
    """Rows of one file, as they stand in the template. R rows."""

    header: str
    """First line, without its line end."""
    locations: tuple[str, ...]
    """[R] what stands before the first comma."""
    tracks: tuple[str, ...]
    """[R] what stands before the last slash of the location."""
    frames: tuple[int, ...]
    """[R] the number in the name of the image, from 1."""


@dataclass(frozen=True)
class TrackTemplate:
    """Tracks to write a file for, in order."""

    tracks: tuple[str, ...]
    frames: tuple[int | None, ...]
    """How many rows each is to have; None where the template does not say."""


def read_template(path: Path) -> FileTemplate | TrackTemplate:
    """Read a template of either kind.

    Raises InputError with the line where it is none: other columns, a location that is not
    track/number.jpg, a location or track that stands twice, no rows.
    """
    lines = _read_lines(path)
    template: FileTemplate | TrackTemplate
    if lines and lines[0].lstrip("\ufeff").split(",")[0].strip() == _FIRST_COLUMN:
        template = _read_file_template(lines, path)
    else:
        template = _read_track_template(lines, path)
    if not template.tracks:
        raise InputError(f"{path} has no rows. Give the template that the organisers sent.")
    return template


def _read_lines(path: Path) -> list[str]:
    """The lines without their ends (LF or CRLF) and without blank ones at the end."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a template: {error}.") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read_file_template(lines: list[str], path: Path) -> FileTemplate:
    _check_header(lines[0], path)
    locations = [line.partition(",")[0] for line in lines[1:]]
    tracks, frames = [], []
    first_seen: dict[tuple[str, int], int] = {}
    for number, location in enumerate(locations, start=2):
        track, _, image = location.rpartition("/")
        match = _IMAGE.fullmatch(image)
        if not track or match is None or int(match[1]) < 1:
            raise InputError(f"{path}, line {number}: {location!r} is not like track/00001.jpg.")
        place = (track, int(match[1]))
        if place in first_seen:
            raise InputError(f"{path}, line {number}: {location} stands in line {first_seen[place]} too.")
        first_seen[place] = number
        tracks.append(track)
        frames.append(int(match[1]))
    return FileTemplate(lines[0], tuple(locations), tuple(tracks), tuple(frames))


def _check_header(header: str, path: Path) -> None:
    try:
        names = [canonical_name(name) for name in header.split(",")[1:]]
    except InputError as error:
        raise InputError(f"{path}, line 1: {error}") from error
    if names != list(AU_NAMES):
        raise InputError(f"{path}, line 1: the columns should be {_FIRST_COLUMN},{TRACK_HEADER}.")


def _read_track_template(lines: list[str], path: Path) -> TrackTemplate:
    tracks: list[str] = []
    frames: list[int | None] = []
    for number, line in enumerate(lines, start=1):
        name, comma, expected = (part.strip() for part in line.partition(","))
        # The name becomes the name of a file: it may not lead out of the folder.
        if name.startswith(".") or not is_plain_name(name):
            raise InputError(
                f"{path}, line {number}: {line!r} is not a track. A template is either one file with the "
                f"header {_FIRST_COLUMN},{TRACK_HEADER} or a list with a track name, or name,frames, a line."
            )
        if comma and not re.fullmatch(r"0*[1-9]\d*", expected):
            raise InputError(f"{path}, line {number}: {expected!r} is not a number of frames.")
        if name in tracks:
            raise InputError(f"{path}, line {number}: track {name} stands twice.")
        tracks.append(name)
        frames.append(int(expected) if comma else None)
    return TrackTemplate(tuple(tracks), tuple(frames))
