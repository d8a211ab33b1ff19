"""SHA-256 sums of model files: a record beside them, held against them when they are read.

A bit that flipped on a disk or on its way changes what a model says and nothing else, so nobody would notice.
The record has the form of coreutils' `sha256sum`, which can check it (`sha256sum -c SHA256SUMS`) and write
it. A folder without a record is read as it is.

In: a folder, names of files in it.  Out: the record, or a CheckpointError.
Not here: whether the files fit each other (core/folder.py, model/checkpoint.py), who made them: whoever can
change a file can change its sum.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from auscan.core.errors import CheckpointError

SUMS_FILE = "SHA256SUMS"
RECORDED = ("config.json", "*.safetensors", "*.onnx")
"""Files that have a say in what a model says."""
ANEW = f"sha256sum {' '.join(RECORDED)} > {SUMS_FILE}"
"""Writes the record of a folder that has all three kinds."""


def write_sums(folder: Path) -> None:
    """Write the record of all model files in `folder`."""
    part = folder / f"{SUMS_FILE}.part"
    part.write_text(_record(_sums(folder)), encoding="utf-8")
    part.replace(folder / SUMS_FILE)


def hash_model(folder: Path) -> str:
    """One sum for all model files in `folder`: that of their record, whether it was written or not.

    Raises CheckpointError as `check_sums` does, for any of the files.
    """
    sums, recorded = _sums(folder), _read_sums(folder / SUMS_FILE)
    if recorded is not None:
        _hold(folder, sums, recorded)
    return hashlib.sha256(_record(sums).encode()).hexdigest()


def check_sums(folder: Path, names: Iterable[str]) -> None:
    """Hold files against the folder's record; nothing is done where there is none.

    A file that is not there is left to whoever wants to read it.
    Raises CheckpointError for a file that is not the recorded one, one that the record leaves out, and a
    record that cannot be read.
    """
    recorded = _read_sums(folder / SUMS_FILE)
    if recorded is not None:
        _hold(folder, {name: _sum(folder / name) for name in names if (folder / name).is_file()}, recorded)


def _hold(folder: Path, sums: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    for name, digest in sums.items():
        if digest != recorded.get(name):
            raise CheckpointError(
                f"{folder / name} is not the file that {SUMS_FILE} beside it tells of: it was damaged or "
                f"changed. Copy the folder again. If the change was meant, write the record anew in the "
                f"folder: {ANEW}"
            )


def _sums(folder: Path) -> dict[str, str]:
    """Sums of all model files by name."""
    files = {file for pattern in RECORDED for file in folder.glob(pattern)}
    return {file.name: _sum(file) for file in sorted(files)}


def _record(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


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
