"""Aff-Wild2, and s-Aff-Wild2 with the multi-task sets of static frames (editions 3, 4, 7 and 11).

Aff-Wild2 has one track for each annotation file and for each entry of the test set. The number of rows N is
that of the label lines, or of the rows of the template. Where the test set comes without one, it is the
expected count, else the larger of frames in the video and highest picture number.

s-Aff-Wild2 has one text file a split, with some frames of each track:

    image,valence,arousal,expression,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
    900-30-1280x720/00007.jpg,-0.12,0.40,4,0,0,0,1,1,0,1,0,0,0,1,0

Only the AUs are read: valence, arousal and expression are not for a uni-task model.

Inputs: the data set's folder.  Returns: tracks; those of s-Aff-Wild2 hold the listed frames, in order.
See also: find.py (search), track_lists.py (lists), results/readers/annotations.py (labels),
track_assembly.py (pictures and video).
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
from auscan.datasets.find import DatasetFiles, Unused, edition_of
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import TrackAssembler
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

UNUSED_REASONS: Final[dict[str, str]] = {
    "multitask": "s-Aff-Wild2's multi-task labels; prepare them on their own with --format mtl",
    "other_task": "a list, counts or template of another task",
}
"""Why a text file of that kind is not used."""

MULTITASK_COLUMNS = 4 + AU_COUNT
"""Image, valence, arousal, expression, then the AUs; the header is skipped, its words vary."""

_Value = TypeVar("_Value")

_FrameLabels = dict[int, tuple[int, ...]]
"""Labels by frame number."""


@dataclass
class AffWild2:
    """The tracks of one copy of Aff-Wild2, found but not yet read."""

    root: Path
    files: DatasetFiles
    test_tracks: dict[str, TestTrack] = field(init=False)
    assembler: TrackAssembler = field(init=False)

    def __post_init__(self) -> None:
        self.assembler = TrackAssembler(self.root, self.files)
        self.test_tracks = _test_tracks(self.files)

    def __len__(self) -> int:
        return sum(map(len, self.files.annotations.values())) + len(self.test_tracks)

    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn; None for one that cannot be used, which then stands in `files.unused`."""
        for source, build in self._track_builders():
            try:
                yield build()
            except InputError as error:
                self.files.unused.append(Unused(source, str(error)))
                yield None
        self.files.unused += self.assembler.unused_files()

    def _track_builders(self) -> Iterator[tuple[str, Callable[[], Track]]]:
        for split, paths in sorted(self.files.annotations.items()):
            for name, path in paths.items():
                yield str(path), partial(self._labelled_track, name, split, path)
        for name, listed in self.test_tracks.items():
            yield f"test track {name}", partial(self._test_track, name, listed)

    def _labelled_track(self, name: str, split: str, path: Path) -> Track:
        annotations = read_annotations(path)
        numbers = np.arange(1, len(annotations.labels) + 1)
        return self.assembler.build(name, split, numbers, annotations.labels, path, annotations.warnings)

    def _test_track(self, name: str, listed: TestTrack) -> Track:
        numbers, warnings = self._test_numbers(name, listed)
        labels = np.full((len(numbers), AU_COUNT), NOT_ANNOTATED, np.int8)
        return self.assembler.build(name, "test", numbers, labels, None, warnings)

    def _test_numbers(self, name: str, listed: TestTrack) -> tuple[NDArray[np.int64], list[str]]:
        """Frame numbers [N] of a test track, and what is remarkable about them."""
        if listed.numbers is not None:
            numbers = np.array(list(dict.fromkeys(listed.numbers)), np.int64)
            warnings = []
            if len(numbers) < len(listed.numbers):
                warnings.append(f"{len(listed.numbers) - len(numbers)} rows of the template repeat a frame")
            if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
                warnings.append("the template does not count its frames 1, 2, 3, ...; its numbers are kept")
            return numbers, warnings
        if listed.count:
            return np.arange(1, listed.count + 1), []
        decoded = len(self.assembler.clock(name).times_s)
        highest = max(self.assembler.pictures(name).names, default=0)
        if not decoded and not highest:
            raise InputError(f"{name} has no template, no expected count, no video and no pictures.")
        warning = f"no template: {max(decoded, highest)} rows from video ({decoded}) and pictures ({highest})"
        return np.arange(1, max(decoded, highest) + 1), [warning]


