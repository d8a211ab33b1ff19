"""Take the initial weights of a run from another run or from a checkpoint.

A checkpoint may have other AUs than the run: their weights are found by name, those of new AUs are new.

Inputs: the folder of a run, or a checkpoint; features. Returns: a network on features with its settings.
See also: build.py (model.start_from), finetune.py.
"""

from pathlib import Path

import torch
from torch import Tensor

from auscan.core.checkpoint_folder import find_checkpoint, read_config
from auscan.core.config import CheckpointConfig
from auscan.core.errors import CheckpointError
from auscan.datasets.cache import CacheHeader
from auscan.datasets.frozen_encoders import load_encoders
from auscan.model.checkpoint import load_checkpoint
from auscan.model.network import AuscanNetwork
from auscan.training.config import ControlConfig
from auscan.training.module import FeatureNetwork, FeatureSizes
from auscan.training.run import TrainedConfig

SEED = 0
"""Seed of the weights of new AUs."""


def is_checkpoint(source: Path) -> bool:
    """Return whether this is the name of a shipped checkpoint or the folder of a checkpoint."""
    if not source.is_dir() and len(source.parts) > 1:  # would be looked up on the Hub
        return False
    try:
        read_config(find_checkpoint(str(source)))
    except CheckpointError:
        return False
    return True


def read_checkpoint(source: Path, header: CacheHeader) -> tuple[FeatureNetwork, TrainedConfig]:
    """Return a checkpoint as a network of `auscan train`, with the digest of its own encoders."""
    network, trained = as_trained(*load_checkpoint(str(source)), header)
    encoders = load_encoders(str(source))
    return network, trained.model_copy(update={"model": encoders.name, "encoders": encoders.digest})


def as_trained(
    checkpoint: AuscanNetwork, config: CheckpointConfig, header: CacheHeader
) -> tuple[FeatureNetwork, TrainedConfig]:
    """Return the part of a checkpoint behind its encoders, as a network of `auscan train`.

    header: of a track's features by the encoders of the checkpoint
    It has no intensities, because labels of 1 and 0 would not keep theirs.
    """
    sizes = FeatureSizes.from_header(header)
    settings = checkpoint.config.model_copy(update={"intensity": False})
    network = FeatureNetwork(sizes, settings, ControlConfig(), view_frames=0)
    network.visual_mix.load_state_dict(checkpoint.visual.mix.state_dict())
    network.audio_mix.load_state_dict(checkpoint.audio_mix.state_dict())
    network.alignment.load_state_dict(checkpoint.visual.alignment.state_dict())
    weights = checkpoint.temporal.state_dict()
    network.temporal.load_state_dict(
        {name: weight for name, weight in weights.items() if not name.startswith("intensity_head.")}
    )
    trained = TrainedConfig(
        au_names=config.au_names,
        model=header.model,
        encoders=header.encoders,
        sizes=sizes,
        network=settings,
        controls=ControlConfig(),
        step=0,
        score=None,
    )
    return network.eval(), trained


def with_aus(
    network: FeatureNetwork, config: TrainedConfig, au_names: tuple[str, ...]
) -> tuple[FeatureNetwork, TrainedConfig]:
    """Return the network with other AUs: weights of those that it has, new weights for the others.

    Weights by which the embedding reads new AUs are 0, so that they change no logit of the others.
    """
    settings = config.network.model_copy(update={"au_names": au_names})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        changed = FeatureNetwork(config.sizes, settings, config.controls, view_frames=0)
    one_more = settings.model_copy(update={"au_names": (*au_names, "one more")})
    with torch.device("meta"):
        larger = FeatureNetwork(config.sizes, one_more, config.controls, view_frames=0).state_dict()
    old, weights = network.state_dict(), changed.state_dict()
    for name, weight in weights.items():
        weights[name] = select_aus(old[name], weight, larger[name].shape, config.au_names, au_names)
    changed.load_state_dict(weights)
    return changed.eval(), config.model_copy(update={"network": settings, "au_names": au_names})


def select_aus(
    old: Tensor, new: Tensor, larger: torch.Size, had: tuple[str, ...], au_names: tuple[str, ...]
) -> Tensor:
    """Return the weights `old` in the order of `au_names`, with the blocks of `new` for AUs that it had not.

    larger: shape for one more AU, which tells along which axis AUs follow each other; new columns are 0
    """
    axes = [axis for axis, length in enumerate(larger) if length != new.shape[axis]]
    if not axes:
        return old
    (axis,) = axes
    blocks = dict(zip(had, old.chunk(len(had), axis), strict=True))
    fresh = new.chunk(len(au_names), axis) if axis == 0 else torch.zeros_like(new).chunk(len(au_names), axis)
    return torch.cat([blocks.get(au, fresh[j]) for j, au in enumerate(au_names)], axis)
