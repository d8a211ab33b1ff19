"""Build tracks from Aff-Wild2 and from s-Aff-Wild2, the multi-task sets of editions 3, 4, 7 and 11.

Aff-Wild2 has one track for each annotation file and for each entry of the test set. The number of rows N of a
track is the number of its label lines or of its rows in the template. Without a template, N is the expected
count; without that, the frame count of the video or the highest picture number, whichever is larger.

s-Aff-Wild2 has one text file per split, with some frames of each track:

    image,valence,arousal,expression,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
    900-30-1280x720/00007.jpg,-0.12,0.40,4,0,0,0,1,1,0,1,0,0,0,1,0

Only the AUs are read, because a uni-task model must not use valence, arousal or expression.

Inputs: the files found in the data set's folder.
Returns: tracks; a track of s-Aff-Wild2 holds only the listed frames, in order of frame number.
See also: find.py (file search), track_lists.py (test lists), results/readers/annotations.py (labels),
track_assembly.py (pictures and video).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
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
"""Reasons, by kind, why a text file is not used."""

MULTITASK_COLUMNS = 4 + len(AFFWILD2_AUS)
"""Columns of a line: image, valence, arousal, expression, AUs. The header varies and is skipped."""

_Value = TypeVar("_Value")

_FrameLabels = dict[int, tuple[int, ...]]
"""Labels by frame number."""


@dataclass
class AffWild2:
    """Reader of one copy of Aff-Wild2. Its files are found; `tracks` reads them."""

    root: Path
    """Folder of the data set."""
    files: DatasetFiles
    """Files found in it."""
    au_names: tuple[str, ...] = AFFWILD2_AUS
    """AUs of the tracks."""
    test_tracks: dict[str, TestTrack] = field(init=False)
    """Tracks of the test set by name."""
    assembler: TrackAssembler = field(init=False)
    """Builder of the tracks."""

    def __post_init__(self) -> None:
        self.assembler = TrackAssembler(self.root, self.files)
        self.test_tracks = _test_tracks(self.files)

    def __len__(self) -> int:
        return sum(map(len, self.files.annotations.values())) + len(self.test_tracks)

    def tracks(self) -> Iterator[Track | None]:
        """Yield each track, or None for an unusable one, whose reason is added to `files.unused`."""
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
        labels = np.full((len(numbers), len(AFFWILD2_AUS)), NOT_ANNOTATED, np.int8)
        return self.assembler.build(name, "test", numbers, labels, None, warnings)

    def _test_numbers(self, name: str, listed: TestTrack) -> tuple[NDArray[np.int64], list[str]]:
        """Return the frame numbers [N] of a test track and warnings about them."""
        if listed.numbers is not None:
            numbers = np.array(list(dict.fromkeys(listed.numbers)), np.int64)
            warnings = []
            if len(numbers) < len(listed.numbers):
                warnings.append(f"{len(listed.numbers) - len(numbers)} rows of the template repeat a frame")
            if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
                warnings.append("the template does not number its frames 1, 2, 3, ...; its numbers are kept")
            return numbers, warnings
        if listed.count:
            return np.arange(1, listed.count + 1), []
        decoded = len(self.assembler.clock(name).times_s)
        highest = max(self.assembler.pictures(name).names, default=0)
        if not decoded and not highest:
            raise InputError(f"{name} has no template, no expected count, no video and no pictures.")
        warning = (
            f"no template: {max(decoded, highest)} rows, the larger of frames in the video ({decoded}) "
            f"and highest picture number ({highest})"
        )
        return np.arange(1, max(decoded, highest) + 1), [warning]


def _test_tracks(files: DatasetFiles) -> dict[str, TestTrack]:
    """Return the test tracks in lists, counts and templates, in order of occurrence, newest edition first."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    for path in sorted(files.texts, key=lambda p: (-edition_of(p), str(p))):
        try:
            if files.texts[path] == "template":
                template = read_template(path)
                for line in template.malformed[:1]:
                    reason = f"{len(template.malformed)} rows do not name an image, such as {line!r}"
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
        files.texts[path], "neither a list of tracks, nor counts, nor a template of the AU test set"
    )


def _names_known_tracks(names: Iterable[str], files: DatasetFiles) -> bool:
    """Return whether any name has pictures or a video. If none has, the file is not a list of tracks."""
    return any(name in files.images or video_name(name) in files.videos for name in names)


def _keep_newest(files: DatasetFiles, table: dict[str, _Value], name: str, value: _Value, path: Path) -> None:
    """Store `value` unless a newer file has set one; record an older file that differs as unused."""
    if table.setdefault(name, value) != value:
        reason = f"it differs from a newer file of the same kind on track {name}; the newer file is used"
        files.unused.append(Unused(str(path), reason))


def _without_labelled(names: dict[str, None], files: DatasetFiles) -> list[str]:
    """Return the names without labels; labelled tracks already belong to the training or validation set."""
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
    """Reader of s-Aff-Wild2's text files, one per split."""

    root: Path
    """Folder of the data set."""
    files: DatasetFiles
    """Files found in it."""
    au_names: tuple[str, ...] = AFFWILD2_AUS
    """AUs of the tracks."""

    def tracks(self) -> Iterator[Track | None]:
        """Yield each track. A track that is already in another split is recorded as unused."""
        assembler, split_of_track = TrackAssembler(self.root, self.files), dict[str, str]()
        for path in sorted(p for p, kind in self.files.texts.items() if kind == "multitask"):
            split = _split_in_name(path)
            for name, rows in self._read_multitask(path).items():
                if split_of_track.setdefault(name, split) != split:
                    reason = (
                        f"track {name} is already in {split_of_track[name]}, so it is not added to {split}"
                    )
                    self.files.unused.append(Unused(str(path), reason))
                    continue
                numbers = sorted(rows)
                labels = np.array([rows[number] for number in numbers], np.int8)
                yield assembler.build(name, split, np.array(numbers, np.int64), labels, path)
        self.files.unused += assembler.unused_files()

    def _read_multitask(self, path: Path) -> dict[str, _FrameLabels]:
        """Return labels by track and frame number; count malformed and repeated rows as unused."""
        tracks: dict[str, _FrameLabels] = {}
        malformed = repeats = 0
        for line in read_lines(path)[1:]:
            fields = line.removesuffix(",").split(",")
            location = image_location(fields[0])
            if location is None or len(fields) != MULTITASK_COLUMNS:
                malformed += 1
                continue
            values = [label_value(field) for field in fields[-len(AFFWILD2_AUS) :]]
            malformed += None in values
            rows = tracks.setdefault(location[0], {})
            repeats += location[1] in rows
            rows.setdefault(location[1], tuple(NOT_ANNOTATED if v is None else v for v in values))
        for count, problem in ((malformed, "cannot be parsed completely"), (repeats, "repeat a frame")):
            if count:
                self.files.unused.append(Unused(str(path), f"{count} rows {problem}"))
        return tracks


def _split_in_name(path: Path) -> str:
    name = path.stem.casefold()
    for word, split in (("train", "train"), ("val", "val"), ("test", "test")):
        if word in name:
            return split
    raise InputError(f"The name of {path} does not state its split. Put train, val or test into its name.")
