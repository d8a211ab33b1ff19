"""The folder of a training run: what is kept, and how a run that was killed finds its way back.

    config.json     the settings; a run goes on only with the same ones
    state.pt        where the run is: weights, running mean, optimiser, schedule, step
    log.jsonl       a line every few steps and one each epoch
    best/, last/    config.json and model.safetensors: a trained network, see `TrainedConfig`
    scores/         a Parquet a split, as training/scores.py has it

Everything is written whole or not at all. state.pt is read without unpickling anything but tensors.

In: a folder.  Out: files, and what is in them.
Not here: what the numbers mean (loop.py).
"""

import json
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from auscan.core.atomic_write import atomic_path
from auscan.core.aus import AU_NAMES
from auscan.core.checkpoint_folder import CONFIG_FILE, WEIGHTS_FILE
from auscan.core.config import NetworkConfig, Settings
from auscan.core.environment import VERSION
from auscan.core.errors import CheckpointError, InputError
from auscan.model.checkpoint import load_stored_weights, stored_weights
from auscan.training.config import ControlConfig, EncoderConfig, TrainConfig
from auscan.training.encoder import build_crop_encoder
from auscan.training.module import FeatureNetwork, FeatureSizes

STATE_FILE: Final = "state.pt"
LOG_FILE: Final = "log.jsonl"


class TrainedConfig(Settings):
    """What config.json of a trained network says."""

    model_config = ConfigDict(populate_by_name=True)

    format: Literal[1] = 1
    kind: Literal["features"] = "features"
    """No checkpoint that `auscan detect` reads: the audio encoder is not in it, nor, without `encoder`, the
    visual one; its input is their features."""
    au_names: tuple[str, ...] = AU_NAMES
    untrained_aus: tuple[str, ...] = Field(
        default=(), validation_alias="untaught", serialization_alias="untaught"
    )
    """AUs that no training label covered. Their scores are NaN, never a guess."""
    model: str
    """The size or checkpoint that the features came from."""
    encoders: str
    """Digest of those encoders: features of others are refused. Audio tokens come from them in any case."""
    sizes: FeatureSizes
    network: NetworkConfig
    """Without `encoder` its visual and audio part are the size's and not used."""
    controls: ControlConfig
    encoder: EncoderConfig | None = None
    """How the visual encoder learned; its weights are here then. None: from features."""
    step: int
    score: float | None
    """Mean F1 on the validation split at 0.5."""
    auscan_version: str = VERSION


def save_trained(folder: Path, network: FeatureNetwork, config: TrainedConfig) -> None:
    """Write weights, then settings."""
    with atomic_path(folder / WEIGHTS_FILE) as path:
        save_file(stored_weights(network), path)
    with atomic_path(folder / CONFIG_FILE) as path:
        path.write_text(config.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")


def load_trained(folder: Path) -> tuple[FeatureNetwork, TrainedConfig]:
    """A trained network in evaluation mode. Raises CheckpointError where the folder does not hold one."""
    try:
        config = TrainedConfig.model_validate_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        encoder = None
        if config.encoder is not None:
            encoder = build_crop_encoder(config.network.visual, config.sizes.grid, config.encoder)
        network = FeatureNetwork(config.sizes, config.network, config.controls, encoder=encoder)
        load_stored_weights(network, load_file(folder / WEIGHTS_FILE))
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} holds no network that auscan train wrote: {reason}.") from error
    return network.eval(), config


def find_trained(folder: Path) -> Path | None:
    """The folder of a trained network: this one, or `best` in a run's; None where there is none."""
    for candidate in (folder, folder / "best"):
        try:
            content = json.loads((candidate / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("kind") == "features":
            return candidate
    return None


class RunFolder:
    """The folder of one run."""

    def __init__(self, config: TrainConfig, creates: bool = True) -> None:
        """creates: whether this process, of several, makes the folder; the others find it made.

        Raises InputError where another run, with other settings, lives in the folder, or none does yet.
        """
        self.path = config.out
        self._config = config.model_dump_json(indent=2, exclude={"out"}) + "\n"
        file = self.path / CONFIG_FILE
        if file.exists():
            self._check_same_settings(file.read_text(encoding="utf-8"))
        elif not creates:
            raise InputError(
                f"{self.path} is not there for every process. All machines have to see one folder of a run."
            )
        else:
            with atomic_path(file) as path:
                path.write_text(self._config, encoding="utf-8")

    def _check_same_settings(self, written: str) -> None:
        before, now = _flatten(json.loads(written)), _flatten(json.loads(self._config))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            key = changed[0]
            raise InputError(
                f"{self.path} holds a run with other settings: {key} is {before.get(key)!r} there and "
                f"{now.get(key)!r} now. Give the new run another folder, or go on with the old settings."
            )

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep where the run is."""
        with atomic_path(self.path / STATE_FILE) as path:
            torch.save(state, path)

    def load_state(self) -> dict[str, Any] | None:
        """Where the run was; None for a fresh one."""
        file = self.path / STATE_FILE
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch names no common ancestor of what it raises here
            raise InputError(f"{file} cannot be read ({error}). Delete it to begin anew.") from error
        return state

    def log(self, **values: Any) -> None:
        """Add a line to the log."""
        with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def truncate_log(self, step: int) -> None:
        """Take back the lines logged after a step, which will be done again."""
        file = self.path / LOG_FILE
        if not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):  # cut off by the kill
                continue
        with atomic_path(file) as path:
            path.write_text("".join(kept), encoding="utf-8")


def _flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """{'data': {'length': 3}} -> {'data.length': 3}."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
