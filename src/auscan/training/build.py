"""Build what a training run needs before its first step: data, network, optimiser, schedule and losses.

Inputs: a `TrainConfig`. Returns: `TrainingData` and `TrainingModules`.
See also: loop.py (the steps of a run), tracks.py (tracks), windows.py (windows), module.py (network).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from auscan.core.config import NetworkConfig
from auscan.core.errors import AuscanError, InputError
from auscan.datasets.frozen_encoders import Encoders
from auscan.datasets.index import Index, read_index
from auscan.model.alignment import GranularityAlignment
from auscan.training.config import ControlConfig, LoopConfig, ModelConfig, TrainConfig
from auscan.training.controls import parameter_count
from auscan.training.encoder import CropEncoder
from auscan.training.find_encoders import find_encoders
from auscan.training.losses import Criterion, positive_weights
from auscan.training.module import (
    FeatureNetwork,
    FeatureSizes,
    build_network,
    network_config,
)
from auscan.training.optim import (
    WeightAverage,
    allow_tf32,
    parameter_groups,
    warmup_cosine,
    with_separate_rate,
)
from auscan.training.run import TrainedConfig, find_trained, load_trained
from auscan.training.start import is_checkpoint, read_checkpoint, with_aus
from auscan.training.tracks import (
    LabelledTrack,
    check_features_from,
    check_same_encoders,
    load_tracks,
    sample_audio,
    smallest_enlarged,
    split_tracks,
)
from auscan.training.windows import Window, training_windows

Reporter = Callable[[str], None]
"""Function that receives progress lines for people."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Tracks and windows of a run, and the encoders that it fine-tunes."""

    index: Index
    au_names: tuple[str, ...]
    """[A] AUs to train: columns of all labels and outputs of the network."""
    training: list[LabelledTrack]
    validation: list[LabelledTrack]
    windows: list[Window]
    """Windows of the training tracks."""
    initial: Encoders | None
    """Initial weights of a fine-tuned encoder; None: train on features."""
    sizes: FeatureSizes

    @property
    def crop_size(self) -> int | None:
        """Return the side of the crops in pixels; None: train on features."""
        return None if self.initial is None else self.initial.crop_size

    @property
    def window_sources(self) -> list[str]:
        """Return the source video of each window."""
        return [self.training[window.track].source_video for window in self.windows]

    @cached_property
    def untrained_aus(self) -> tuple[str, ...]:
        """AUs without any training label."""
        labelled = np.any([(track.labels >= 0).any(axis=0) for track in self.training], axis=0)  # [A]
        return tuple(name for name, known in zip(self.au_names, labelled, strict=True) if not known)

    @cached_property
    def untrained_intensities(self) -> tuple[str, ...]:
        """AUs without any known training intensity."""
        known = np.any([~np.isnan(track.intensities).all(axis=0) for track in self.training], axis=0)  # [A]
        return tuple(name for name, any_known in zip(self.au_names, known, strict=True) if not any_known)

    def trains_intensities(self, config: TrainConfig) -> bool:
        """Whether the network has intensities: an AU has known ones, and their loss is in use."""
        return config.loss.intensity > 0 and len(self.untrained_intensities) < len(self.au_names)

    def labels(self) -> NDArray[np.int8]:
        """Return the labels [F, A] of all training frames that have a crop."""
        return np.concatenate([track.labels[track.features.has_image] for track in self.training])

    def score_tracks(self, config: TrainConfig, split: str) -> list[LabelledTrack]:
        """Load the tracks of a further split to score. Raises InputError for features of other encoders."""
        tracks = load_tracks(self.index, config.data.cache, [split], self.crop_size, self.au_names)
        for track in tracks:
            check_same_encoders(track, self.training[0])
        return tracks


def load_data(config: TrainConfig, report: Reporter) -> TrainingData:
    """Load the tracks of a run and cut them into windows.

    Raises InputError for data that does not fit.
    """
    index, encoder = read_index(config.data.index), config.model.encoder
    au_names = _trained_aus(config, index)
    initial = None if encoder is None else find_encoders(encoder.start, encoder.visual, encoder.audio)
    crop_size = None if initial is None else initial.crop_size
    training, validation = split_tracks(index, au_names, config.data, config.seed, crop_size, report)
    for track in (*training, *validation):
        check_same_encoders(track, training[0])
    if initial is not None:
        check_features_from(initial, training[0])
    sizes = FeatureSizes.from_header(training[0].features.header)
    windows = training_windows(training, config.data)
    return TrainingData(index, au_names, training, validation, windows, initial, sizes)


