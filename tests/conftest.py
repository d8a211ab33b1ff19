"""Tiny networks and features for every layer above: random, a few thousand weights, every part has a say.

Torch is imported inside the fixtures, so that the tests of the layers below it start at once.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from auscan.core.config import (
    AlignmentConfig,
    CheckpointConfig,
    ConvVisualConfig,
    FusionConfig,
    LogMelAudioConfig,
    NetworkConfig,
    TemporalConfig,
)

if TYPE_CHECKING:
    from auscan.model.network import AuscanNetwork

# Read once, when transformers is first imported: no test may ask the hub, on any machine.
os.environ["HF_HUB_OFFLINE"] = "1"

TINY = NetworkConfig(
    visual=ConvVisualConfig(crop_size=32, widths=(8, 8, 16), blocks=(1, 1, 1)),
    audio=LogMelAudioConfig(mel_bands=16, width=12, blocks=2),
    alignment=AlignmentConfig(width=16, au_width=4, heads=2, active_patches=6),
    fusion=FusionConfig(heads=2),
    temporal=TemporalConfig(blocks=2, head_width=8, state_width=4),
)
UNTAUGHT = ("AU23",)


def _build(config: NetworkConfig = TINY, seed: int = 0) -> "AuscanNetwork":
    """A network in evaluation mode whose weights are all random, also those that start at zero."""
    import torch

    from auscan.model.network import AuscanNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AuscanNetwork(config)
        for weight in network.parameters():
            if not weight.any():
                weight.data = 0.3 * torch.randn(weight.shape)
        # Heads that are hardly turned and not covered, or no face of the tests would be judged.
        network.visual.sight.weight.data *= 0.3
        network.visual.sight.bias.data[2] = -4.0
    return network.eval()


@pytest.fixture(scope="session")
def tiny_config() -> NetworkConfig:
    return TINY


@pytest.fixture
def build_network() -> Callable[..., "AuscanNetwork"]:
    """build_network(config, seed) -> a network in which sound, time and every patch matter."""
    return _build


@pytest.fixture
def tiny_network() -> "AuscanNetwork":
    return _build()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny checkpoint that was never taught AU23; not to be written to."""
    from auscan.model.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    thresholds = tuple(np.linspace(0.3, 0.7, 12).tolist())
    config = CheckpointConfig(
        name="tiny",
        untaught=UNTAUGHT,
        sight=True,
        thresholds=thresholds,
        auscan_version="0.1.0",
        network=TINY,
    )
    save_checkpoint(folder, _build(), config, "# Tiny\n")
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The folder `auscan export` makes of it, float32; takes half a minute, not to be written to."""
    from auscan.inference.export import export

    folder = tmp_path_factory.mktemp("graphs") / "tiny"
    crops = np.random.default_rng(5).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    export(tiny_checkpoint, folder, crops)
    return folder


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders dinov2, registers and wavlm in it, as save_pretrained writes them: width 16, two layers."""
    import torch
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        WavLMConfig,
        WavLMModel,
    )

    folder = tmp_path_factory.mktemp("backbones")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sight = {**size, "mlp_ratio": 2, "image_size": 70, "patch_size": 14, "initializer_range": 0.2}
    hearing = {**size, "intermediate_size": 32, "conv_dim": (8,) * 7, "initializer_range": 0.2}
    hearing |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**sight)).save_pretrained(folder / "dinov2")
        registers = Dinov2WithRegistersConfig(num_register_tokens=3, **sight)
        Dinov2WithRegistersModel(registers).save_pretrained(folder / "registers")
        WavLMModel(WavLMConfig(**hearing)).save_pretrained(folder / "wavlm")
    return folder


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """[512, 512, 3] RGB: one smiling face, about 84 x 112 px, around x 226, y 119."""
    return np.asarray(astronaut(), dtype=np.uint8)


@pytest.fixture(scope="session")
def make_features() -> Callable[..., tuple[Path, Path]]:
    """make_features(folder, tracks=..., seed, holes) -> folders of an index and of its features."""
    spec = importlib.util.spec_from_file_location(
        "make_features", Path(__file__).parent / "training" / "make_features.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[..., tuple[Path, Path]] = module.make_features
    return make
