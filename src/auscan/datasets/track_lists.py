"""Parse track names, assign cross-validation folds, and read the text files of Aff-Wild2's test set.

    900-30-1280x720          <id>-<fps>-<W>x<H>          903        <id>
    901-60-1920x1080-2       the same, part 2            video900   video<k>      video900_1   part 1
    any of these + _left or _right: one of two persons in that video

Names are parsed from their end, because cutting at the first `_` would drop the part of `video900_1`. The
organisers publish these text files for the test set:

    list       900-30-1280x720_left                                        one track per line, no header
    counts     video900,402                                                one track per line, no header
    template   image_location,AU1,AU2,...                                  edition 5: rows end after a comma
               900-30-1280x720/00001.jpg,1,0,1,1,1,0,0,1,0,0,0,1           edition 6: placeholder labels
    multitask  image,valence,arousal,expression,AU1,AU2,...                s-Aff-Wild2; see affwild2.py

The lines of a file determine its kind. Its name determines the task, because lists of other tasks have the
same form.

Inputs: names, text files.  Returns: names, rates in Hz, folds, counts, frame numbers.
See also: find.py (file search), training/submission.py (writing submissions).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from auscan.core.errors import InputError

SIDES = ("_left", "_right")
"""Endings of the names of tracks with one of two persons."""

Kind = Literal["list", "counts", "template", "multitask", "other_task", "other"]
"""Kind of a text file."""

OTHER_TASK = re.compile(r"valence|arousal|expression|(?<![a-z])(va|expr|mtl|ce|emi|emotion\w*)(?![a-z])")
"""Lower-case file names that belong to a task other than AU detection."""

_SIZED_NAME = re.compile(r"(?P<source>\d+-(?P<rate>\d+(?:\.\d+)?)-\d+x\d+)(?:[-_]\d+)?")

_COUNTED_NAME = re.compile(r"(?P<source>video\d+)(?:[-_]\d+)?")

_LOCATION = re.compile(r"(?P<track>.+)/0*(?P<number>\d+)\.\w+")

_COUNT_LINE = re.compile(r"(?P<track>[^,/\s]+)\s*,\s*(?P<count>\d+)")

_NAME_LINE = re.compile(r"[^,\s/]+")


def video_name(track: str) -> str:
    """Return the video name of a track: its name without one `_left` or `_right` at the end."""
    for side in SIDES:
        if track.endswith(side):
            return track.removesuffix(side)
    return track


def source_video(track: str) -> str:
    """Return the recording of a track: its name without side and part.  Recordings must not span folds."""
    name = video_name(track)
    match = _SIZED_NAME.fullmatch(name) or _COUNTED_NAME.fullmatch(name)
    return match["source"] if match else name


def named_rate_hz(track: str) -> float | None:
    """Return the frame rate in a track's name, in Hz, or None. It often differs from the file's rate."""
    match = _SIZED_NAME.fullmatch(video_name(track))
    return float(match["rate"]) if match else None


def assign_folds(source_videos: Iterable[str], k: int, seed: int = 0) -> dict[str, int]:
    """Assign recordings to k folds whose sizes differ by at most one; return the fold, 0 to k - 1, by name.

    source_videos: names of recordings or tracks. Sides and parts of one recording share its fold. The folds
    depend only on the set of names, k and seed, not on order or repetition.

    Raises InputError if k is below 2 or above the number of recordings.
    """
    names = set(source_videos)
    sources = {source_video(name) for name in names}
    if not 2 <= k <= len(sources):
        raise InputError(
            f"{k} folds cannot be made from {len(sources)} source videos. Use 2 to {len(sources)} folds."
        )
    # Shuffling by a hash does not depend on the version of a library.
    shuffled = sorted(
        sources, key=lambda source: (hashlib.sha256(f"{seed}/{source}".encode()).digest(), source)
    )
    fold_of_source = {source: number % k for number, source in enumerate(shuffled)}
    return {name: fold_of_source[source_video(name)] for name in sorted(names)}


@dataclass(frozen=True)
class TestTrack:
    """Expected rows of one track of the test set."""

    __test__ = False  # pytest would collect the class because of its name

    count: int | None = None
    """Expected number of rows; None if no file states it."""
    numbers: tuple[int, ...] | None = None
    """Frame numbers in the order of the template; None without a template."""


@dataclass
class Template:
    """Rows of a submission template, in file order."""

    numbers: dict[str, list[int]] = field(default_factory=dict)
    """Frame numbers by track."""
    malformed: list[str] = field(default_factory=list)
    """Lines that do not name an image."""


def detect_kind(path: Path) -> Kind:
    """Return the kind of a text file from its name and its first 50 lines."""
    first_lines = read_lines(path, limit=50)
    if not first_lines:
        return "other"
    header = first_lines[0].casefold().replace(" ", "")
    if header.startswith("image") and "," in header:
        if not re.search(r",au_?0*1,", header):
            return "other_task"
        return "multitask" if "valence" in header else "template"
    if OTHER_TASK.search(path.name.casefold().replace("_", " ")):
        return "other_task"
    if all(_COUNT_LINE.fullmatch(line) for line in first_lines):
        return "counts"
    return "list" if all(_NAME_LINE.fullmatch(line) for line in first_lines) else "other"


def read_list(path: Path) -> list[str]:
    """Return the track names of a list in file order, without duplicates."""
    return list(dict.fromkeys(read_lines(path)))


def read_counts(path: Path) -> dict[str, int]:
    """Return the expected number of rows by track.  Raises InputError at the first malformed line."""
    counts = {}
    for line in read_lines(path):
        match = _COUNT_LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path} has a line {line!r}; expected a track name, a comma and a count.")
        counts[match["track"]] = int(match["count"])
    return counts


def read_template(path: Path) -> Template:
    """Return the rows of a template. Placeholder labels after the image location are not read.

    The track name is the part of the location before the last `/`.
    """
    template = Template()
    for line in read_lines(path)[1:]:
        location = image_location(line.split(",", 1)[0])
        if location is None:
            template.malformed.append(line)
        else:
            template.numbers.setdefault(location[0], []).append(location[1])
    return template


def image_location(text: str) -> tuple[str, int] | None:
    """Return track and frame number of `900/00007.jpg` as ('900', 7), or None if the text is malformed."""
    match = _LOCATION.fullmatch(text.strip())
    return (match["track"], int(match["number"])) if match else None


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """Return the stripped, non-empty lines of a small text file, at most `limit` of them.

    Raises InputError if the file cannot be read.
    """
    lines: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for line in file:
                if line.strip():
                    lines.append(line.strip())
                if len(lines) == limit:
                    break
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    return lines
