"""Fine-tune the visual encoder on augmented crops.

The encoder starts with the weights that made the feature cache and is trained with the rest of the network.
It always runs in evaluation mode, as at inference: the running statistics of batch norm stay fixed (a window
shows one face many times, so batch statistics would be those of that face), and transformers have no dropout
there. A step therefore draws no random numbers here, the weights are the only state, and the moving average
of the weights needs no statistics of its own.

All frames of a window are augmented in the same way, except for noise: a face that jumps from frame to frame
would show the temporal model motion that no face has. Random numbers come from the given generator only, so a
resumed run sees the same crops.

Inputs: crops [F, S, S, 3] uint8, or a batch with crops (windows.py).
Returns: face [F, Dv] and patches [F, G * G, Dv], the tokens that a cache of features contains; or a batch
with augmented crops.
See also: encoders/visual.py (the encoders), epoch.py (modality dropout).
"""

from dataclasses import replace
from typing import Final, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auscan.core.config import VisualConfig
from auscan.core.errors import AuscanError, InputError
from auscan.encoders.visual import (
    ConvEncoder,
    HubVisualEncoder,
    ResidualBlock,
    SeveralVisualEncoder,
    VisualEncoder,
    build_visual_encoder,
    pool_patches,
)
from auscan.training.config import EncoderConfig
from auscan.training.windows import Batch

CHUNK_FRAMES: Final = 128
"""Crops that are encoded in one call; does not change results."""
SHIFT: Final = 0.04
"""Standard deviation of the shift, as a share of the side; a detector's points vary as much."""
SCALE: Final = 0.06
"""Standard deviation of the logarithm of the scale."""
ROTATION_DEG: Final = 6.0
TONE: Final = 0.25
"""Standard deviation of the logarithms of contrast and of gamma."""
BLUR_SHARE, NOISE_SHARE, OCCLUSION_SHARE = 0.25, 0.4, 0.3
"""Shares of windows with blur, with noise, and with a part of the face covered."""


