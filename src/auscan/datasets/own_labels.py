"""Build tracks from one's own coding: a folder of videos with the files of human coders.

A file belongs to the video that it names, or whose name begins its own: `clip01_anna.csv` has Anna's coding
of `clip01.mp4`. The rows of a track are all frames of the video. An event is in the frames whose middle it
contains, so that times rounded to milliseconds change nothing.

What is not annotated (-1): AUs that a coder did not code; in tables of frames, frames without a value; frames
outside `coded` and inside `uncoded` intervals (coder_names.py); and, if a coder also writes intervals with 0,
the time between intervals. Lists of events do not say which AUs were coded: those that occur in any list of
the coder count as coded in all of them, with a warning where there is no event.

The label is the coding of one coder, or the majority of all. The face is the one with the given number in
`auscan detect`, or the largest of each frame.

Inputs: a folder.
Returns: one track for each video and face.
See also: results/readers/coder_files.py and coder_tables.py (formats), coder_names.py (names),
video_crops.py (crops).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS
from auscan.core.errors import InputError
from auscan.datasets.clock import LENGTH_SLACK, FrameClock, read_clock
from auscan.datasets.coder_names import CODED, UNCODED, CoderNames, NameMeaning, check_known
from auscan.datasets.dataset_tree import DatasetTree
from auscan.datasets.find import Unused
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import relative_path
from auscan.datasets.video_crops import LARGEST
from auscan.media.discover import VIDEO_SUFFIXES
from auscan.results.exports.bids import bids_name
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.results.readers.coder_files import CODER_SUFFIXES, read_sheets
from auscan.results.readers.coder_sheet import CodedSpan, CoderSheet
from auscan.results.readers.toolkits import is_openface

MAJORITY: Final = "majority"
"""Value of `coder` for the label that most coders give."""
UNNAMED: Final = "unnamed"
"""Name of a coder that neither file nor name states."""
_AFTER_STOP_S: Final = 1.0
"""Time after the end of the video at which an event is taken for an error, seconds."""
_PLAIN_ENDINGS: Final = frozenset(
    {"", "events", "auscan", "aus", "au", "labels", "codes", "coding", "facs"}
    | {"boris", "datavyu", "elan", "praat"}
)
"""Ends of file names that are not the name of a coder."""


@dataclass(eq=False)
class CoderWork:
    """Coding of one face of one video by one coder, from one or several files."""

    video: Path
    coder: str
    face: int | None
    """Number of the face, or None."""
    person: str | None = None
    files: list[Path] = field(default_factory=list)
    aus: list[str] = field(default_factory=list)
    """AUs that were coded."""
    listed: bool = False
    """Whether a file is a list of events, which does not say which AUs were coded."""
    spans: dict[str, list[CodedSpan]] = field(default_factory=dict)
    """Events by AU, CODED or UNCODED."""
    frames: list[tuple[str, CoderSheet, str]] = field(default_factory=list)
    """AU, sheet and column of each coding in frames."""


class OwnLabels:
    """Reader of a folder of videos and coders' files."""

    def __init__(
        self,
        tree: DatasetTree,
        videos: Sequence[Path] = (),
        names: Path | None = None,
        coder: str | None = None,
    ) -> None:
        """Read the coders' files.

        videos: folders of videos outside the tree.  names: mapping file.  coder: a coder's name, or MAJORITY.
        Raises InputError for an unknown name, an invalid value, or a coder who did not code any video.
        """
        self._tree, self._names, self._coder = tree, CoderNames(names), coder
        self._tree.used.update([] if names is None else [names.resolve()])
        self._videos = _find_videos(tree, videos)
        self._works: dict[tuple[str, int | None, str], CoderWork] = {}
        self.codings: list[dict[str, Any]] = []
        """A line of the report for each video, face and coder; complete after the last track."""
        self._read_files()
        self._count_listed_aus()
        found = {au for work in self._works.values() for au in work.aus}
        self.au_names = tuple(au for au in ACTION_UNITS if au in found)
        """AUs that somebody coded, in the order of their numbers."""
        self._check_coder()
        unused = self._names.unused()
        if unused:
            self._tree.unused.append(Unused(str(names), f"no coder used {', '.join(unused)}"))

    def tracks(self) -> Iterator[Track | None]:
        """Yield the track of each video and face, or None for an unusable one."""
        by_face: dict[tuple[Path, int | None], list[CoderWork]] = {}
        for work in self._works.values():
            by_face.setdefault((work.video, work.face), []).append(work)
        for (video, face), unsorted in sorted(
            by_face.items(), key=lambda item: (str(item[0][0]), item[0][1] or 0)
        ):
            works = sorted(unsorted, key=lambda work: work.coder)
            self._tree.used.add(video)
            clock = read_clock(video, None)
            if not len(clock.times_s):
                self._tree.unused.append(Unused(str(video), f"cannot be used: {'; '.join(clock.warnings)}"))
                yield None
                continue
            yield self._track(video, face, works, clock)
        self._tree.unused += self._tree.unused_files()

    def _read_files(self) -> None:
        unknown: dict[str, str] = {}
        for path in self._tree.files:
            if path.suffix.lower() not in CODER_SUFFIXES or path in self._tree.used:
                continue
            if path.suffix.lower() == ".csv" and is_openface(path):
                reason = "predictions of OpenFace, no coding; auscan prepare --format openface reads them"
                self._set_aside(path, reason)
                continue
            sheets = read_sheets(path, self._names.is_used)
            if not sheets:
                self._set_aside(path, "no table of events or frames")
            for sheet in sheets:
                self._tree.used.add(path)
                video, rest = self._video_of(sheet)
                if video is None:
                    self._set_aside(path, f"no video {sheet.video or path.stem}")
                    continue
                coder = sheet.coder or rest or self._folder_coder(path, video)
                for name in sheet.names:
                    meaning = self._names.meaning(name)
                    if meaning is None:
                        unknown.setdefault(name, path.name)
                    elif self._names.is_used(name):
                        self._add(sheet, name, meaning, video, coder)
        check_known(unknown)
        if not self._works:
            first = "".join(f" {item.path}: {item.reason}." for item in self._tree.unused[:1])
            raise InputError(f"{self._tree.root} has no coding of a video in it.{first}")

    def _set_aside(self, path: Path, reason: str) -> None:
        self._tree.used.add(path)
        self._tree.unused.append(Unused(str(path), reason))

    def _add(self, sheet: CoderSheet, name: str, meaning: NameMeaning, video: Path, coder: str) -> None:
        """Add one name of a sheet to the work of its coder."""
        face = sheet.face if meaning.face is None else meaning.face
        coder = meaning.coder or coder
        work = self._works.setdefault((str(video), face, coder), CoderWork(video, coder, face))
        if sheet.person is not None and work.person not in (None, sheet.person):
            raise InputError(
                f"{sheet.path} has several people in {video.name}. Give each a number in a column face."
            )
        work.person = sheet.person or work.person
        other = next((path for path in work.files if path != sheet.path), None)
        if meaning.kind in work.aus and other is not None and sheet.path not in work.files:
            raise InputError(
                f"{other} and {sheet.path} both have {meaning.kind} of {video.name} by {coder}. Remove one, "
                "or name the coders: clip_anna.csv, clip_ben.csv."
            )
        work.files += [] if sheet.path in work.files else [sheet.path]
        if meaning.kind in ACTION_UNITS:
            work.aus += [] if meaning.kind in work.aus else [meaning.kind]
            work.listed |= not sheet.is_complete
        if sheet.frames is not None:
            work.frames.append((meaning.kind, sheet, name))
        else:
            spans = [span for span in sheet.spans if span.name == name]
            work.spans.setdefault(meaning.kind, []).extend(spans)

    def _video_of(self, sheet: CoderSheet) -> tuple[Path | None, str]:
        """Return the video of a sheet, and the rest of the file's name after that of the video."""
        stem = sheet.path.stem
        begins = [n for n in self._videos if re.match(rf"{re.escape(n)}(?:[ ._@-]|$)", stem.casefold())]
        stated = sheet.video.casefold() if sheet.video else ""
        names = [name for name in (stated, bids_name(stated)) if name in self._videos]
        name = next(iter(names), None) or max(begins, key=len, default=None)
        if name is None:
            return None, ""
        rest = re.split(r"[ ._@-]+", stem[len(name) :]) if name in begins else []
        return self._videos[name], "_".join(p for p in rest if p.casefold() not in _PLAIN_ENDINGS)

    def _folder_coder(self, path: Path, video: Path) -> str:
        """Return the name of the folder of a file as its coder, if it is neither the root nor the video's."""
        folder = path.parent
        return UNNAMED if folder in (self._tree.root, video.parent) else folder.name

    def _count_listed_aus(self) -> None:
        """Count the AUs of all lists of a coder as coded in each of them."""
        for coder in {work.coder for work in self._works.values()}:
            lists = [work for work in self._works.values() if work.listed and work.coder == coder]
            for au in [au for au in ACTION_UNITS if any(au in work.spans for work in lists)]:
                for work in lists:
                    work.spans.setdefault(au, [])
                    work.aus += [] if au in work.aus else [au]

    def _check_coder(self) -> None:
        coders = sorted({work.coder for work in self._works.values()})
        if self._coder not in (None, MAJORITY, *coders):
            raise InputError(f"No file is by the coder {self._coder!r}. The coders are {', '.join(coders)}.")
        videos = [(work.video, work.face) for work in self._works.values()]
        several = sorted({video.name for video, face in videos if videos.count((video, face)) > 1})
        if several and self._coder is None:
            raise InputError(
                f"{len(several)} videos, such as {several[0]}, have several coders ({', '.join(coders)}). "
                f"Choose the one whose coding is the label with --coder NAME, or --coder {MAJORITY} for the "
                "value that most of them give (none where they are equal). auscan agree compares two of them."
            )

    def _track(
        self, video: Path, face: int | None, works: Sequence[CoderWork], clock: FrameClock
    ) -> Track | None:
        labels = {work.coder: _labels(work, clock, self.au_names) for work in works}
        used = [coder for coder in labels if self._coder in (None, MAJORITY, coder)]
        root = self._tree.root
        for work in works:
            known = (labels[work.coder] != NOT_ANNOTATED).any(axis=1)
            self.codings.append(
                {
                    "video": relative_path(video, root),
                    "face": LARGEST if face is None else str(face),
                    "coder": work.coder,
                    "files": [relative_path(path, root) for path in work.files],
                    "aus": [au for au in self.au_names if au in work.aus],
                    "frames_coded": int(known.sum()),
                    "is_label": work.coder in used,
                }
            )
        if not used:
            self._tree.unused.append(Unused(str(video), f"no coding by {self._coder}"))
            return None
        numbers = np.arange(1, len(clock.times_s) + 1, dtype=np.int64)
        person = next((work.person for work in works if work.person), None) or _bids_subject(video.stem)
        name = video.stem if face is None else f"{video.stem}_face{face}"
        warnings = [
            f"{work.coder} lists no event of {', '.join(silent)}: taken as coded and inactive"
            for work in works
            if work.listed and (silent := [au for au in work.aus if not work.spans.get(au)])
        ]
        return Track(
            name=name,
            split="all",
            source_video=person or video.stem,
            numbers=numbers,
            labels=_majority([labels[coder] for coder in used]),
            images=[None] * len(numbers),
            times_s=clock.times_s,
            clock=clock,
            video=relative_path(video, root),
            label_file=relative_path(works[0].files[0], root),
            au_names=self.au_names,
            coded=self.au_names,
            coder=", ".join(sorted(used)),
            face=LARGEST if face is None else str(face),
            warnings=(*warnings, *clock.warnings),
        )


