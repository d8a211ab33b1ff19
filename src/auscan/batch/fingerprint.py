"""Whether an input is still what it was: size and time first, its content only where these differ.

In: a file, or a folder of numbered pictures.  Out: numbers to compare.
Not here: what follows from it (plan.py).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auscan.core.errors import MediaError
from auscan.media.container import check_file
from auscan.media.images import numbered_images


def size_and_mtime(path: Path) -> tuple[int, int]:
    """Bytes of an input, and when it was last changed, ns since 1970; of a folder those of its pictures.

    Raises MediaError where it is not there, empty, or may not be read.
    """
    with _media_errors(path):
        stats = [check_file(file) for file in _files(path)]
    return sum(each.st_size for each in stats), max(each.st_mtime_ns for each in stats)


def content_hash(path: Path) -> str:
    """sha256 of an input's content; of a folder that of the names and hashes of its pictures.

    Raises as `size_and_mtime`.
    """
    with _media_errors(path):
        if not path.is_dir():
            check_file(path)
            return _hash_file(path)
        digest = hashlib.sha256()
        for file in _files(path):
            check_file(file)
            digest.update(os.fsencode(file.name) + f" {_hash_file(file)}\n".encode())
        return digest.hexdigest()


@contextmanager
def _media_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}). Copy it again.") from error


def _files(path: Path) -> list[Path]:
    return numbered_images(path) if path.is_dir() else [path]


def _hash_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
