"""Find media from command-line arguments: files, folders to search, glob patterns; read pictures.

A path that does not exist becomes an entry with an error, so that the other inputs are still processed. The
*key* identifies an input: its path below the given folder, so that it does not change if the disk is
mounted elsewhere; for a file given by its path, the file name.

Pictures are uint8 [H, W, 3] RGB, rotated upright by the EXIF orientation.

Inputs: the arguments of a command. Returns: inputs in order, each with a key and a folder name for its
results.
See also: video.py (reports files that cannot be decoded; times of pictures).
"""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.environment import as_plain_name, is_plain_name
from auscan.core.errors import MediaError
from auscan.media.container import check_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
"""Suffixes of pictures, in lower case."""


def is_image(path: Path) -> bool:
    """Return whether the file has the suffix of a picture."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as uint8 [H, W, 3] RGB; convert other bit depths, grey levels and transparency.

    Raises MediaError if the file cannot be read or decoded.
    """
    check_file(path)
    # From bytes, because cv2.imread cannot open every Unicode path on every system.
    data = np.fromfile(path, np.uint8)
    # OpenCV also reports broken pictures on stderr; the MediaError below is enough.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise MediaError(f"{path} cannot be read as a picture; it may be truncated. Copy or export it again.")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def numbered_images(folder: Path) -> list[Path]:
    """Return the pictures of a folder with a number in their name, in the order of the numbers: 2 before 10.

    Raises MediaError if there are none.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder of pictures. Check the path.")
    images = [p for p in folder.iterdir() if is_image(p) and re.search(r"\d", p.stem) and p.name[0] != "."]
    if not images:
        raise MediaError(
            f"{folder} has no numbered pictures to read as a video. Name them like 0001.jpg, 0002.jpg, "
            f"or leave --as-video out."
        )
    return sorted(images, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key that compares the numbers in names by value."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
"""Suffixes, in lower case, of the files that a search finds."""

LONGEST_NAME = 200
"""Bytes of the longest folder name made from a key; file systems allow 255."""
LONGEST_STEM = 50
"""Characters of a file name that are kept before a hash, up to four bytes each."""


@dataclass(frozen=True)
class MediaInput:
    """An input: a file, a folder to read as a video, or an argument that was not found, with its error."""

    path: Path
    """Path of the file or folder."""
    key: str
    """Identifier of the input, unique in a run."""
    error: MediaError | None = None
    """Reason why there is no such input, or None."""


def find_media(inputs: Sequence[str | Path], folders_as_video: bool = False) -> list[MediaInput]:
    """Return given files, media in folders at any depth, and matches of globs; each file once, in order.

    A search skips hidden files and folders, and files without a suffix of `MEDIA_SUFFIXES`. With
    `folders_as_video` a folder is one input and is not searched. Inputs whose keys would be equal get their
    whole paths, as given, as keys.
    """
    found: dict[str, MediaInput] = {}
    for given in inputs:
        try:
            items = _expand(str(given), folders_as_video)
        except OSError as error:  # no permission to enter a folder, or a name too long
            items = [_failed(Path(given), f"{given} cannot be reached ({error.strerror}). Check the path.")]
        for item in items:
            found.setdefault(_file_identity(item.path), item)
    count = Counter(item.key for item in found.values())
    return [
        replace(item, key=item.path.as_posix()) if count[item.key] > 1 else item for item in found.values()
    ]


def _file_identity(path: Path) -> str:
    """Return the real path of a file; for broken or circular links, the path of the link."""
    exists = os.path.exists(path)  # noqa: PTH110  (Path.exists raises for a name too long)
    return os.path.realpath(path) if exists else str(path.absolute())


def output_names(items: Sequence[MediaInput], assigned: Mapping[str, str]) -> list[str]:
    """Return a distinct folder name for each input, independent of their order.

    assigned: folder names of earlier runs by key. An input keeps its name, and no other input gets it. Names
    are read from manifests and checked there (results/manifest.py).

    The name is the first that is a candidate of no other input among: the stem (talk), the stem with the
    suffix (talk_mp4), the whole key (day1_talk_mp4), the stem with a hash of the key. Names that differ only
    in case count as equal, because some file systems ignore case.
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
    """Yield candidate folder names of an input, shortest first; the last contains a hash of the key."""
    path, key = item.path, PurePosixPath(item.key)
    if path.is_dir():  # keeps its dots; `.` becomes the name of the folder
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
    """Return the inputs of one command-line argument; at least one, possibly with an error."""
    path = Path(given)
    if path.is_dir():
        if folders_as_video:
            return [MediaInput(path, path.resolve().name)]
        return _search(path, path) or [_failed(path, f"{path} contains no video or picture. {_SUFFIX_HINT}")]
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
    """Return all media below a folder in natural order, except hidden ones; keys are relative to `root`.

    A folder below it that cannot be entered becomes an entry with an error.
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
    """Return the folder where a glob pattern starts: the part before the first component with a wildcard."""
    parts = pattern.parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _failed(path: Path, message: str) -> MediaInput:
    return MediaInput(path, path.as_posix(), MediaError(message))


_SUFFIX_HINT = f"Supported suffixes: {' '.join(sorted(MEDIA_SUFFIXES))}."
