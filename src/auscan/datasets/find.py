"""Find the pieces of Aff-Wild2 in a folder, whatever the edition called its folders.

No archive holds everything, and people unpack several, rename and nest them. So the tree is searched for what
does not change: folders AU_Detection_Challenge (or AU_Set) with a training and a validation set, folders
cropped_aligned* with one folder a track, video files, and the text files of the test set. Each kind may be
looked for elsewhere instead (`Roots`).

In: a folder.  Out: paths by track or video name, and all that was found and is of no use, with the reason.
Not here: reading what was found (labels.py, lists.py, clock.py), joining it (affwild2.py).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from auscan.core.errors import InputError
from auscan.datasets.track_lists import Kind, kind_of
from auscan.media.discover import VIDEO_SUFFIXES
from auscan.media.images import natural_key

SPLIT_FOLDERS: Final[dict[str, str]] = {
    "train_set": "train",
    "training_set": "train",
    "validation_set": "val",
    "val_set": "val",
}
"""Splits by the names, in small letters, of the folders inside an annotation root."""

ANNOTATION_ROOTS: Final[tuple[str, ...]] = ("au_detection_challenge", "au_set")

SISTER_ROOTS: Final = re.compile(r"(va|expr|mtl|ce|emi)_.*(challenge|set)")
"""Labels of other tasks; a uni-task entry must not use them."""

ORDINALS: Final[tuple[str, ...]] = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh"),
)


@dataclass(frozen=True)
class Unused:
    """Something that was found and cannot be used."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Roots:
    """Where to look for each kind of piece; an empty tuple: anywhere in the data set's folder."""

    annotations: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    """Folders with one folder of pictures a track."""
    videos: tuple[Path, ...] = ()
    lists: tuple[Path, ...] = ()
    """Lists and templates of the test set: files or folders."""


@dataclass
class Pieces:
    """What was found."""

    annotations: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Files by split and track."""
    images: dict[str, Path] = field(default_factory=dict)
    """Folders of pictures by track."""
    videos: dict[str, Path] = field(default_factory=dict)
    """Video files by name without suffix."""
    texts: dict[Path, Kind] = field(default_factory=dict)
    """Text files outside the annotations."""
    unused: list[Unused] = field(default_factory=list)


@dataclass
class _Seen:
    """What a walk through a tree came across, unsorted."""

    annotation_roots: list[Path] = field(default_factory=list)
    image_roots: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    sisters: list[Path] = field(default_factory=list)
    others: Counter[tuple[Path, str]] = field(default_factory=Counter)
    """Files of other kinds, counted by folder and suffix."""
    errors: list[OSError] = field(default_factory=list)
    """Folders that may not be entered; os.walk alone would pass over them in silence."""


def find_pieces(root: Path, roots: Roots | None = None, leave_out: Path | None = None) -> Pieces:
    """Search `root` (and `roots`) for all pieces; `leave_out` is a folder not to look into.

    Hidden files and folders, and macOS's shadow copies, are passed over.
    Raises InputError if a folder to search does not exist.
    """
    roots = roots or Roots()
    seen = _walk(root, leave_out)
    pieces = Pieces()
    if roots.annotations:
        seen.annotation_roots = [r for path in roots.annotations for r in _annotation_roots(path)]
    _take_annotations(pieces, seen.annotation_roots, choose_newest=not roots.annotations)
    _take_images(pieces, list(roots.images) or _best_image_roots(pieces, seen.image_roots))
    videos = [v for path in roots.videos for v in _walk(path, None).videos] if roots.videos else seen.videos
    _take_videos(pieces, videos)
    texts = [t for path in roots.lists for t in _texts(path)] if roots.lists else seen.texts
    pieces.texts = {path: kind_of(path) for path in texts}
    for error in seen.errors:
        pieces.unused.append(Unused(str(error.filename), f"cannot be read ({error.strerror})"))
    for path in seen.sisters:
        pieces.unused.append(Unused(str(path), "labels of another task, which this one must not use"))
    for (folder, suffix), count in sorted(seen.others.items()):
        pieces.unused.append(
            Unused(f"{folder}/*{suffix}", f"{count} files of a kind that is neither video, list nor label")
        )
    return pieces


def _walk(root: Path, leave_out: Path | None) -> _Seen:
    """Go through a tree once; folders of pictures, with their millions of files, are not entered."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder. Give the folder in which the data set was unpacked.")
    seen, visited = _Seen(), set[str]()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=seen.errors.append):
        here = Path(folder)
        real = os.path.realpath(folder)
        if real in visited or (leave_out is not None and real == os.path.realpath(leave_out)):
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        _sort_files(seen, here, files)
        subfolders[:] = [name for name in subfolders if not _is_piece(seen, here / name)]
    return seen


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _sort_files(seen: _Seen, folder: Path, files: list[str]) -> None:
    for name in sorted(name for name in files if not _is_hidden(name)):
        path = folder / name
        if path.suffix.lower() in VIDEO_SUFFIXES:
            seen.videos.append(path)
        elif path.suffix.lower() == ".txt":
            seen.texts.append(path)
        else:
            seen.others[folder, path.suffix] += 1


