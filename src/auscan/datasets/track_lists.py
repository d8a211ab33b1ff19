"""Names of tracks and lists of them: the video and recording behind a name, folds, and the test set's files.

    900-30-1280x720          <id>-<fps>-<W>x<H>          903        <id>
    901-60-1920x1080-2       the same, part 2            video900   video<k>      video900_1   part 1
    any of these + _left or _right: one of two persons in that video

Only endings are looked at: a name cut at its first `_` would lose the part of `video900_1`. For the test set
the organisers give text files:

    list       900-30-1280x720_left                                        one track a line, no header
    counts     video900,402                                                one track a line, no header
    template   image_location,AU1,AU2,...                                  edition 5: rows end after a comma
               900-30-1280x720/00001.jpg,1,0,1,1,1,0,0,1,0,0,0,1           edition 6: placeholders, no truth
    multitask  image,valence,arousal,expression,AU1,AU2,...                s-Aff-Wild2; see affwild2.py

The kind of a file shows in its lines; its task shows in its name: other tasks have lists of the same shape.

Inputs: names, text files.  Returns: names, rates in Hz, folds, counts, frame numbers.
See also: find.py (which files there are), training/submission.py (writing submissions).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from auscan.core.errors import InputError

SIDES = ("_left", "_right")

Kind = Literal["list", "counts", "template", "multitask", "other_task", "other"]

OTHER_TASK = re.compile(r"valence|arousal|expression|(?<![a-z])(va|expr|mtl|ce|emi|emotion\w*)(?![a-z])")
"""Names of files (in small letters) that belong to another task than ours."""

_SIZED_NAME = re.compile(r"(?P<source>\d+-(?P<rate>\d+(?:\.\d+)?)-\d+x\d+)(?:[-_]\d+)?")

_COUNTED_NAME = re.compile(r"(?P<source>video\d+)(?:[-_]\d+)?")

_LOCATION = re.compile(r"(?P<track>.+)/0*(?P<number>\d+)\.\w+")

_COUNT_LINE = re.compile(r"(?P<track>[^,/\s]+)\s*,\s*(?P<count>\d+)")

_NAME_LINE = re.compile(r"[^,\s/]+")


def video_name(track: str) -> str:
    """The video that a track was cut from: its name without one `_left` or `_right` at the end."""
    for side in SIDES:
        if track.endswith(side):
            return track.removesuffix(side)
    return track


def source_video(track: str) -> str:
    """The recording behind a track: side and part taken off. Tracks of one recording belong in one fold."""
    name = video_name(track)
    match = _SIZED_NAME.fullmatch(name) or _COUNTED_NAME.fullmatch(name)
    return match["source"] if match else name


def named_rate_hz(track: str) -> float | None:
    """The frame rate in the name. It is that of the upload, often not that of the file."""
    match = _SIZED_NAME.fullmatch(video_name(track))
    return float(match["rate"]) if match else None


def assign_folds(source_videos: Iterable[str], k: int, seed: int = 0) -> dict[str, int]:
    """Deal recordings into k folds of equal size, or one more: name -> fold 0 to k - 1.

    Names of tracks may be given as well: sides and parts of one recording always share its fold. The same
    names, k and seed give the same folds, in whatever order and however often they come.

    Raises InputError if k is below 2 or above the number of recordings.
    """
    names = set(source_videos)
    sources = {source_video(name) for name in names}
    if not 2 <= k <= len(sources):
        raise InputError(
            f"{k} folds cannot be made of {len(sources)} source videos. Ask for 2 to {len(sources)} folds."
        )
    # Shuffled by a hash, which no version of any library will change.
    shuffled = sorted(
        sources, key=lambda source: (hashlib.sha256(f"{seed}/{source}".encode()).digest(), source)
    )
    fold_of_source = {source: number % k for number, source in enumerate(shuffled)}
    return {name: fold_of_source[source_video(name)] for name in sorted(names)}


@dataclass(frozen=True)
class TestTrack:
    """What the lists say about one track of the test set."""

    __test__ = False  # no test case, whatever its name

    count: int | None = None
    """Expected number of rows; None where no file says."""
    numbers: tuple[int, ...] | None = None
    """Frame numbers in the order of the template; None without a template."""


@dataclass
class Template:
    """The rows of a submission template, in its order."""

    numbers: dict[str, list[int]] = field(default_factory=dict)
    """Frame numbers by track."""
    malformed: list[str] = field(default_factory=list)
    """Lines that name no image."""


def detect_kind(path: Path) -> Kind:
    """What sort of text file this is, from its name and its lines."""
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
    """The track names of a list, each once, in its order."""
    return list(dict.fromkeys(read_lines(path)))


def read_counts(path: Path) -> dict[str, int]:
    """Expected number of rows by track.  Raises InputError at the first line of another form."""
    counts = {}
    for line in read_lines(path):
        match = _COUNT_LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path} has a line {line!r}; expected a track name, a comma and a count.")
        counts[match["track"]] = int(match["count"])
    return counts


def read_template(path: Path) -> Template:
    """The rows of a template: whatever stands after the location is a placeholder and is not read.

    The track is all up to the last `/`.
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
    """`900/00007.jpg` as (track 900, frame number 7); None if it is no such thing."""
    match = _LOCATION.fullmatch(text.strip())
    return (match["track"], int(match["number"])) if match else None


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """The lines of a small text file, stripped, empty ones left out; at most `limit` of them."""
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
