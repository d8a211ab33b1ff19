"""Find the media that a user meant: files, folders searched for media, globs.

A path that leads nowhere becomes an entry with an error, so that the others are still done. An input is known
by its *key*: its path below the folder that was given, so that it is the same input where the disk is mounted
elsewhere; a file that was named outright is known by its name.

In: the words of a command line.  Out: inputs in order, each with a key and a name for its results.
Not here: whether a file can be decoded (video.py says so when it reads it).
"""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from auscan.core.environment import as_plain_name, is_plain_name
from auscan.core.errors import MediaError
from auscan.media.images import IMAGE_SUFFIXES, natural_key

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES

LONGEST_NAME = 200
"""Bytes of a folder name that is made of a key; file systems take 255."""
LONGEST_STEM = 50
"""Characters of a file name that are kept before a hash; up to four bytes each."""


@dataclass(frozen=True)
class MediaInput:
    """One input: a file, or a folder to be read as a video; or what was asked for and why it is missing."""

    path: Path
    key: str
    """What it is known by; no two inputs share one."""
    error: MediaError | None = None


def find_media(inputs: Sequence[str | Path], folders_as_video: bool = False) -> list[MediaInput]:
    """Files as given, folders searched for media at any depth, globs expanded; each file once, in order.

    Hidden files and folders are left out of a search, and so is what is neither video nor picture by its
    name. With `folders_as_video` a folder is one input and is not searched. Inputs that would share a key
    have their whole paths, as given, for keys.
    """
    found: dict[str, MediaInput] = {}
    for given in inputs:
        try:
            items = _expand(str(given), folders_as_video)
        except OSError as error:  # a folder that may not be entered, a name too long
            items = [_failed(Path(given), f"{given} cannot be reached ({error.strerror}). Check the path.")]
        for item in items:
            found.setdefault(_file_identity(item.path), item)
    count = Counter(item.key for item in found.values())
    return [
        replace(item, key=item.path.as_posix()) if count[item.key] > 1 else item for item in found.values()
    ]


def _file_identity(path: Path) -> str:
    """The same for two ways to one file; links that lead nowhere, or to themselves, are each their own."""
    exists = os.path.exists(path)  # noqa: PTH110  (Path.exists raises for a name too long)
    return os.path.realpath(path) if exists else str(path.absolute())


def output_names(items: Sequence[MediaInput], assigned: Mapping[str, str]) -> list[str]:
    """A distinct folder name for each input; their order does not matter.

    assigned: folder names by key that earlier runs gave; an input keeps its own, and nobody else gets it.
    They come from manifests, which checks them (results/manifest.py).

    The first that nobody else could want of: the stem (talk), the stem with the suffix (talk_mp4), the whole
    key (day1_talk_mp4), the stem with a hash of the key. Case does not tell names apart, since it does not
    on every disk.
    """
    candidates = [[name for name in _candidates(item) if is_plain_name(name)] for item in items]
    keys_by_name: dict[str, set[str]] = {}
    for item, names in zip(items, candidates, strict=True):
        for name in names:
            keys_by_name.setdefault(name.casefold(), set()).add(item.key)
    for key, name in assigned.items():
        keys_by_name.setdefault(name.casefold(), set()).add(key)
    return [
        assigned.get(item.key)
        or next((name for name in names if len(keys_by_name[name.casefold()]) == 1), names[-1])
        for item, names in zip(items, candidates, strict=True)
    ]


def _candidates(item: MediaInput) -> Iterator[str]:
    """Folder names for an input, the shortest first; the last one is nobody else's."""
    path, key = item.path, PurePosixPath(item.key)
    if path.is_dir():  # keeps its dots, and `.` gets the name it stands for
        yield (stem := path.resolve().name)
    else:
        yield (stem := path.stem)
        yield (stem_and_suffix := f"{stem}_{path.suffix[1:]}" if path.suffix else stem)
        key = key.with_name(stem_and_suffix)
    joined_key = "_".join(part for part in key.parts if part not in ("/", ".."))
    if len(os.fsencode(joined_key)) <= LONGEST_NAME:
        yield joined_key
    yield f"{as_plain_name(stem[:LONGEST_STEM])}_{hashlib.sha256(os.fsencode(item.key)).hexdigest()[:12]}"


def _expand(given: str, folders_as_video: bool) -> list[MediaInput]:
    """The inputs that one word of the command line stands for; at least one, be it an error."""
    path = Path(given)
    if path.is_dir():
        if folders_as_video:
            return [MediaInput(path, path.resolve().name)]
        return _search(path, path) or [_failed(path, f"{path} has no video or picture in it. {_SUFFIX_HINT}")]
    if path.exists():
        return [MediaInput(path, path.name)]
    if not glob.has_magic(given):
        return [_failed(path, f"{path} does not exist. Check the path.")]
    root = _glob_root(path)
    matches = [Path(name) for name in sorted(glob.glob(given, recursive=True), key=natural_key)]  # noqa: PTH207
    found: list[MediaInput] = []
    for match in matches:
        if match.is_dir() and not folders_as_video:
            found += _search(match, root)
        elif match.is_dir() or match.suffix.lower() in MEDIA_SUFFIXES:
            found.append(MediaInput(match, match.relative_to(root).as_posix()))
    return found or [_failed(path, f"{given} matches no video or picture. {_SUFFIX_HINT}")]


def _search(folder: Path, root: Path) -> list[MediaInput]:
    """All media below a folder, in natural order; hidden files and folders left out; keys from `root` on.

    A folder below it that may not be entered becomes an entry with an error.
    """
    unreadable: list[OSError] = []
    paths: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (Path(parent, name) for name in files if not name.startswith("."))
        paths += [path for path in visible if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file()]
    paths.sort(key=lambda path: natural_key(str(path.relative_to(folder))))
    return [MediaInput(path, path.relative_to(root).as_posix()) for path in paths] + [
        _failed(
            Path(error.filename), f"{error.filename} cannot be searched ({error.strerror}). Check the path."
        )
        for error in unreadable
    ]


def _glob_root(pattern: Path) -> Path:
    """The folder that a glob starts from: all before the first part with magic in it."""
    parts = pattern.parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _failed(path: Path, message: str) -> MediaInput:
    return MediaInput(path, path.as_posix(), MediaError(message))


_SUFFIX_HINT = f"Looked for {' '.join(sorted(MEDIA_SUFFIXES))}."
