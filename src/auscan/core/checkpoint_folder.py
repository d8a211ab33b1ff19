"""SHA-256 sums of model files: a record beside them, held against them when they are read.

A bit that flipped on a disk or on its way changes what a model says and nothing else, so nobody would notice.
The record has the form of coreutils' `sha256sum`, which can check it (`sha256sum -c SHA256SUMS`) and write
it. A folder without a record is read as it is.

In: a folder, names of files in it.  Out: the record, or a CheckpointError.
Not here: whether the files fit each other (model/checkpoint.py), who made them: whoever can
change a file can change its sum.

What a checkpoint folder looks like on disk, for every engine that reads one.

    config.json         CheckpointConfig: every question about the weights, answered
    model.safetensors   the weights
    README.md           the model card
    *.onnx              the stages as graphs, for ONNX Runtime; export.json says how they were made
    SHA256SUMS          what the files above were when they were written

Weights or graphs may be missing: the former are for PyTorch, the latter for ONNX Runtime.

In: a shipped name or a path.  Out: a folder, its validated config.
Not here: the weights (model/checkpoint.py).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from auscan.core.config import CheckpointConfig
from auscan.core.environment import TRAIN_INSTALL_COMMAND
from auscan.core.errors import CheckpointError

CHECKSUMS_FILE = "SHA256SUMS"
CHECKSUM_PATTERNS = ("config.json", "*.safetensors", "*.onnx")
"""Files that have a say in what a model says."""
CHECKSUM_COMMAND = f"sha256sum {' '.join(CHECKSUM_PATTERNS)} > {CHECKSUMS_FILE}"
"""Writes the record of a folder that has all three kinds."""


def write_checksums(folder: Path) -> None:
    """Write the record of all model files in `folder`."""
    part = folder / f"{CHECKSUMS_FILE}.part"
    part.write_text(_format_checksums(_checksums(folder)), encoding="utf-8")
    part.replace(folder / CHECKSUMS_FILE)


def hash_model(folder: Path) -> str:
    """One sum for all model files in `folder`: that of their record, whether it was written or not.

    Raises CheckpointError as `verify_checksums` does, for any of the files.
    """
    sums, recorded = _checksums(folder), _read_checksums(folder / CHECKSUMS_FILE)
    if recorded is not None:
        _compare_checksums(folder, sums, recorded)
    return hashlib.sha256(_format_checksums(sums).encode()).hexdigest()


def verify_checksums(folder: Path, names: Iterable[str]) -> None:
    """Hold files against the folder's record; nothing is done where there is none.

    A file that is not there is left to whoever wants to read it.
    Raises CheckpointError for a file that is not the recorded one, one that the record leaves out, and a
    record that cannot be read.
    """
    recorded = _read_checksums(folder / CHECKSUMS_FILE)
    if recorded is not None:
        _compare_checksums(
            folder, {name: _sha256(folder / name) for name in names if (folder / name).is_file()}, recorded
        )


def _compare_checksums(folder: Path, sums: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    for name, digest in sums.items():
        if digest != recorded.get(name):
            raise CheckpointError(
                f"{folder / name} is not the file that {CHECKSUMS_FILE} beside it tells of: it was damaged "
                f"or changed. Copy the folder again. If the change was meant, write the record anew in the "
                f"folder: {CHECKSUM_COMMAND}"
            )


def _checksums(folder: Path) -> dict[str, str]:
    """Sums of all model files by name."""
    files = {file for pattern in CHECKSUM_PATTERNS for file in folder.glob(pattern)}
    return {file.name: _sha256(file) for file in sorted(files)}


def _format_checksums(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def _read_checksums(file: Path) -> dict[str, str] | None:
    """Sums in hexadecimal by name; None without a record."""
    if not file.is_file():
        return None
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines()]
        return {name.removeprefix("*"): digest for digest, name in lines}  # *: read as binary
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is no list of sums ({error}). Copy the folder again.") from error


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}). Copy the folder again.") from error


CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
EXPORT_FILE = "export.json"

GRAPH_DIRECTIONS = {"forward": "ahead", "backward": "back"}
"""Direction of a scan in the code, and in the file names of its graphs."""

SHIPPED_CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
"""Checkpoints inside the package."""

UNSHIPPED_SIZES = ("base", "large")
"""Sizes that exist only as settings: nobody has trained and shipped them."""


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a shipped checkpoint ('nano') or of a path to one.

    Raises CheckpointError where there is none.
    """
    shipped, given = SHIPPED_CHECKPOINTS / str(name), Path(name)
    for folder in (shipped, given):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if str(name) in UNSHIPPED_SIZES:
        raise CheckpointError(
            f"{name!r} is a size to train, not a trained model. Install what training takes "
            f"({TRAIN_INSTALL_COMMAND}), train it, then give the folder of its checkpoint."
        )
    names = ", ".join(sorted(path.parent.name for path in SHIPPED_CHECKPOINTS.glob(f"*/{CONFIG_FILE}")))
    missing = f"has no {CONFIG_FILE}" if given.is_dir() else "is neither a shipped model nor a folder"
    raise CheckpointError(f"{name} {missing}. Give a checkpoint folder, or one of: {names}.")


def graph_names(blocks: int) -> tuple[str, ...]:
    """Names of the graphs of a network with so many temporal blocks; each lies in <name>.onnx."""
    scans = [scan_graph_name(block, direction) for block in range(blocks) for direction in GRAPH_DIRECTIONS]
    return ("visual", "audio", "hear", *scans, "read")


def scan_graph_name(block: int, direction: str) -> str:
    """Return the name of the graph of one scan; direction: forward or backward."""
    return f"sweep_{block}_{GRAPH_DIRECTIONS[direction]}"


def has_graphs(folder: Path) -> bool:
    """Whether a checkpoint folder holds graphs."""
    return any(folder.glob("*.onnx"))


def read_config(folder: Path) -> CheckpointConfig:
    """Read and check config.json.

    Raises CheckpointError for a file that is no JSON, has an unknown key or an impossible value, or has
    the format number of another version, or is not the recorded one.
    """
    file = folder / CONFIG_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("kind") == "features":
            raise CheckpointError(
                f"{folder} holds what auscan train taught, which is no whole model. Make one with: "
                f"auscan pack {folder} --out FOLDER"
            )
        stored_format = content.get("format") if isinstance(content, dict) else None
        if stored_format != 1:
            raise CheckpointError(
                f"{file} has format {stored_format!r}; this version of auscan reads format 1. "
                f"Use the auscan that wrote it, or one newer than both."
            )
        config = CheckpointConfig.model_validate(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON ({error}). Copy the checkpoint again."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{file} is not a config of auscan: {location}: {first['msg']}. "
            f"Restore the file that came with the weights."
        ) from error
    verify_checksums(folder, [CONFIG_FILE])
    return config
