"""Find a checkpoint folder, read its config and verify the checksums of its files.

    config.json         CheckpointConfig: AU names, calibration, thresholds, network settings, licence
    model.safetensors   weights, for PyTorch
    README.md           model card
    *.onnx              graphs of the network, for ONNX Runtime; export.json records how they were exported
    SHA256SUMS          SHA-256 checksums of the files above, except the model card and export.json

Weights or graphs may be missing: PyTorch needs the weights, ONNX Runtime needs the graphs.

A flipped bit on a disk or in a transfer changes the predictions without an error, so files are verified when
they are read. SHA256SUMS has the format of coreutils: `sha256sum -c SHA256SUMS` verifies it. Files of a
folder without SHA256SUMS are not verified. Checksums detect damage, not manipulation: anyone who can change a
file can also change its checksum.

Models from the Hub (`user/name`) must have SHA256SUMS, and all files are verified after the download.

Inputs: the name of a shipped checkpoint, a path or a hub name. Returns: the folder, its validated config.
See also: model/checkpoint.py (weights; whether config and weights match), hub_download.py (the download).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from pydantic import ValidationError

from auscan.core.config import CHECKPOINT_FORMAT, CheckpointConfig
from auscan.core.environment import TRAIN_INSTALL_COMMAND
from auscan.core.errors import CheckpointError, InputError
from auscan.core.hub_download import (
    HubName,
    download_model,
    find_cached_model,
    hub_name_of,
    parse_hub_name,
)

CHECKSUMS_FILE = "SHA256SUMS"
CHECKSUM_PATTERNS = ("config.json", "*.safetensors", "*.onnx")
"""Files that determine the predictions of a model."""
CHECKSUM_COMMAND = f"sha256sum {' '.join(CHECKSUM_PATTERNS)} > {CHECKSUMS_FILE}"
"""Shell command that writes SHA256SUMS in a folder with all three kinds of files."""


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS for all model files in `folder`."""
    part = folder / f"{CHECKSUMS_FILE}.part"
    part.write_text(_format_checksums(_checksums(folder)), encoding="utf-8")
    part.replace(folder / CHECKSUMS_FILE)


def hash_model(folder: Path) -> str:
    """Return one SHA-256 for all model files in `folder`: the hash of the text of SHA256SUMS.

    The file SHA256SUMS need not exist. If it does, all model files are verified first.
    Raises CheckpointError as `verify_checksums` does.
    """
    sums, recorded = _checksums(folder), _read_checksums(folder / CHECKSUMS_FILE)
    if recorded is not None:
        _compare_checksums(folder, sums, recorded)
    return hashlib.sha256(_format_checksums(sums).encode()).hexdigest()


def verify_checksums(folder: Path, names: Iterable[str]) -> None:
    """Verify files against SHA256SUMS; do nothing if the folder has no SHA256SUMS.

    Ignores missing files: the code that reads them reports them.
    Raises CheckpointError if a checksum differs, if a file is not listed, or if SHA256SUMS cannot be read.
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
                f"{folder / name} does not match its checksum in {CHECKSUMS_FILE}: the file was damaged or "
                f"changed. Copy the folder again. If the change was intended, update the checksums in the "
                f"folder: {CHECKSUM_COMMAND}"
            )


def _checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 checksums of all model files by name, hexadecimal."""
    files = {file for pattern in CHECKSUM_PATTERNS for file in folder.glob(pattern)}
    return {file.name: _sha256(file) for file in sorted(files)}


def _format_checksums(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def _read_checksums(file: Path) -> dict[str, str] | None:
    """Return hexadecimal checksums by file name, or None if `file` does not exist.

    Raises CheckpointError for anything else than a readable list, such as a folder or a broken link.
    """
    if not file.exists() and not file.is_symlink():
        return None
    if not file.is_file():
        raise CheckpointError(f"{file} is not a file, so nothing can be verified. Copy the folder again.")
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines()]
        return {name.removeprefix("*"): digest for digest, name in lines}  # *: mark of binary mode
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is not a list of SHA-256 checksums ({error}). Copy the folder again."
        ) from error


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
"""Direction of a scan in the code -> in the file names of its graphs."""

SHIPPED_CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
"""Folder of the checkpoints in the package."""

UNSHIPPED_SIZES = ("base", "large")
"""Sizes that exist only as configs, without trained weights."""


FILE_PATTERNS = (*CHECKSUM_PATTERNS, CHECKSUMS_FILE, CARD_FILE, EXPORT_FILE)
"""Patterns of all files of a checkpoint; no others are downloaded."""


def find_checkpoint(name: str | Path) -> Path:
    """Return the folder of a checkpoint: a shipped one ('nano'), a path, or user/name[@revision] on the Hub.

    A shipped name has priority over a path, and a path over a hub name; a Path is never a hub name. A model
    on the Hub is downloaded to the cache of huggingface_hub and verified.

    Raises CheckpointError if there is no such checkpoint, if it cannot be downloaded or if a file does not
    match its checksum; InputError if huggingface_hub is needed but not installed.
    """
    shipped, given = SHIPPED_CHECKPOINTS / str(name), Path(name)
    for folder in (shipped, given):
        if (folder / CONFIG_FILE).is_file():
            return folder
    hub_name = _as_hub_name(name)
    if hub_name is not None:
        return _find_hub_model(hub_name)
    if str(name) in UNSHIPPED_SIZES:
        raise CheckpointError(
            f"{name!r} is a model size without trained weights. Install the training dependencies "
            f"({TRAIN_INSTALL_COMMAND}), train the model, then give the folder of its checkpoint."
        )
    names = ", ".join(sorted(path.parent.name for path in SHIPPED_CHECKPOINTS.glob(f"*/{CONFIG_FILE}")))
    missing = f"has no {CONFIG_FILE}" if given.is_dir() else "is neither a shipped model nor a folder"
    raise CheckpointError(f"{name} {missing}. Give a checkpoint folder, or one of: {names}.")


