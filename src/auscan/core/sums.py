"""SHA-256 sums of model files: a record beside them, held against them when they are read.

A bit that flipped on a disk or on its way changes what a model says and nothing else, so nobody would notice.
The record has the form of coreutils' `sha256sum`, which can check it (`sha256sum -c SHA256SUMS`) and write
it. A folder without a record is read as it is.

In: a folder, names of files in it.  Out: the record, or a CheckpointError.
Not here: whether the files fit each other (core/folder.py, model/checkpoint.py), who made them: whoever can
change a file can change its sum.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from auscan.core.errors import CheckpointError

SUMS_FILE = "SHA256SUMS"
RECORDED = ("config.json", "*.safetensors", "*.onnx")
"""Files that have a say in what a model says."""
ANEW = f"sha256sum {' '.join(RECORDED)} > {SUMS_FILE}"
"""Writes the record of a folder that has all three kinds."""


def write_sums(folder: Path) -> None:
    """Write the record of all model files in `folder`."""
    files = sorted({file for pattern in RECORDED for file in folder.glob(pattern)})
    part = folder / f"{SUMS_FILE}.part"
    part.write_text("".join(f"{_sum(file)}  {file.name}\n" for file in files), encoding="utf-8")
    part.replace(folder / SUMS_FILE)


def check_sums(folder: Path, names: Iterable[str]) -> None:
    """Hold files against the folder's record; nothing is done where there is none.

    A file that is not there is left to whoever wants to read it.
    Raises CheckpointError for a file that is not the recorded one, one that the record leaves out, and a
    record that cannot be read.
    """
    recorded = _read_sums(folder / SUMS_FILE)
    if recorded is None:
        return
    for name in names:
        file = folder / name
        if file.is_file() and _sum(file) != recorded.get(name):
            raise CheckpointError(
                f"{file} is not the file that {SUMS_FILE} beside it tells of: it was damaged or changed. "
                f"Copy the folder again. If the change was meant, write the record anew in the folder: {ANEW}"
            )


def _read_sums(file: Path) -> dict[str, str] | None:
    """Sums in hexadecimal by name; None without a record."""
    if not file.is_file():
        return None
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines()]
        return {name.removeprefix("*"): digest for digest, name in lines}  # *: read as binary
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is no list of sums ({error}). Copy the folder again.") from error


def _sum(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}). Copy the folder again.") from error
