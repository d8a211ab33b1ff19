"""The visual encoder as a part that learns: crops in, the same tokens as a cache of features holds out.

It begins with the weights that made the cache and learns with the rest of the network. It always runs as it
does at inference: running statistics of batch norm stay as they are (a window is one face many times over,
so its own statistics would be that face's), and DINOv2 drops nothing. So a step draws no random numbers here,
there are no statistics beside the weights, and the running mean of the weights needs none of its own.

In: crops [F, S, S, 3] uint8.  Out: face [F, Dv], patches [F, G * G, Dv].
Not here: the encoders (encoders/visual.py), spoiling the crops (augment.py).
"""

from typing import Final, Self

import torch
from torch import Tensor, nn

from auscan.core.config import ConvVisualConfig, Dinov2VisualConfig
from auscan.core.errors import AuscanError, InputError
from auscan.encoders.visual import (
    ConvEncoder,
    Dinov2Encoder,
    ResidualBlock,
    build_visual_encoder,
    pool_patches,
)
from auscan.training.config import EncoderConfig

FRAMES_AT_ONCE: Final = 128
"""Crops that are encoded at a time; changes no result."""


class CropEncoder(nn.Module):
    """A visual encoder of which the part learns that `config` names, its patches averaged to a grid."""

    def __init__(self, visual: ConvEncoder | Dinov2Encoder, grid: int, config: EncoderConfig) -> None:
        """Takes `visual` over. Raises InputError for blocks or additions that it does not have."""
        super().__init__()
        self.grid, self.learn = grid, config.learn
        visual.requires_grad_(config.learn == "all")
        if config.learn == "blocks":
            for part in _last_blocks(visual, config.blocks):
                part.requires_grad_(True)
        elif config.learn == "lora":
            _add_low_rank(visual, config.rank)
        # Convolutions on a CPU run faster with channels last.
        self.visual: ConvEncoder | Dinov2Encoder = visual
        self.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.visual.eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[F, S, S, 3] uint8 -> face [F, Dv], patches [F, G * G, Dv]."""
        parts = [self.visual(part) for part in crops.split(FRAMES_AT_ONCE)]
        face, patches = (torch.cat(each) for each in zip(*parts, strict=True))
        return face, pool_patches(patches, self.grid)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, see above; what has gradients learns all the same."""
        super().train(mode)
        self.visual.eval()
        return self


def rebuild_encoder(
    visual: ConvVisualConfig | Dinov2VisualConfig, grid: int, config: EncoderConfig
) -> CropEncoder:
    """An encoder of the same shape, whose weights are to be loaded."""
    return CropEncoder(build_visual_encoder(visual), grid, config)


def learned_encoder(encoder: CropEncoder) -> ConvEncoder | Dinov2Encoder:
    """The encoder by itself, with low-rank additions added into its matrices; takes `encoder` apart."""
    if encoder.learn == "lora":
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(encoder.visual.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                encoder.visual.set_submodule(name, layer.get_base_layer())
    return encoder.visual.requires_grad_(False)


def _last_blocks(visual: ConvEncoder | Dinov2Encoder, count: int) -> list[nn.Module]:
    """The last blocks, and what comes after them."""
    if isinstance(visual, ConvEncoder):
        blocks = [layer for layer in visual.layers if isinstance(layer, ResidualBlock)]
        after = [visual.pool, visual.norm_global, visual.norm_patches]
    else:
        blocks = list(visual.backbone.encoder.layer)
        after = [visual.backbone.layernorm]
    if count > len(blocks):
        raise InputError(
            f"model.encoder.blocks is {count}, but the encoder has {len(blocks)}. Give fewer, or learn: all."
        )
    return [*blocks[-count:], *after]


def _add_low_rank(visual: ConvEncoder | Dinov2Encoder, rank: int) -> None:
    """Put matrices of low rank beside DINOv2's, which stay as they are (LoRA, Hu et al. 2021)."""
    if not isinstance(visual, Dinov2Encoder):
        raise InputError("model.encoder.learn: lora is for DINOv2. Learn all or blocks of this encoder.")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise AuscanError(f"LoRA needs peft ({error}). Run: pip install 'auscan[train]'") from error
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    visual.backbone = inject_adapter_in_model(settings, visual.backbone)
