"""Save and load the weights of a checkpoint folder, strictly and without unpickling.

Inputs: a network with its config and model card, or a folder. Returns: a folder, or the network and its
config.
See also: core/checkpoint_folder.py (layout, config and checksums of the folder).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from auscan.core.checkpoint_folder import (
    CARD_FILE,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    EXPORT_FILE,
    WEIGHTS_FILE,
    find_checkpoint,
    read_config,
    verify_checksums,
    write_checksums,
)
from auscan.core.config import CHECKPOINT_FORMAT, CheckpointConfig
from auscan.core.errors import CheckpointError
from auscan.model.migrate import from_format_1
from auscan.model.network import AuscanNetwork

SHOWN_NAMES = 3
"""Number of mismatched weights that an error message names."""


def save_checkpoint(folder: Path, network: AuscanNetwork, config: CheckpointConfig, card: str) -> None:
    """Write weights, config, model card and checksums, each file atomically.

    The network settings in `config` are replaced by those of `network`, its format by the current one. Graphs
    of earlier weights are deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.onnx"), folder / EXPORT_FILE, folder / CHECKSUMS_FILE):
        stale.unlink(missing_ok=True)
    config = config.model_copy(update={"network": network.config, "format": CHECKPOINT_FORMAT})
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS_FILE}.part")
    (folder / f"{WEIGHTS_FILE}.part").replace(folder / WEIGHTS_FILE)
    for name, text in ((CARD_FILE, card), (CONFIG_FILE, config.to_json())):
        (folder / f"{name}.part").write_text(text, encoding="utf-8")
        (folder / f"{name}.part").replace(folder / name)
    write_checksums(folder)


def load_checkpoint(checkpoint: str | Path) -> tuple[AuscanNetwork, CheckpointConfig]:
    """Load the network, in evaluation mode, and its config from a shipped name or a folder.

    Weights of format 1 are converted in memory (migrate.py).
    Raises CheckpointError if the folder or its config is missing or invalid, if a weight is missing, unknown
    or misshapen, or if a file does not match its checksum.
    """
    folder = find_checkpoint(checkpoint)
    config = read_config(folder)
    verify_checksums(folder, [WEIGHTS_FILE])
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} cannot be read ({error}). Copy the checkpoint again."
        ) from error
    network = _build(folder, config)
    if config.format == 1:
        weights = from_format_1(weights, network)
    _check(folder, {name: tuple(value.shape) for name, value in weights.items()}, network)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False), config


def _build(folder: Path, config: CheckpointConfig) -> AuscanNetwork:
    """Build the network without its weights; raise CheckpointError if its sizes do not fit together."""
    try:
        return AuscanNetwork(config.network)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} describes a network that cannot be built ({str(error)[:200]}). "
            f"Restore the config that belongs to the weights."
        ) from error


def _check(folder: Path, stored: dict[str, torch.Size | tuple[int, ...]], network: AuscanNetwork) -> None:
    """Raise CheckpointError unless the stored weights are the network's, name by name and shape by shape."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    mismatches = {
        "missing": [name for name in expected if name not in stored],
        "unknown": [name for name in stored if name not in expected],
        "misshapen": [name for name in expected if name in stored and stored[name] != expected[name]],
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:SHOWN_NAMES])}{', ...' if len(names) > SHOWN_NAMES else ''})"
        for kind, names in mismatches.items()
        if names
    ]
    if faults:
        raise CheckpointError(
            f"The weights in {folder} do not fit its {CONFIG_FILE}: {'; '.join(faults)}. "
            f"Config and weights must come from the same training run; copy the checkpoint again."
        )