class CropEncoder(nn.Module):
    """Visual encoder with the trainable part selected by `config`; patches are averaged to a grid."""

    def __init__(self, visual: VisualEncoder, grid: int, config: EncoderConfig) -> None:
        """Modify and keep `visual`. Raises InputError if it has too few blocks or does not support LoRA."""
        super().__init__()
        self.grid, self.learn = grid, config.learn
        visual.requires_grad_(config.learn == "all")
        if config.learn == "blocks":
            for block in _last_blocks(visual, config.blocks):
                block.requires_grad_(True)
        elif config.learn == "lora":
            _add_lora(visual, config.rank)
        self._recomputed = _recomputable_blocks(visual) if config.recompute else []
        # On a CPU convolutions run faster with channels last.
        self.visual: VisualEncoder = visual
        self.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.visual.eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[F, S, S, 3] uint8 -> face [F, Dv], patches [F, G * G, Dv]."""
        chunks = [self.visual(chunk) for chunk in crops.split(CHUNK_FRAMES)]
        face, patches = (torch.cat(each) for each in zip(*chunks, strict=True))
        return face, pool_patches(patches, self.grid)

    def train(self, mode: bool = True) -> Self:
        """Keep the encoder in evaluation mode (see above); its weights are trained all the same."""
        super().train(mode)
        self.visual.eval()
        for block in self._recomputed:  # only the block's own flag: its layers stay in evaluation mode
            block.training = mode
        return self


def build_crop_encoder(visual: VisualConfig, grid: int, config: EncoderConfig) -> CropEncoder:
    """Build an encoder of the same shape, whose weights are to be loaded."""
    return CropEncoder(build_visual_encoder(visual), grid, config)


def unwrap_encoder(encoder: CropEncoder) -> VisualEncoder:
    """Return the encoder alone, with low-rank adapters merged into its matrices. Modifies `encoder`."""
    if encoder.learn == "lora":
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(encoder.visual.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                encoder.visual.set_submodule(name, layer.get_base_layer())
    return encoder.visual.requires_grad_(False)


def _last_blocks(visual: VisualEncoder, count: int) -> list[nn.Module]:
    """Return the last `count` blocks and the layers after them; of several encoders, those of each."""
    if isinstance(visual, SeveralVisualEncoder):
        return [layer for member in visual.encoders for layer in _last_blocks(member, count)]
    if isinstance(visual, ConvEncoder):
        blocks: list[nn.Module] = [layer for layer in visual.layers if isinstance(layer, ResidualBlock)]
        final_layers: list[nn.Module] = [visual.pool, visual.norm_global, visual.norm_patches]
    else:
        blocks = list(visual.blocks)
        final_layers = visual.final_layers
    if count > len(blocks):
        raise InputError(
            f"model.encoder.blocks is {count}, but the encoder has {len(blocks)}. Use fewer, or learn: all."
        )
    return [*blocks[-count:], *final_layers]


def _recomputable_blocks(visual: VisualEncoder) -> list[nn.Module]:
    """Switch on gradient checkpointing, and return the blocks that apply it if they are in training mode."""
    blocks: list[nn.Module] = []
    for member in visual.encoders if isinstance(visual, SeveralVisualEncoder) else [visual]:
        if not isinstance(member, HubVisualEncoder):
            raise InputError(
                "model.encoder.recompute supports encoders from transformers only, such as DINOv2. Omit it."
            )
        # transformers renamed it in the course of version 5.
        old = "gradient_checkpointing_enable"
        enable = getattr(member.backbone, "activation_checkpointing_enable", None)
        (enable or getattr(member.backbone, old))({"use_reentrant": False})
        blocks += member.blocks
    return blocks


def _add_lora(visual: VisualEncoder, rank: int) -> None:
    """Add low-rank adapters to the matrices of a transformer, which stay fixed (LoRA, Hu et al. 2021)."""
    if isinstance(visual, ConvEncoder):
        raise InputError(
            "model.encoder.learn: lora supports encoders from transformers only, such as DINOv2. Use learn: "
            "all or learn: blocks."
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise AuscanError(f"LoRA needs peft ({error}). Run: pip install 'auscan[train]'") from error
    for encoder in visual.encoders if isinstance(visual, SeveralVisualEncoder) else [visual]:
        settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        encoder.backbone = inject_adapter_in_model(settings, encoder.backbone)


def augment_crops(batch: Batch, rng: np.random.Generator) -> Batch:
    """Augment the crops of each window: affine map, mirroring, occlusion, blur, tone curve and noise."""
    if batch.crops is None:
        return batch
    crops = batch.crops.numpy().copy()  # [B, T, S, S, 3]
    for window, has_face in zip(crops, batch.has_face.numpy(), strict=True):
        _augment_window(window, np.flatnonzero(has_face), rng)
    return replace(batch, crops=torch.from_numpy(crops))


def _augment_window(window: NDArray[np.uint8], rows: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Augment the given rows of [T, S, S, 3] in place."""
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
        if noise:  # equal in all three channels, as the nano encoder converts to grey
            noise_map = noise * rng.standard_normal((side, side, 1), np.float32)
            image = np.clip(image + noise_map, 0, 255).astype(np.uint8)
        window[row] = image


def _random_affine(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an affine map [2, 3]: rotation and scale about the centre, shift, mirrored half of the time."""
    middle = (side - 1) / 2
    affine = cv2.getRotationMatrix2D(
        (middle, middle), rng.normal(0, ROTATION_DEG), np.exp(rng.normal(0, SCALE))
    )
    affine[:, 2] += rng.normal(0, SHIFT * side, 2)
    if rng.random() < 0.5:  # action units have no side
        affine = np.array([[-1.0, 0.0, side - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([affine, [0.0, 0.0, 1.0]])
    return np.asarray(affine)


def _random_tone_curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a lookup table [256] of brightness, contrast and gamma."""
    gamma, contrast = np.exp(rng.normal(0, TONE, 2))
    shades = 255 * np.linspace(0, 1, 256) ** gamma
    shades = (shades - 128) * contrast + 128 + rng.normal(0, 20)
    return np.asarray(np.clip(shades, 0, 255), np.uint8)


def _random_occlusion(side: int, rng: np.random.Generator) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """Draw a rectangle with sides up to 40 % of the crop, and its colour."""
    height, width = rng.integers(max(1, side // 10), max(2, side * 2 // 5), 2)
    top, left = (int(rng.integers(0, side - length + 1)) for length in (height, width))
    return np.s_[top : top + height, left : left + width], rng.integers(0, 256, 3).astype(np.uint8)