def _is_piece(seen: _Seen, folder: Path) -> bool:
    """Note what kind of folder this is; True if the walk need not enter it."""
    name = folder.name.casefold()
    if name in ANNOTATION_ROOTS:
        seen.annotation_roots.append(folder)
    elif SISTER_ROOTS.fullmatch(name):
        seen.sisters.append(folder)
    elif name.startswith("cropped") and not _holds_image_roots(folder):
        seen.image_roots.append(folder)
    else:
        return False
    return True


def _holds_image_roots(folder: Path) -> bool:
    """Was an archive unpacked into a folder of its own name? Then the folders of tracks are one deeper."""
    return any(path.is_dir() and path.name.casefold().startswith("cropped") for path in folder.iterdir())


def _annotation_roots(path: Path) -> list[Path]:
    if path.is_dir() and any(child.name.casefold() in SPLIT_FOLDERS for child in path.iterdir()):
        return [path]
    found = _walk(path, None).annotation_roots
    if not found:
        raise InputError(f"{path} holds no AU_Detection_Challenge with a Train_Set. Check --annotations.")
    return found


def edition_of(path: Path) -> int:
    """The edition that a folder's name or the names above it tell; 2 for the older AU_Set, 0 if none does."""
    for name in (part.casefold() for part in reversed(path.parts)):
        numbered = re.search(r"(\d+)(?:st|nd|rd|th)[ _-]*abaw|abaw[ _-]*(\d+)(?!\d)", name)
        if numbered:
            return int(numbered[1] or numbered[2])
        for number, word in enumerate(ORDINALS, start=1):
            if re.search(rf"{word}[ _-]*abaw", name):
                return number
    return 2 if path.name.casefold() == "au_set" else 0


def _take_annotations(pieces: Pieces, annotation_roots: list[Path], choose_newest: bool) -> None:
    """Files by split and track, from the newest edition; labels were revised, so editions are not mixed."""
    by_age = sorted(annotation_roots, key=lambda path: (-edition_of(path), str(path)))
    if choose_newest:
        for path in by_age[1:]:
            reason = f"labels of another edition; those in {by_age[0]} are used. Choose with --annotations"
            pieces.unused.append(Unused(str(path), reason))
        by_age = by_age[:1]
    for root in by_age:
        for child in _listed(root):
            split = SPLIT_FOLDERS.get(child.name.casefold())
            if split is None or not child.is_dir():
                pieces.unused.append(Unused(str(child), "neither a training nor a validation set"))
                continue
            for path in _listed(child):
                _take_annotation(pieces, split, path)


def _take_annotation(pieces: Pieces, split: str, path: Path) -> None:
    if path.suffix.lower() != ".txt" or not path.is_file():
        pieces.unused.append(Unused(str(path), "no annotation file (.txt)"))
        return
    for other, files in pieces.annotations.items():
        if path.stem in files:
            reason = f"the track has labels already, in {files[path.stem]} ({other}); those are used"
            pieces.unused.append(Unused(str(path), reason))
            return
    pieces.annotations.setdefault(split, {})[path.stem] = path


def _best_image_roots(pieces: Pieces, image_roots: list[Path]) -> list[Path]:
    """The aligned crops; the loose ones only where no aligned ones are, since the two must not be mixed."""
    aligned = [path for path in image_roots if path.name.casefold().startswith("cropped_aligned")]
    if aligned:
        for path in image_roots:
            if path not in aligned:
                pieces.unused.append(Unused(str(path), "loose crops; the aligned ones are used"))
    return aligned or image_roots


def _take_images(pieces: Pieces, image_roots: list[Path]) -> None:
    for root in image_roots:
        for child in _listed(root):
            if not child.is_dir():
                pieces.unused.append(Unused(str(child), "a file among the tracks' folders"))
            elif child.name in pieces.images:
                reason = f"the track has pictures already, in {pieces.images[child.name]}; those are used"
                pieces.unused.append(Unused(str(child), reason))
            else:
                pieces.images[child.name] = child


def _take_videos(pieces: Pieces, videos: list[Path]) -> None:
    # mp4 before avi where a video is there as both.
    for path in sorted(videos, key=lambda p: (p.suffix.lower() != ".mp4", natural_key(str(p)))):
        if path.stem in pieces.videos:
            reason = f"the video is there already, as {pieces.videos[path.stem]}; that one is used"
            pieces.unused.append(Unused(str(path), reason))
        else:
            pieces.videos[path.stem] = path


def _texts(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return _walk(path, None).texts


def _listed(folder: Path) -> Iterator[Path]:
    """What is in a folder, in natural order, hidden things left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Check the path.")
    shown = (path for path in folder.iterdir() if not _is_hidden(path.name))
    yield from sorted(shown, key=lambda path: natural_key(path.name))
