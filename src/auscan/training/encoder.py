"""Spoil crops a little, so that an encoder that learns does not learn the pictures by heart.

All frames of a window are spoilt alike, but for noise: a face that jumps from frame to frame would teach the
memory movements that no face makes. Chance comes from the generator alone, so a resumed run sees the same.

In: a batch with crops (windows.py).  Out: the same with other crops.
Not here: losing sound or the face for a while (windows.py).

The visual encoder as a part that learns: crops in, the same tokens as a cache of features holds out.

It begins with the weights that made the cache and learns with the rest of the network. It always runs as it
does at inference: running statistics of batch norm stay as they are (a window is one face many times over,
so its own statistics would be that face's), and DINOv2 drops nothing. So a step draws no random numbers here,
there are no statistics beside the weights, and the running mean of the weights needs none of its own.

In: crops [F, S, S, 3] uint8.  Out: face [F, Dv], patches [F, G * G, Dv].
Not here: the encoders (encoders/visual.py), augmenting the crops (below).
"""

from dataclasses import replace
from typing import Final, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
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
from auscan.training.windows import Batch

CHUNK_FRAMES: Final = 128
"""Crops that are encoded at a time; changes no result."""
SHIFT: Final = 0.04
"""Standard deviation of the shift, as a share of the side: a detector's points wander as much."""
SCALE: Final = 0.06
"""Of the logarithm of the scale."""
ROTATION_DEG: Final = 6.0
TONE: Final = 0.25
"""Of the logarithms of contrast and of gamma."""
BLUR_SHARE, NOISE_SHARE, OCCLUSION_SHARE = 0.25, 0.4, 0.3
"""How many windows are blurred, noisy, and have a part of the face covered."""


class CropEncoder(nn.Module):
    """A visual encoder of which the part learns that `config` names, its patches averaged to a grid."""

    def __init__(self, visual: ConvEncoder | Dinov2Encoder, grid: int, config: EncoderConfig) -> None:
        """Takes `visual` over. Raises InputError for blocks or additions that it does not have."""
        super().__init__()
        self.grid, self.learn = grid, config.learn
        visual.requires_grad_(config.learn == "all")
        if config.learn == "blocks":
            for block in _last_blocks(visual, config.blocks):
                block.requires_grad_(True)
        elif config.learn == "lora":
            _add_lora(visual, config.rank)
        # Convolutions on a CPU run faster with channels last.
        self.visual: ConvEncoder | Dinov2Encoder = visual
        self.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.visual.eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[F, S, S, 3] uint8 -> face [F, Dv], patches [F, G * G, Dv]."""
        chunks = [self.visual(chunk) for chunk in crops.split(CHUNK_FRAMES)]
        face, patches = (torch.cat(each) for each in zip(*chunks, strict=True))
        return face, pool_patches(patches, self.grid)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, see above; what has gradients learns all the same."""
        super().train(mode)
        self.visual.eval()
        return self


def build_crop_encoder(
    visual: ConvVisualConfig | Dinov2VisualConfig, grid: int, config: EncoderConfig
) -> CropEncoder:
    """An encoder of the same shape, whose weights are to be loaded."""
    return CropEncoder(build_visual_encoder(visual), grid, config)


def unwrap_encoder(encoder: CropEncoder) -> ConvEncoder | Dinov2Encoder:
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
        final_layers = [visual.pool, visual.norm_global, visual.norm_patches]
    else:
        blocks = list(visual.backbone.encoder.layer)
        final_layers = [visual.backbone.layernorm]
    if count > len(blocks):
        raise InputError(
            f"model.encoder.blocks is {count}, but the encoder has {len(blocks)}. Give fewer, or learn: all."
        )
    return [*blocks[-count:], *final_layers]


def _add_lora(visual: ConvEncoder | Dinov2Encoder, rank: int) -> None:
    """Put matrices of low rank beside DINOv2's, which stay as they are (LoRA, Hu et al. 2021)."""
    if not isinstance(visual, Dinov2Encoder):
        raise InputError("model.encoder.learn: lora is for DINOv2. Learn all or blocks of this encoder.")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise AuscanError(f"LoRA needs peft ({error}). Run: pip install 'auscan[train]'") from error
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    visual.backbone = inject_adapter_in_model(settings, visual.backbone)


def augment_crops(batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch with the crops of each window moved, mirrored, relit, covered, blurred and made noisy."""
    if batch.crops is None:
        return batch
    crops = batch.crops.numpy().copy()  # [B, T, S, S, 3]
    for window, has_face in zip(crops, batch.has_face.numpy(), strict=True):
        _augment_window(window, np.flatnonzero(has_face), rng)
    return replace(batch, crops=torch.from_numpy(crops))


def _augment_window(window: NDArray[np.uint8], rows: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Spoil some rows of [T, S, S, 3] in place."""
    side = window.shape[1]
    affine, tone_curve = _random_affine(side, rng), _random_tone_curve(rng)
    occlusion = _random_occlusion(side, rng) if rng.random() < OCCLUSION_SHARE else None
    blur = rng.uniform(0.4, 1.5) * side / 112 if rng.random() < BLUR_SHARE else 0.0
    noise = rng.uniform(1, 10) if rng.random() < NOISE_SHARE else 0.0
    for row in rows:
        image = cv2.warpAffine(window[row], affine, (side, side), borderMode=cv2.BORDER_REPLICATE)
        if occlusion is not None:
            region, colour = occlusion
            image[region] = colour
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        image = cv2.LUT(image, tone_curve)
        if noise:  # the same in all three channels, as faces are read in grey by nano
            noise_map = noise * rng.standard_normal((side, side, 1), np.float32)
            image = np.clip(image + noise_map, 0, 255).astype(np.uint8)
        window[row] = image


def _random_affine(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Turned and scaled about the middle, shifted, and every other time mirrored: [2, 3]."""
    middle = (side - 1) / 2
    affine = cv2.getRotationMatrix2D(
        (middle, middle), rng.normal(0, ROTATION_DEG), np.exp(rng.normal(0, SCALE))
    )
    affine[:, 2] += rng.normal(0, SHIFT * side, 2)
    if rng.random() < 0.5:  # no action unit knows left from right
        affine = np.array([[-1.0, 0.0, side - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([affine, [0.0, 0.0, 1.0]])
    return np.asarray(affine)


def _random_tone_curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """What becomes of each of the 256 shades: brightness, contrast and gamma."""
    gamma, contrast = np.exp(rng.normal(0, TONE, 2))
    shades = 255 * np.linspace(0, 1, 256) ** gamma
    shades = (shades - 128) * contrast + 128 + rng.normal(0, 20)
    return np.asarray(np.clip(shades, 0, 255), np.uint8)


def _random_occlusion(side: int, rng: np.random.Generator) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """A rectangle somewhere, up to 40 % of the side long, and its colour."""
    height, width = rng.integers(max(1, side // 10), max(2, side * 2 // 5), 2)
    top, left = (int(rng.integers(0, side - length + 1)) for length in (height, width))
    return np.s_[top : top + height, left : left + width], rng.integers(0, 256, 3).astype(np.uint8)