def _trained_aus(config: TrainConfig, index: Index) -> tuple[str, ...]:
    """Return the AUs of a run. Raises InputError for an AU that none of its data sets has."""
    own = index.au_names
    if config.data.au_names is None:
        return own
    known = {*own, *(name for further in config.data.more for name in read_index(further.index).au_names)}
    unknown = [name for name in config.data.au_names if name not in known]
    if unknown:
        raise InputError(
            f"data.au_names: no index of this run has {', '.join(unknown)}. They have "
            f"{', '.join(sorted(known))}."
        )
    return config.data.au_names


def initial_trained_config(config: TrainConfig, data: TrainingData) -> TrainedConfig:
    """Return the settings that are stored with the networks of a run, before its first step."""
    header = data.training[0].features.header
    return TrainedConfig(
        untrained_aus=data.untrained_aus,
        untrained_intensities=data.untrained_intensities if data.trains_intensities(config) else (),
        model=header.model,
        encoders=header.encoders,
        sizes=data.sizes,
        network=_network_config(config, data),
        controls=config.model.controls,
        encoder=config.model.encoder,
        enlarged_from=smallest_enlarged(data.training),
        step=0,
        score=None,
    )


@dataclass(frozen=True, eq=False)
class TrainingModules:
    """What a step of training uses and changes."""

    network: Any
    """`FeatureNetwork`, wrapped by accelerate."""
    averaged: WeightAverage
    optimizer: Any
    """AdamW, wrapped by accelerate."""
    schedule: LambdaLR
    criterion: Criterion


def build_modules(
    config: TrainConfig, data: TrainingData, accelerator: Any, total_steps: int, report: Reporter
) -> TrainingModules:
    """Build the network, moving average, optimiser, schedule and losses; random weights from the seed."""
    torch.manual_seed(config.seed)
    encoder_config, encoder = config.model.encoder, None
    if encoder_config is not None and data.initial is not None:
        encoder = CropEncoder(data.initial.visual, data.sizes.grid, encoder_config)
    view_frames = config.loss.alignment_frames if config.loss.alignment else 0
    outputs = data.au_names, data.trains_intensities(config)
    network = build_network(data.sizes, config.model, view_frames, encoder, *outputs)
    report(parameter_table(network, data.sizes, config.model))
    if config.model.start_from is None:
        with torch.no_grad():
            samples = torch.cat([network.audio_mix(each) for each in sample_audio(data.training)])
        network.temporal.norm_audio.fit(samples)
    else:  # with its statistics of the audio, which belong to its weights
        _load_initial_weights(network, config.model.start_from, data)
        report(f"starting from the weights of {config.model.start_from}")
    averaged = WeightAverage(network, config.optimizer.average, accelerator.device)
    optimizer = torch.optim.AdamW(_parameter_groups(config, network), lr=config.optimizer.rate)
    prepared_network, prepared_optimizer = accelerator.prepare(network, optimizer)
    warmup = round(config.optimizer.warmup * total_steps)
    schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total_steps))
    weights = _positive_weights(config, data).to(accelerator.device)
    criterion = Criterion(config.loss, weights, data.au_names)
    return TrainingModules(prepared_network, averaged, prepared_optimizer, schedule, criterion)


def build_accelerator(config: TrainConfig) -> Any:
    """Return accelerate's `Accelerator` for the settings; allows TF32.

    Raises AuscanError if accelerate is not installed.
    """
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise AuscanError(f"Training needs accelerate ({error}). Run: pip install 'auscan[train]'") from error
    allow_tf32()
    # In a batch without audio the fusion and audio-condition weights have no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=config.loop.device == "cpu",
        mixed_precision=mixed_precision(config.loop),
        gradient_accumulation_steps=config.loop.accumulate,
        kwargs_handlers=[unused],
    )


def mixed_precision(loop: LoopConfig) -> Literal["no", "bf16", "fp16"]:
    """Return the precision of a run: auto is bf16 on a GPU that computes it, and float32 elsewhere."""
    if loop.precision != "auto":
        return loop.precision
    on_gpu = loop.device == "auto" and torch.cuda.is_available()
    return "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "no"


