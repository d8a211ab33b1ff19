"""Find the media that a user meant: files, folders searched for media, globs.

A path that leads nowhere becomes an entry with an error, so that the others are still done.

In: the words of a command line.  Out: inputs in order, each with a distinct name for its results.
Not here: whether a file can be decoded (video.py says so when it reads it).
"""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auscan.core.errors import MediaError
from auscan.media.images import IMAGE_SUFFIXES, natural_key

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


@dataclass(frozen=True)
class MediaInput:
    """One input: a file, or a folder to be read as a video; or what was asked for and why it is missing."""

    path: Path
    error: MediaError | None = None


def find_media(inputs: Sequence[str | Path], folders_as_video: bool = False) -> list[MediaInput]:
    """Files as given, folders searched for media at any depth, globs expanded; each file once, in order.

    Hidden files and folders are left out of a search, and so is what is neither video nor picture by its
    name. With `folders_as_video` a folder is one input and is not searched.
    """
    found: dict[Path, MediaInput] = {}
    for given in inputs:
        try:
            items = _expand(str(given), folders_as_video)
        except OSError as error:  # a folder that may not be entered, a name too long
            items = [_failed(Path(given), f"{given} cannot be reached ({error.strerror}). Check the path.")]
        for item in items:
            found.setdefault(item.path.resolve(), item)
    return list(found.values())


def output_names(paths: Sequence[Path]) -> list[str]:
    """A distinct folder name for each path: its stem, with the suffix (a_mp4, a_mov) where stems collide.

    What still collides is numbered in order (a_mp4, a_mp4_2). Case does not tell names apart, since it does
    not on every disk. The same paths in the same order give the same names.
    """
    stems = [_stem(path) for path in paths]
    count = Counter(stem.casefold() for stem in stems)
    taken = {stem.casefold() for stem in stems if count[stem.casefold()] == 1}
    names = []
    for path, stem in zip(paths, stems, strict=True):
        if count[stem.casefold()] > 1:
            wanted = f"{stem}_{path.suffix[1:]}" if path.suffix and not path.is_dir() else stem
            stem, number = wanted, 2
            while stem.casefold() in taken:
                stem, number = f"{wanted}_{number}", number + 1
            taken.add(stem.casefold())
        names.append(stem)
    return names


def _stem(path: Path) -> str:
    """The name without suffix; folders keep their dots, and `.` gets the name it stands for."""
    return path.resolve().name if path.is_dir() else path.stem


def _expand(given: str, folders_as_video: bool) -> list[MediaInput]:
    """The inputs that one word of the command line stands for; at least one, be it an error."""
    path = Path(given)
    if path.is_dir():
        if folders_as_video:
            return [MediaInput(path)]
        return _search(path) or [_failed(path, f"{path} has no video or picture in it. {_LOOKED_FOR}")]
    if path.exists():
        return [MediaInput(path)]
    if not glob.has_magic(given):
        return [_failed(path, f"{path} does not exist. Check the path.")]
    matches = [Path(name) for name in sorted(glob.glob(given, recursive=True), key=natural_key)]  # noqa: PTH207
    found: list[MediaInput] = []
    for match in matches:
        if match.is_dir():
            found += [MediaInput(match)] if folders_as_video else _search(match)
        elif match.suffix.lower() in MEDIA_SUFFIXES:
            found.append(MediaInput(match))
    return found or [_failed(path, f"{given} matches no video or picture. {_LOOKED_FOR}")]


def _search(folder: Path) -> list[MediaInput]:
    """All media below a folder, in natural order; hidden files and folders left out."""
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in MEDIA_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    return [MediaInput(path) for path in sorted(paths, key=lambda p: natural_key(str(p.relative_to(folder))))]


def _failed(path: Path, message: str) -> MediaInput:
    return MediaInput(path, MediaError(message))


_LOOKED_FOR = f"Looked for {' '.join(sorted(MEDIA_SUFFIXES))}."
