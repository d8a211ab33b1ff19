"""Compute the fingerprint of an input: size and modification time, and the hash of its content.

A resumed run compares size and time first; it hashes the content only if they differ.

Inputs: a file, or a folder of numbered pictures. Returns: size and time; SHA-256.
See also: plan.py (which inputs to process).
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
    """Return the size of an input in bytes and its modification time in ns since 1970.

    For a folder: the sum and the maximum over its numbered pictures.

    Raises MediaError if the input does not exist, is empty or cannot be read.
    """
    with _media_errors(path):
        stats = [check_file(file) for file in _files(path)]
    return sum(each.st_size for each in stats), max(each.st_mtime_ns for each in stats)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of an input's content; for a folder, of the names and hashes of its pictures.

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
