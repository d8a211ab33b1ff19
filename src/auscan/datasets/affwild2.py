"""Aff-Wild2: one track for each annotation file and for each entry of the test set.

The number of rows N is that of the label lines, or of the rows of the template. Where the test set comes
without one, it is the expected count, else the larger of frames in the video and highest picture number.

In: the data set's folder.  Out: tracks.
Not here: searching (find.py), reading (labels.py, lists.py), pictures and video (media.py).

s-Aff-Wild2, the multi-task sets of static frames (editions 3, 4, 7 and 11).

    image,valence,arousal,expression,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
    900-30-1280x720/00007.jpg,-0.12,0.40,4,0,0,0,1,1,0,1,0,0,0,1,0

One text file a split, some frames of each track. Only the AUs are read: valence, arousal and expression are
not for a uni-task model.

In: the data set's folder.  Out: tracks whose rows are the listed frames, in order of their numbers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT
from auscan.core.errors import InputError
from auscan.datasets.find import Pieces, Unused, edition_of
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import Media
from auscan.datasets.track_lists import (
    TestTrack,
    image_location,
    read_counts,
    read_lines,
    read_list,
    read_template,
    video_name,
)
from auscan.results.readers.annotations import NOT_ANNOTATED, label_value, read_annotations

WHY_NOT: Final[dict[str, str]] = {
    "multitask": "s-Aff-Wild2's multi-task labels; prepare them on their own with --format mtl",
    "sister": "a list, counts or template of another task",
}
"""Why a text file of that kind is not used."""

_Value = TypeVar("_Value")


@dataclass
class AffWild2:
    """The tracks of one copy of Aff-Wild2, found but not yet read."""

    root: Path
    pieces: Pieces
    test: dict[str, TestTrack] = field(init=False)
    media: Media = field(init=False)

    def __post_init__(self) -> None:
        self.media = Media(self.root, self.pieces)
        self.test = _test_tracks(self.pieces)

    def __len__(self) -> int:
        return sum(map(len, self.pieces.annotations.values())) + len(self.test)

    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn; None for one that cannot be used, which then stands in `pieces.unused`."""
        for what, make in self._jobs():
            try:
                yield make()
            except InputError as error:
                self.pieces.unused.append(Unused(what, str(error)))
                yield None
        self.pieces.unused += self.media.left_over()

    def _jobs(self) -> Iterator[tuple[str, Callable[[], Track]]]:
        for split, files in sorted(self.pieces.annotations.items()):
            for name, path in files.items():
                yield str(path), partial(self._labelled, name, split, path)
        for name, entry in self.test.items():
            yield f"test track {name}", partial(self._unlabelled, name, entry)

    def _labelled(self, name: str, split: str, path: Path) -> Track:
        found = read_annotations(path)
        numbers = np.arange(1, len(found.labels) + 1)
        return self.media.build(name, split, numbers, found.labels, path, found.warnings)

    def _unlabelled(self, name: str, entry: TestTrack) -> Track:
        numbers, warnings = self._test_numbers(name, entry)
        labels = np.full((len(numbers), AU_COUNT), NOT_ANNOTATED, np.int8)
        return self.media.build(name, "test", numbers, labels, None, warnings)

    def _test_numbers(self, name: str, entry: TestTrack) -> tuple[NDArray[np.int64], list[str]]:
        """Frame numbers [N] of a test track, and what is remarkable about them."""
        if entry.numbers is not None:
            numbers = np.array(list(dict.fromkeys(entry.numbers)), np.int64)
            warnings = []
            if len(numbers) < len(entry.numbers):
                warnings.append(f"{len(entry.numbers) - len(numbers)} rows of the template repeat a frame")
            if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
                warnings.append("the template does not count its frames 1, 2, 3, ...; its numbers are kept")
            return numbers, warnings
        if entry.count:
            return np.arange(1, entry.count + 1), []
        decoded = len(self.media.clock(name).times_s)
        highest = max(self.media.pictures(name).names, default=0)
        if not decoded and not highest:
            raise InputError(f"{name} has no template, no expected count, no video and no pictures.")
        warning = f"no template: {max(decoded, highest)} rows from video ({decoded}) and pictures ({highest})"
        return np.arange(1, max(decoded, highest) + 1), [warning]


