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


def state_of(path: Path) -> tuple[int, int]:
    """Bytes of an input, and when it was last changed, ns since 1970; of a folder those of its pictures.

    Raises MediaError where it is not there, empty, or may not be read.
    """
    with _reading(path):
        states = [check_file(file) for file in _files(path)]
    return sum(each.st_size for each in states), max(each.st_mtime_ns for each in states)


def hash_of(path: Path) -> str:
    """sha256 of an input's content; of a folder that of the names and hashes of its pictures.

    Raises as `state_of`.
    """
    with _reading(path):
        if not path.is_dir():
            check_file(path)
            return _hash(path)
        whole = hashlib.sha256()
        for file in _files(path):
            check_file(file)
            whole.update(os.fsencode(file.name) + f" {_hash(file)}\n".encode())
        return whole.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}). Copy it again.") from error


def _files(path: Path) -> list[Path]:
    return numbered_images(path) if path.is_dir() else [path]


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
