"""Find the files of Aff-Wild2 in a folder, independent of the edition's folder names.

No archive contains all files, and users unpack, rename and nest several archives. The search therefore uses
only names that are the same in all editions: folders AU_Detection_Challenge (or AU_Set) with a training and a
validation set, folders cropped_aligned* with one folder per track, video files, and the text files of the
test set. `Roots` sets other folders to search for each kind.

Inputs: a folder.  Returns: paths by track or video name, and unused files with reasons.
See also: results/readers/annotations.py, track_lists.py, clock.py (reading), affwild2.py (tracks).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from auscan.core.errors import InputError
from auscan.datasets.covers import COVERS_NAME
from auscan.datasets.track_lists import Kind, detect_kind
from auscan.media.discover import VIDEO_SUFFIXES, natural_key

SPLIT_FOLDERS: Final[dict[str, str]] = {
    "train_set": "train",
    "training_set": "train",
    "validation_set": "val",
    "val_set": "val",
}
"""Splits by the lower-case names of the folders inside an annotation root."""

ANNOTATION_ROOTS: Final[tuple[str, ...]] = ("au_detection_challenge", "au_set")
"""Lower-case names of folders with AU labels."""

OTHER_TASK_ROOTS: Final = re.compile(r"(va|expr|mtl|ce|emi)_.*(challenge|set)")
"""Lower-case names of folders with labels of other tasks, which a uni-task entry must not use."""

ORDINALS: Final[tuple[str, ...]] = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh"),
)
"""Edition numbers in words, from 1."""


@dataclass(frozen=True)
class Unused:
    """File or folder that is not used, and the reason."""

    path: str
    """Path or description of the file."""
    reason: str
    """Reason why it is not used."""


@dataclass(frozen=True, kw_only=True)
class Roots:
    """Folders to search for each kind of file; an empty tuple means the data set's folder."""

    annotations: tuple[Path, ...] = ()
    """Folders with label files."""
    images: tuple[Path, ...] = ()
    """Folders with one picture folder per track."""
    videos: tuple[Path, ...] = ()
    """Folders with videos."""
    lists: tuple[Path, ...] = ()
    """Lists and templates of the test set: files or folders."""


@dataclass
class DatasetFiles:
    """Files of a data set."""

    annotations: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Label files by split and track."""
    images: dict[str, Path] = field(default_factory=dict)
    """Picture folders by track."""
    videos: dict[str, Path] = field(default_factory=dict)
    """Video files by name without suffix."""
    texts: dict[Path, Kind] = field(default_factory=dict)
    """Kinds of the text files outside the annotations."""
    unused: list[Unused] = field(default_factory=list)
    """Files and folders that are not used, with reasons."""


@dataclass
class _WalkResult:
    """Unsorted files and folders of a tree."""

    annotation_roots: list[Path] = field(default_factory=list)
    image_roots: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    other_tasks: list[Path] = field(default_factory=list)
    others: Counter[tuple[Path, str]] = field(default_factory=Counter)
    """Files of other kinds, counted by folder and suffix."""
    errors: list[OSError] = field(default_factory=list)
    """Errors for unreadable folders, which os.walk ignores by default."""


def find_dataset_files(root: Path, roots: Roots | None = None, exclude: Path | None = None) -> DatasetFiles:
    """Find the files of a data set below `root` and `roots`.

    exclude: folder that is not searched.
    Hidden files and folders and macOS's shadow copies are skipped.
    Raises InputError if a folder to search does not exist.
    """
    roots = roots or Roots()
    walked = _walk(root, exclude)
    files = DatasetFiles()
    if roots.annotations:
        walked.annotation_roots = [r for path in roots.annotations for r in _annotation_roots(path)]
    _add_annotations(files, walked.annotation_roots, choose_newest=not roots.annotations)
    _add_images(files, list(roots.images) or _best_image_roots(files, walked.image_roots))
    videos = [v for path in roots.videos for v in _walk(path, None).videos] if roots.videos else walked.videos
    _add_videos(files, videos)
    texts = [t for path in roots.lists for t in _text_files(path)] if roots.lists else walked.texts
    files.texts = {path: detect_kind(path) for path in texts}
    for error in walked.errors:
        files.unused.append(Unused(str(error.filename), f"cannot be read ({error.strerror})"))
    for path in walked.other_tasks:
        files.unused.append(Unused(str(path), "labels of another task, which this task must not use"))
    for (folder, suffix), count in sorted(walked.others.items()):
        files.unused.append(
            Unused(f"{folder}/*{suffix}", f"{count} files that are neither videos, lists nor labels")
        )
    return files


def _walk(root: Path, exclude: Path | None) -> _WalkResult:
    """Walk a tree once, without entering picture folders, which hold millions of files."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder. Give the folder in which the data set was unpacked.")
    walked, visited = _WalkResult(), set[str]()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=walked.errors.append):
        folder_path = Path(folder)
        real = os.path.realpath(folder)
        if real in visited or (exclude is not None and real == os.path.realpath(exclude)):
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        known = {COVERS_NAME} if folder_path == root else set()
        _sort_files(walked, folder_path, [name for name in files if name not in known])
        subfolders[:] = [name for name in subfolders if not _record_folder(walked, folder_path / name)]
    return walked


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _sort_files(walked: _WalkResult, folder: Path, files: list[str]) -> None:
    for name in sorted(name for name in files if not _is_hidden(name)):
        path = folder / name
        if path.suffix.lower() in VIDEO_SUFFIXES:
            walked.videos.append(path)
        elif path.suffix.lower() == ".txt":
            walked.texts.append(path)
        else:
            walked.others[folder, path.suffix] += 1