def pin_checkpoint(name: str) -> str:
    """Return user/name@commit for a model on the Hub, and any other name unchanged.

    A branch can move while a run lasts; all processes of a run load the commit. Raises as `find_checkpoint`
    for a hub name.
    """
    return name if _as_hub_name(name) is None else hub_name_of(find_checkpoint(name)) or name


def with_revision(name: str | Path, revision: str | None) -> str | Path:
    """Return user/name@revision; return `name` unchanged if `revision` is None.

    Raises InputError if a revision is given for a model that is not on the Hub, or given twice.
    """
    if revision is None:
        return name
    hub_name = _as_hub_name(name)
    if hub_name is None or hub_name.revision is not None:
        raise InputError(
            f"The revision {revision!r} needs a model on the Hub without another revision, user/name; {name} "
            "is none."
        )
    return str(HubName(hub_name.repository, revision))


def _as_hub_name(name: str | Path) -> HubName | None:
    """Return a hub name; None for a Path, a shipped model and an existing file or folder."""
    if isinstance(name, Path) or (SHIPPED_CHECKPOINTS / name).exists() or Path(name).exists():
        return None
    return parse_hub_name(name)


def _find_hub_model(name: HubName) -> Path:
    """Return the folder of a model in the cache of huggingface_hub; download and verify it if needed."""
    folder = find_cached_model(name, FILE_PATTERNS)
    if folder is not None and _missing_files(folder) == []:
        return folder  # the files are verified when they are read
    folder = download_model(name, FILE_PATTERNS)
    missing = _missing_files(folder)
    if missing is None:
        raise CheckpointError(
            f"{name} on the Hub has no {CHECKSUMS_FILE}, so its files cannot be verified. Its owner can push "
            "it again with auscan.Checkpoint.push_to_hub."
        )
    recorded = _read_checksums(folder / CHECKSUMS_FILE) or {}
    wrong = [file for file, digest in _checksums(folder).items() if digest != recorded.get(file)]
    if missing or wrong:
        raise CheckpointError(
            f"{(missing + wrong)[0]} of {name} is {'missing' if missing else 'damaged or changed'}: it does "
            f"not match {CHECKSUMS_FILE} on the Hub. Delete {folder.parents[1]} to download it again; if "
            "that does not help, its owner must push it again."
        )
    return folder


def _missing_files(folder: Path) -> list[str] | None:
    """Return the names of model files that SHA256SUMS lists but the folder lacks; None without SHA256SUMS."""
    recorded = _read_checksums(folder / CHECKSUMS_FILE)
    if recorded is None:
        return None
    files = [file for file in recorded if any(fnmatch(file, pattern) for pattern in CHECKSUM_PATTERNS)]
    return [file for file in files if not (folder / file).is_file()]


def graph_names(config: CheckpointConfig) -> tuple[str, ...]:
    """Return the names of the graphs of a checkpoint; files are <name>.onnx.

    Format 1 has no opening.onnx, and only checkpoints with intensities have intensity.onnx.
    """
    blocks = range(config.network.temporal.blocks)
    scans = [scan_graph_name(block, direction) for block in blocks for direction in GRAPH_DIRECTIONS]
    optional = {"opening": config.format > 1, "intensity": config.network.intensity}
    return ("visual", "audio", "hear", *scans, "read", *(name for name, used in optional.items() if used))


def scan_graph_name(block: int, direction: str) -> str:
    """Return the name of the graph of one scan; direction: forward or backward."""
    return f"sweep_{block}_{GRAPH_DIRECTIONS[direction]}"


def has_graphs(folder: Path) -> bool:
    """Return whether a checkpoint folder contains ONNX graphs."""
    return any(folder.glob("*.onnx"))


def read_config(folder: Path) -> CheckpointConfig:
    """Read and validate config.json; the name of a model from the Hub is user/name@commit.

    Raises CheckpointError if the file is not JSON, has an unknown key, an invalid value or another format
    number, or does not match its checksum.
    """
    file = folder / CONFIG_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("kind") == "features":
            raise CheckpointError(
                f"{folder} is the output of auscan train, not a complete checkpoint. Create one with: "
                f"auscan pack {folder} --out FOLDER"
            )
        stored_format = content.get("format") if isinstance(content, dict) else None
        if stored_format not in range(1, CHECKPOINT_FORMAT + 1):
            raise CheckpointError(
                f"{file} has format {stored_format!r}; this version of auscan reads formats 1 to "
                f"{CHECKPOINT_FORMAT}. "
                f"Install the version of auscan that wrote it, or a newer one."
            )
        config = CheckpointConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{file} is not a valid checkpoint config: {location}: {first['msg']}. "
            f"Restore the file that came with the weights."
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also an integer too long
        raise CheckpointError(
            f"{file} cannot be read as JSON ({error}). Copy the checkpoint again."
        ) from error
    verify_checksums(folder, [CONFIG_FILE])
    hub_name = hub_name_of(folder)
    return config if hub_name is None else config.model_copy(update={"name": hub_name})
