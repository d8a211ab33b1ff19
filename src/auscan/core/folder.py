"""What a checkpoint folder looks like on disk, for every engine that reads one.

    config.json         CheckpointConfig: every question about the weights, answered
    model.safetensors   the weights
    README.md           the model card
    *.onnx              the stages as graphs, for ONNX Runtime; export.json says how they were made
    SHA256SUMS          what the files above were when they were written (sums.py)

Weights or graphs may be missing: the former are for PyTorch, the latter for ONNX Runtime.

In: a shipped name or a path.  Out: a folder, its validated config.
Not here: the weights (model/checkpoint.py).
"""

import json
from pathlib import Path

from pydantic import ValidationError

from auscan.core.config import CheckpointConfig
from auscan.core.errors import CheckpointError
from auscan.core.extras import INSTALL
from auscan.core.sums import check_sums

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
EXPORT_FILE = "export.json"

SHIPPED = Path(__file__).parents[1] / "checkpoints"
"""Checkpoints inside the package."""

SIZES = ("base", "large")
"""Sizes that exist only as settings: nobody has trained and shipped them."""


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a shipped checkpoint ('nano') or of a path to one.

    Raises CheckpointError where there is none.
    """
    shipped, given = SHIPPED / str(name), Path(name)
    for folder in (shipped, given):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if str(name) in SIZES:
        raise CheckpointError(
            f"{name!r} is a size to train, not a trained model. Install what training takes ({INSTALL}), "
            f"train it, then give the folder of its checkpoint."
        )
    names = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}")))
    missing = f"has no {CONFIG_FILE}" if given.is_dir() else "is neither a shipped model nor a folder"
    raise CheckpointError(f"{name} {missing}. Give a checkpoint folder, or one of: {names}.")


def graph_names(blocks: int) -> tuple[str, ...]:
    """Names of the graphs of a network with so many temporal blocks; each lies in <name>.onnx."""
    sweeps = [f"sweep_{block}_{direction}" for block in range(blocks) for direction in ("ahead", "back")]
    return ("visual", "audio", "hear", *sweeps, "read")


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
        written = content.get("format") if isinstance(content, dict) else None
        if written != 1:
            raise CheckpointError(
                f"{file} has format {written!r}; this version of auscan reads format 1. "
                f"Use the auscan that wrote it, or one newer than both."
            )
        config = CheckpointConfig.model_validate(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON ({error}). Copy the checkpoint again."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{file} is not a config of auscan: {where}: {first['msg']}. "
            f"Restore the file that came with the weights."
        ) from error
    check_sums(folder, [CONFIG_FILE])
    return config