def _record_folder(walked: _WalkResult, folder: Path) -> bool:
    """Record the folder by its kind; return whether the walk can skip its contents."""
    name = folder.name.casefold()
    if name in ANNOTATION_ROOTS:
        walked.annotation_roots.append(folder)
    elif OTHER_TASK_ROOTS.fullmatch(name):
        walked.other_tasks.append(folder)
    elif name.startswith("cropped") and not _holds_image_roots(folder):
        walked.image_roots.append(folder)
    else:
        return False
    return True


def _holds_image_roots(folder: Path) -> bool:
    """Return whether the folder holds cropped* folders, as an archive unpacked into a folder of its name."""
    return any(path.is_dir() and path.name.casefold().startswith("cropped") for path in folder.iterdir())


def _annotation_roots(path: Path) -> list[Path]:
    if path.is_dir() and any(child.name.casefold() in SPLIT_FOLDERS for child in path.iterdir()):
        return [path]
    found = _walk(path, None).annotation_roots
    if not found:
        raise InputError(
            f"{path} does not hold a folder AU_Detection_Challenge with a Train_Set. Check --annotations."
        )
    return found


def edition_of(path: Path) -> int:
    """Return the edition in the name of a folder or its parents; 2 for the older AU_Set, 0 if unknown."""
    for name in (part.casefold() for part in reversed(path.parts)):
        numbered = re.search(r"(\d+)(?:st|nd|rd|th)[ _-]*abaw|abaw[ _-]*(\d+)(?!\d)", name)
        if numbered:
            return int(numbered[1] or numbered[2])
        for number, word in enumerate(ORDINALS, start=1):
            if re.search(rf"{word}[ _-]*abaw", name):
                return number
    return 2 if path.name.casefold() == "au_set" else 0


def _add_annotations(files: DatasetFiles, annotation_roots: list[Path], choose_newest: bool) -> None:
    """Add label files by split and track.

    choose_newest: use only the newest edition. Labels were revised, so editions are not mixed.
    """
    newest_first = sorted(annotation_roots, key=lambda path: (-edition_of(path), str(path)))
    if choose_newest:
        for path in newest_first[1:]:
            reason = (
                f"labels of another edition; those in {newest_first[0]} are used. Choose with --annotations"
            )
            files.unused.append(Unused(str(path), reason))
        newest_first = newest_first[:1]
    for root in newest_first:
        for child in _list_folder(root):
            split = SPLIT_FOLDERS.get(child.name.casefold())
            if split is None or not child.is_dir():
                files.unused.append(Unused(str(child), "neither a training nor a validation set"))
                continue
            for path in _list_folder(child):
                _add_annotation(files, split, path)


def _add_annotation(files: DatasetFiles, split: str, path: Path) -> None:
    if path.suffix.lower() != ".txt" or not path.is_file():
        files.unused.append(Unused(str(path), "not an annotation file (.txt)"))
        return
    for other_split, paths in files.annotations.items():
        if path.stem in paths:
            reason = f"the track already has labels, in {paths[path.stem]} ({other_split}); those are used"
            files.unused.append(Unused(str(path), reason))
            return
    files.annotations.setdefault(split, {})[path.stem] = path


def _best_image_roots(files: DatasetFiles, image_roots: list[Path]) -> list[Path]:
    """Return the folders of aligned crops, else of unaligned crops; the two must not be mixed."""
    aligned = [path for path in image_roots if path.name.casefold().startswith("cropped_aligned")]
    if aligned:
        for path in image_roots:
            if path not in aligned:
                files.unused.append(Unused(str(path), "unaligned crops; the aligned crops are used"))
    return aligned or image_roots


def _add_images(files: DatasetFiles, image_roots: list[Path]) -> None:
    for root in image_roots:
        for child in _list_folder(root):
            if not child.is_dir():
                files.unused.append(Unused(str(child), "a file in a folder of track folders"))
            elif child.name in files.images:
                reason = f"the track already has pictures, in {files.images[child.name]}; those are used"
                files.unused.append(Unused(str(child), reason))
            else:
                files.images[child.name] = child


def _add_videos(files: DatasetFiles, videos: list[Path]) -> None:
    # If a video exists as .mp4 and .avi, the .mp4 is used.
    for path in sorted(videos, key=lambda p: (p.suffix.lower() != ".mp4", natural_key(str(p)))):
        if path.stem in files.videos:
            reason = f"the video already exists as {files.videos[path.stem]}, which is used"
            files.unused.append(Unused(str(path), reason))
        else:
            files.videos[path.stem] = path


def _text_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return _walk(path, None).texts


def _list_folder(folder: Path) -> Iterator[Path]:
    """Yield the entries of a folder in natural order, without hidden ones."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Check the path.")
    shown = (path for path in folder.iterdir() if not _is_hidden(path.name))
    yield from sorted(shown, key=lambda path: natural_key(path.name))