def parameter_table(network: FeatureNetwork, sizes: FeatureSizes, model: ModelConfig) -> str:
    """Return a table, as text, of the number of weights of each part, with and without controls.

    The last line states how many patches of a frame are active, k of N.
    """
    with torch.device("meta"):
        config = model.network().model_copy(update={"au_names": network.au_names})
        plain = FeatureNetwork(sizes, config, ControlConfig())
    lines = ["weights      this run     the method"]
    mixes = [name for name in ("visual_mix", "audio_mix") if parameter_count(network.get_submodule(name))]
    for name in (*mixes, "alignment", "temporal.fusion", "temporal.memory", "temporal.head"):
        count, plain_count = (parameter_count(each.get_submodule(name)) for each in (network, plain))
        lines.append(f"{name.rpartition('.')[2]:10} {count:10,} {plain_count:14,}")
    in_encoder = 0 if network.encoder is None else parameter_count(network.encoder)
    total = parameter_count(network) - in_encoder
    lines.append(f"{'total':10} {total:10,} {parameter_count(plain):14,}")
    if network.encoder is not None:
        trained = sum(weight.numel() for weight in network.encoder.parameters() if weight.requires_grad)
        lines.append(f"{'encoder':10} {trained:10,} of {in_encoder:,} are trained")
    grid = f"N = {sizes.grid**2} patches ({sizes.grid} x {sizes.grid})"
    if isinstance(network.alignment, GranularityAlignment):
        lines.append(f"k = {network.alignment.active} of {grid} are active")
    else:
        lines.append(f"k = 0 of {grid} are active: the face token alone is used")
    return "\n".join(lines)


def _network_config(config: TrainConfig, data: TrainingData) -> NetworkConfig:
    """Return the settings of the network; a fine-tuning run has those of its initial encoders."""
    network = network_config(data.sizes, config.model, data.au_names, data.trains_intensities(config))
    if data.initial is None:
        return network
    encoders = data.initial.config
    return network.model_copy(update={"visual": encoders.visual, "audio": encoders.audio})


def _load_initial_weights(network: FeatureNetwork, folder: Path, data: TrainingData) -> None:
    """Load the weights of another run or of a checkpoint, whose AUs are matched by name.

    Raises InputError unless names, shapes and encoders are the same.
    """
    header = data.training[0].features.header
    if find_trained(folder) is None and is_checkpoint(folder):
        trained, trained_config = read_checkpoint(folder, header)
        trained, trained_config = with_aus(trained, trained_config, data.au_names)
    else:
        trained, trained_config = load_trained(find_trained(folder) or folder)
    if trained_config.encoders != header.encoders:
        raise InputError(
            f"model.start_from: {folder} was trained on features of {trained_config.model}, not on those of "
            f"{header.model} in this run. Run auscan extract with the same encoders for both."
        )
    if trained.au_names != data.au_names:
        raise InputError(
            f"model.start_from: the network of {folder} has the AUs {', '.join(trained.au_names)}, but this "
            f"run trains {', '.join(data.au_names)}. Set data.au_names to those of {folder}."
        )
    weights = trained.state_dict()
    shapes, expected = (
        {name: tuple(weight.shape) for name, weight in each.items()}
        for each in (weights, network.state_dict())
    )
    if shapes != expected:
        name = min(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
        raise InputError(
            f"model.start_from: the network of {folder} does not fit this run: {name} is "
            f"{shapes.get(name, 'absent')} there and {expected.get(name, 'absent')} here. Use the same "
            "model settings and the same --grid in both runs."
        )
    network.load_state_dict(weights)


def _parameter_groups(config: TrainConfig, network: FeatureNetwork) -> list[dict[str, Any]]:
    """Return the optimiser's groups of weights; those of a fine-tuned encoder have their own rate."""
    groups = parameter_groups(network, config.optimizer.weight_decay)
    if config.model.encoder is None or network.encoder is None:
        return groups
    encoder_rate = config.optimizer.rate * config.model.encoder.rate_factor
    return with_separate_rate(groups, network.encoder, encoder_rate)


def _positive_weights(config: TrainConfig, data: TrainingData) -> Tensor:
    """Return the weights [A] of positives from the labels of the training frames."""
    labels = data.labels()
    positives, negatives = (torch.from_numpy((labels == value).sum(0)) for value in (1, 0))
    return positive_weights(positives, negatives, config.loss.positive_cap)
