"""Save and load a folder of weights: strictly, and without ever unpickling.

In: a network with what must be known about it, or a folder.  Out: a folder, or the network it holds.
Not here: the folder's layout and its config (core/folder.py).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from auscan.core.checkpoint_folder import (
    CARD_FILE,
    CONFIG_FILE,
    EXPORT_FILE,
    SUMS_FILE,
    WEIGHTS_FILE,
    check_sums,
    find_checkpoint,
    read_config,
    write_sums,
)
from auscan.core.config import CheckpointConfig
from auscan.core.errors import CheckpointError
from auscan.model.network import AuscanNetwork

NAMED = 3
"""How many odd weights an error names."""


def save_checkpoint(folder: Path, network: AuscanNetwork, config: CheckpointConfig, card: str) -> None:
    """Write weights, config, model card and the record of their sums; each file is whole or not there.

    The settings of the network inside `config` are replaced by the network's own. Graphs of earlier weights
    are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.onnx"), folder / EXPORT_FILE, folder / SUMS_FILE):
        stale.unlink(missing_ok=True)
    config = config.model_copy(update={"network": network.config})
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS_FILE}.part")
    (folder / f"{WEIGHTS_FILE}.part").replace(folder / WEIGHTS_FILE)
    for name, text in ((CARD_FILE, card), (CONFIG_FILE, config.model_dump_json(indent=2) + "\n")):
        (folder / f"{name}.part").write_text(text, encoding="utf-8")
        (folder / f"{name}.part").replace(folder / name)
    write_sums(folder)


def load_checkpoint(checkpoint: str | Path) -> tuple[AuscanNetwork, CheckpointConfig]:
    """The network in evaluation mode, and its config, from a shipped name or a folder.

    Raises CheckpointError where the folder, its config or a single weight is missing, extra or misshapen, and
    where a file is not the recorded one.
    """
    folder = find_checkpoint(checkpoint)
    config = read_config(folder)
    check_sums(folder, [WEIGHTS_FILE])
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} cannot be read ({error}). Copy the checkpoint again."
        ) from error
    network = _build(folder, config)
    _check(folder, {name: tuple(value.shape) for name, value in weights.items()}, network)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False), config


def _build(folder: Path, config: CheckpointConfig) -> AuscanNetwork:
    """The network without its weights; CheckpointError where its sizes do not fit together."""
    try:
        return AuscanNetwork(config.network)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} describes no network that can be built ({str(error)[:200]}). "
            f"Restore the file that came with the weights."
        ) from error


def _check(folder: Path, stored: dict[str, torch.Size | tuple[int, ...]], network: AuscanNetwork) -> None:
    """Raise CheckpointError unless the stored weights are the network's, name by name and shape by shape."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    odd = {
        "missing": [name for name in wanted if name not in stored],
        "unknown": [name for name in stored if name not in wanted],
        "misshapen": [name for name in wanted if name in stored and stored[name] != wanted[name]],
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
        for kind, names in odd.items()
        if names
    ]
    if faults:
        raise CheckpointError(
            f"The weights in {folder} do not fit its {CONFIG_FILE}: {'; '.join(faults)}. "
            f"Config and weights must come from the same training run; copy the checkpoint again."
        )