def _test_tracks(files: DatasetFiles) -> dict[str, TestTrack]:
    """The test set as lists, counts and templates tell it, in the order of the first of them."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    for path in sorted(files.texts, key=lambda p: (-edition_of(p), str(p))):
        try:
            if files.texts[path] == "template":
                template = read_template(path)
                for line in template.malformed[:1]:
                    reason = f"{len(template.malformed)} rows name no image, such as {line!r}"
                    files.unused.append(Unused(str(path), reason))
                for name, rows in template.numbers.items():
                    _keep_newest(files, numbers, name, tuple(rows), path)
                names |= dict.fromkeys(template.numbers)
            elif files.texts[path] == "counts" and _names_known_tracks(read_counts(path), files):
                for name, count in read_counts(path).items():
                    _keep_newest(files, counts, name, count, path)
                names |= dict.fromkeys(counts)
            elif files.texts[path] == "list" and _names_known_tracks(read_list(path), files):
                names |= dict.fromkeys(read_list(path))
            else:
                files.unused.append(Unused(str(path), _unused_reason(path, files)))
        except InputError as error:
            files.unused.append(Unused(str(path), str(error)))
    return {n: TestTrack(counts.get(n), numbers.get(n)) for n in _without_labelled(names, files)}


def _unused_reason(path: Path, files: DatasetFiles) -> str:
    return UNUSED_REASONS.get(
        files.texts[path], "no list of tracks, no counts and no template of the AU test set"
    )


def _names_known_tracks(names: Iterable[str], files: DatasetFiles) -> bool:
    """Is this really a list of tracks? Then some of them have pictures or a video."""
    return any(name in files.images or video_name(name) in files.videos for name in names)


def _keep_newest(files: DatasetFiles, table: dict[str, _Value], name: str, value: _Value, path: Path) -> None:
    """The newest file counts; an older one that says something else is put on record."""
    if table.setdefault(name, value) != value:
        reason = f"it differs from a newer file of its kind on track {name}; the newer one counts"
        files.unused.append(Unused(str(path), reason))


def _without_labelled(names: dict[str, None], files: DatasetFiles) -> list[str]:
    """The names that have no labels: those that do are in the training or validation set already."""
    labelled = {name for paths in files.annotations.values() for name in paths}
    overlap = [name for name in names if name in labelled]
    if overlap:
        reason = (
            f"{len(overlap)} tracks have labels, such as {overlap[0]}; they stay in the split of their labels"
        )
        files.unused.append(Unused("the lists of the test set", reason))
    return [name for name in names if name not in labelled]


@dataclass
class MultiTask:
    """The tracks of s-Aff-Wild2's text files, split by split."""

    root: Path
    files: DatasetFiles

    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn."""
        assembler, split_of_track = TrackAssembler(self.root, self.files), dict[str, str]()
        for path in sorted(p for p, kind in self.files.texts.items() if kind == "multitask"):
            split = _split_in_name(path)
            for name, rows in self._read_multitask(path).items():
                if split_of_track.setdefault(name, split) != split:
                    reason = (
                        f"track {name} is in {split_of_track[name]} already, not taken into {split} as well"
                    )
                    self.files.unused.append(Unused(str(path), reason))
                    continue
                numbers = sorted(rows)
                labels = np.array([rows[number] for number in numbers], np.int8)
                yield assembler.build(name, split, np.array(numbers, np.int64), labels, path)
        self.files.unused += assembler.unused_files()

    def _read_multitask(self, path: Path) -> dict[str, _FrameLabels]:
        """Labels by track and frame number."""
        tracks: dict[str, _FrameLabels] = {}
        malformed = repeats = 0
        for line in read_lines(path)[1:]:
            fields = line.removesuffix(",").split(",")
            location = image_location(fields[0])
            if location is None or len(fields) != MULTITASK_COLUMNS:
                malformed += 1
                continue
            values = [label_value(field) for field in fields[-AU_COUNT:]]
            malformed += None in values
            rows = tracks.setdefault(location[0], {})
            repeats += location[1] in rows
            rows.setdefault(location[1], tuple(NOT_ANNOTATED if v is None else v for v in values))
        for count, problem in ((malformed, "cannot be understood in full"), (repeats, "repeat a frame")):
            if count:
                self.files.unused.append(Unused(str(path), f"{count} rows {problem}"))
        return tracks


def _split_in_name(path: Path) -> str:
    name = path.stem.casefold()
    for word, split in (("train", "train"), ("val", "val"), ("test", "test")):
        if word in name:
            return split
    raise InputError(f"{path} does not say of which split it is. Put train, val or test into its name.")