def is_own(tree: DatasetTree, videos: Sequence[Path]) -> bool:
    """Return whether a folder has coders' files by suffix, and videos, or these are elsewhere."""
    kinds = {path.suffix.lower() for path in tree.files}
    return bool(videos or kinds & VIDEO_SUFFIXES) and bool(kinds & CODER_SUFFIXES)


def _find_videos(tree: DatasetTree, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the videos by name and by name without its BIDS suffix.  Raises InputError for equal names."""
    outside = [path for folder in folders for path in sorted(folder.resolve().rglob("*"))]
    found: dict[str, Path] = {}
    for path in (*tree.files, *outside):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        for name in {path.stem.casefold(), bids_name(path.stem).casefold()}:
            if found.setdefault(name, path) != path:
                raise InputError(f"{found[name]} and {path} have the same name. Rename one, and its coding.")
    if not found:
        raise InputError(
            f"{tree.root} has no video. Put the videos beside the coders' files, or give --videos."
        )
    return found


def _bids_subject(name: str) -> str | None:
    match = re.match(r"(sub-[a-zA-Z0-9]+)(?:_|$)", name)
    return match[1] if match else None


def _labels(work: CoderWork, clock: FrameClock, au_names: Sequence[str]) -> NDArray[np.int8]:
    """Return the labels [F, A] of one coder for all frames of the video."""
    labels = np.full((len(clock.times_s), len(au_names)), NOT_ANNOTATED, np.int8)
    for au, spans in work.spans.items():
        if au in au_names:
            labels[:, au_names.index(au)] = _span_labels(spans, work, clock)
    for au, sheet, name in work.frames:
        if au in au_names:
            column = labels[:, au_names.index(au)]
            np.maximum(column, _frame_labels(sheet, name, clock), out=column)
    if CODED in work.spans:
        labels[~_inside(work.spans[CODED], work, clock)] = NOT_ANNOTATED
    labels[_inside(work.spans.get(UNCODED, []), work, clock)] = NOT_ANNOTATED
    return labels


def _span_labels(spans: Sequence[CodedSpan], work: CoderWork, clock: FrameClock) -> NDArray[np.int8]:
    """Return the labels [F] of one AU from its intervals."""
    states_zeros = any(span.value == 0 for span in spans)
    labels = np.full(len(clock.times_s), NOT_ANNOTATED if states_zeros else 0, np.int8)
    for value in (0, NOT_ANNOTATED, 1):
        labels[_inside([span for span in spans if span.value == value], work, clock)] = value
    return labels


def _inside(spans: Sequence[CodedSpan], work: CoderWork, clock: FrameClock) -> NDArray[np.bool_]:
    """Return the mask [F] of the frames whose middle is in an interval, or that show a point in time."""
    times_s, ends_s = clock.times_s, _ends_s(clock)
    middle_s = (times_s + ends_s) / 2
    mask = np.zeros(len(times_s), bool)
    for span in spans:
        if span.onset_s > ends_s[-1] + _AFTER_STOP_S:
            raise InputError(
                f"{work.files[0]} has {span.name} at {span.onset_s:g} s, but {work.video.name} ends at "
                f"{ends_s[-1]:.1f} s. Check that the file belongs to the video, and its times: a column in "
                "milliseconds is named onset_ms, time_ms and so on."
            )
        if span.onset_s == span.offset_s:
            mask[max(0, int(np.searchsorted(times_s, span.onset_s, "right")) - 1)] = True
        else:
            mask |= (middle_s >= span.onset_s) & (middle_s < span.offset_s)
    return mask


def _ends_s(clock: FrameClock) -> NDArray[np.float64]:
    """Return the ends [F] of the frames, seconds."""
    times_s = clock.times_s
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0 / (clock.rate_hz or 1.0)
    return np.append(times_s[1:], times_s[-1] + step_s)


def _frame_labels(sheet: CoderSheet, name: str, clock: FrameClock) -> NDArray[np.int8]:
    """Return the labels [F] of one column of a table of frames; frames without a row are not annotated."""
    assert sheet.frames is not None
    frames, count = sheet.frames, len(clock.times_s)
    labels = np.full(count, NOT_ANNOTATED, np.int8)
    if "number" in frames:
        numbers = frames["number"].to_numpy(np.float64)
        if np.any(numbers != np.floor(numbers)) or np.any(numbers < 0):
            raise InputError(f"{sheet.path} has a frame that is not a whole number from 0 or 1 on.")
        rows = numbers.astype(np.int64) - (0 if numbers.min(initial=1) == 0 else 1)
        beyond = int(rows.max(initial=0)) - (count - 1)
        if beyond > LENGTH_SLACK:
            raise InputError(f"{sheet.path} has {beyond} frames more than the video. Check that they belong.")
    else:
        times_s, ends_s = frames["time_s"].to_numpy(np.float64), _ends_s(clock)
        late = times_s > ends_s[-1] + _AFTER_STOP_S
        if late.any():
            raise InputError(
                f"{sheet.path} has a value at {times_s[late][0]:g} s, but the video ends at "
                f"{ends_s[-1]:.1f} s. A column in milliseconds is named time_ms."
            )
        half_s = float(np.median(ends_s - clock.times_s)) / 2
        rows = np.searchsorted(clock.times_s - half_s, times_s, "right") - 1  # the nearest frame
    valid = (rows >= 0) & (rows < count)
    np.maximum.at(labels, rows[valid], frames[name].to_numpy(np.int8)[valid])
    return labels


def _majority(codings: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """Return the label [F, A] that most codings give; -1 where they are equal or nobody coded."""
    active, inactive = (np.sum([labels == value for labels in codings], axis=0) for value in (1, 0))
    return np.select([active > inactive, inactive > active], [1, 0], NOT_ANNOTATED).astype(np.int8)
