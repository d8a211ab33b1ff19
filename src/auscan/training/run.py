"""Read and write the folder of a training run, so that an interrupted run can resume.

    config.json     the settings; a run resumes only with the same settings
    state.pt        progress: weights, averaged weights, optimiser, schedule, step
    log.jsonl       a line every few steps and one each epoch
    best/, last/    config.json and model.safetensors: a trained network, see `TrainedConfig`
    scores/         a Parquet file per split, see training/scores.py

Files are written atomically. state.pt is read with `weights_only=True`, which unpickles only tensors and
plain values.

See also: loop.py (meaning of the state).
"""

import json
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import CONFIG_FILE, WEIGHTS_FILE
from auscan.core.config import CHECKPOINT_FORMAT, NetworkConfig, Settings
from auscan.core.environment import VERSION, atomic_path
from auscan.core.errors import CheckpointError, InputError
from auscan.model.migrate import from_format_1
from auscan.training.config import ControlConfig, EncoderConfig, TrainConfig
from auscan.training.encoder import build_crop_encoder
from auscan.training.module import FeatureNetwork, FeatureSizes

STATE_FILE: Final = "state.pt"
LOG_FILE: Final = "log.jsonl"


class TrainedConfig(Settings):
    """Content of config.json of a trained network."""

    model_config = ConfigDict(populate_by_name=True)

    format: Literal[1, 2] = CHECKPOINT_FORMAT
    kind: Literal["features"] = "features"
    """Not a checkpoint for `auscan detect`: the audio encoder is missing and, without `encoder`, the visual
    one. The inputs are the features of these encoders."""
    au_names: tuple[str, ...] = ()
    """AU of each output, in order: those of the network, which has them from here when it is read."""
    untrained_aus: tuple[str, ...] = Field(
        default=(), validation_alias="untaught", serialization_alias="untaught"
    )
    """AUs without any training label. Their scores are NaN."""
    untrained_intensities: tuple[str, ...] = ()
    """AUs without any training intensity, for a network with intensities. Theirs are NaN."""
    model: str
    """Size or checkpoint whose encoders made the features."""
    encoders: str
    """Digest of those encoders; features of other encoders are refused. Audio tokens always come from
    them."""
    sizes: FeatureSizes
    network: NetworkConfig
    """Network settings. Without `encoder` the visual and audio settings are those of the size and are not
    used."""
    controls: ControlConfig
    encoder: EncoderConfig | None = None
    """How the visual encoder was fine-tuned; its weights are then stored here. None: trained on features."""
    enlarged_from: int | None = None
    """Side in pixels of the smallest picture that was enlarged to a crop; None if none or not known."""
    step: int
    score: float | None
    """Mean F1 on the validation split at 0.5."""
    auscan_version: str = VERSION

    @model_validator(mode="before")
    @classmethod
    def _join_au_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Copy the AUs from the file to the network, or from a network to the file."""
        network, names = values.get("network"), values.get("au_names", AFFWILD2_AUS)
        if isinstance(network, NetworkConfig):
            return {**values, "au_names": network.au_names}
        if isinstance(network, dict):
            network = {**network, "au_names": names}
        return {**values, "au_names": names, "network": network}


def save_trained(folder: Path, network: FeatureNetwork, config: TrainedConfig) -> None:
    """Write the weights, then the settings."""
    with atomic_path(folder / WEIGHTS_FILE) as path:
        save_file({name: value.cpu().contiguous() for name, value in network.state_dict().items()}, path)
    with atomic_path(folder / CONFIG_FILE) as path:
        path.write_text(config.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")


def load_trained(folder: Path) -> tuple[FeatureNetwork, TrainedConfig]:
    """Load a trained network in evaluation mode. Raises CheckpointError if the folder has none."""
    try:
        config = TrainedConfig.model_validate_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        encoder = None
        if config.encoder is not None:
            encoder = build_crop_encoder(config.network.visual, config.sizes.grid, config.encoder)
        network = FeatureNetwork(config.sizes, config.network, config.controls, encoder=encoder)
        weights = load_file(folder / WEIGHTS_FILE)
        network.load_state_dict(from_format_1(weights, network) if config.format == 1 else weights)
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder} does not contain a network written by auscan train: {reason}."
        ) from error
    return network.eval(), config


def find_trained(folder: Path) -> Path | None:
    """Return the folder of a trained network: `folder` itself or its `best`; None if neither is one."""
    for candidate in (folder, folder / "best"):
        try:
            content = json.loads((candidate / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("kind") == "features":
            return candidate
    return None


class RunFolder:
    """Folder of one run."""

    def __init__(self, config: TrainConfig, creates: bool = True) -> None:
        """creates: whether this process, of several, creates the folder; the others require it to exist.

        Raises InputError if the folder contains a run with other settings, or does not exist for this
        process.
        """
        self.path = config.out
        self._config = config.model_dump_json(indent=2, exclude={"out"}) + "\n"
        file = self.path / CONFIG_FILE
        if file.exists():
            self._check_same_settings(file.read_text(encoding="utf-8"))
        elif not creates:
            raise InputError(
                f"{self.path} does not exist for every process. All machines must share the folder of a run."
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
                f"{self.path} contains a run with other settings: {key} is {before.get(key)!r} there and "
                f"{now.get(key)!r} now. Set another folder for the new run, or resume with the old settings."
            )

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the state of the run."""
        with atomic_path(self.path / STATE_FILE) as path:
            torch.save(state, path)

    def load_state(self) -> dict[str, Any] | None:
        """Return the saved state, or None for a new run."""
        file = self.path / STATE_FILE
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the errors of torch.load have no common base class
            raise InputError(
                f"{file} cannot be read ({error}). Delete it to restart the run from the beginning."
            ) from error
        return state

    def log(self, **values: Any) -> None:
        """Append a line to the log."""
        with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def truncate_log(self, step: int) -> None:
        """Remove the log lines after a step, because those steps will be repeated."""
        file = self.path / LOG_FILE
        if not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):  # a line truncated when the run was killed
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