def _test_tracks(pieces: Pieces) -> dict[str, TestTrack]:
    """The test set as lists, counts and templates tell it, in the order of the first of them."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    for path in sorted(pieces.texts, key=lambda p: (-edition_of(p), str(p))):
        try:
            if pieces.texts[path] == "template":
                template = read_template(path)
                for line in template.strange[:1]:
                    reason = f"{len(template.strange)} rows name no image, such as {line!r}"
                    pieces.unused.append(Unused(str(path), reason))
                for name, rows in template.numbers.items():
                    _set_once(pieces, numbers, name, tuple(rows), path)
                names |= dict.fromkeys(template.numbers)
            elif pieces.texts[path] == "counts" and _is_known(read_counts(path), pieces):
                for name, count in read_counts(path).items():
                    _set_once(pieces, counts, name, count, path)
                names |= dict.fromkeys(counts)
            elif pieces.texts[path] == "list" and _is_known(read_list(path), pieces):
                names |= dict.fromkeys(read_list(path))
            else:
                pieces.unused.append(Unused(str(path), _why_not(path, pieces)))
        except InputError as error:
            pieces.unused.append(Unused(str(path), str(error)))
    return {n: TestTrack(counts.get(n), numbers.get(n)) for n in _without_labelled(names, pieces)}


def _why_not(path: Path, pieces: Pieces) -> str:
    return WHY_NOT.get(pieces.texts[path], "no list of tracks, no counts and no template of the AU test set")


def _is_known(names: Iterable[str], pieces: Pieces) -> bool:
    """Is this really a list of tracks? Then some of them have pictures or a video."""
    return any(name in pieces.images or video_name(name) in pieces.videos for name in names)


def _set_once(pieces: Pieces, table: dict[str, _Value], name: str, value: _Value, path: Path) -> None:
    """The newest file counts; an older one that says something else is put on record."""
    if table.setdefault(name, value) != value:
        reason = f"it differs from a newer file of its kind on track {name}; the newer one counts"
        pieces.unused.append(Unused(str(path), reason))


def _without_labelled(names: dict[str, None], pieces: Pieces) -> list[str]:
    """The names that have no labels: those that do are in the training or validation set already."""
    labelled = {name for files in pieces.annotations.values() for name in files}
    both = [name for name in names if name in labelled]
    if both:
        reason = f"{len(both)} tracks have labels, such as {both[0]}; they stay in the split of their labels"
        pieces.unused.append(Unused("the lists of the test set", reason))
    return [name for name in names if name not in labelled]


COLUMNS = 4 + AU_COUNT
"""Image, valence, arousal, expression, then the AUs; the header is skipped, its words vary."""

_Rows = dict[int, tuple[int, ...]]
"""Labels by frame number."""


@dataclass
class MultiTask:
    """The tracks of s-Aff-Wild2's text files, split by split."""

    root: Path
    pieces: Pieces

    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn."""
        media, taken = Media(self.root, self.pieces), dict[str, str]()
        for path in sorted(p for p, kind in self.pieces.texts.items() if kind == "multitask"):
            split = _split(path)
            for name, rows in self._read(path).items():
                if taken.setdefault(name, split) != split:
                    reason = f"track {name} is in {taken[name]} already, not taken into {split} as well"
                    self.pieces.unused.append(Unused(str(path), reason))
                    continue
                numbers = sorted(rows)
                labels = np.array([rows[number] for number in numbers], np.int8)
                yield media.build(name, split, np.array(numbers, np.int64), labels, path)
        self.pieces.unused += media.left_over()

    def _read(self, path: Path) -> dict[str, _Rows]:
        """Labels by track and frame number."""
        tracks: dict[str, _Rows] = {}
        strange = repeats = 0
        for line in read_lines(path)[1:]:
            fields = line.removesuffix(",").split(",")
            location = image_location(fields[0])
            if location is None or len(fields) != COLUMNS:
                strange += 1
                continue
            values = [label_value(field) for field in fields[-AU_COUNT:]]
            strange += None in values
            rows = tracks.setdefault(location[0], {})
            repeats += location[1] in rows
            rows.setdefault(location[1], tuple(NOT_ANNOTATED if v is None else v for v in values))
        for count, what in ((strange, "cannot be understood in full"), (repeats, "repeat a frame")):
            if count:
                self.pieces.unused.append(Unused(str(path), f"{count} rows {what}"))
        return tracks


def _split(path: Path) -> str:
    name = path.stem.casefold()
    for word, split in (("train", "train"), ("val", "val"), ("test", "test")):
        if word in name:
            return split
    raise InputError(f"{path} does not say of which split it is. Put train, val or test into its name.")
