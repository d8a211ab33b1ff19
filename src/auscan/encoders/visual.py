"""Encode aligned face crops as one global token and a grid of patch tokens per frame.

Two encoders have the same interface; the kind of config selects one:

    ConvEncoder     encoder of nano: compact, convolutional, trained from scratch in this repository
    Dinov2Encoder   DINOv2 from transformers, any size, with or without registers, frozen by default

Both include their preprocessing, so that training and inference use the same.

Inputs: crops [T, S, S, 3] uint8 RGB. Returns: global tokens [T, Dv], patches [T, N, Dv], float.
See also: faces/ (detection and alignment of faces), model/alignment.py (selection of patches).
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import ConvVisualConfig, Dinov2VisualConfig
from auscan.encoders.hub import load_backbone

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue in luminance."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in ImageNet, 0 to 1; input normalisation of DINOv2."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in ImageNet."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a channel gate (squeeze and excitation, Hu et al. 2018), with a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.squeeze = nn.Conv2d(width_out, width_out // 4, 1)
        self.excite = nn.Conv2d(width_out // 4, width_out, 1)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(width_in, width_out, 1, bias=False),
                nn.BatchNorm2d(width_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: [T, C, H, W] -> [T, C', H', W']."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return F.relu(self.shortcut(x) + y * gate)


class ConvEncoder(nn.Module):
    """Small residual network over luminance; the cells of its last feature map are the patches.

    The global token is a learned weighted sum over the cells, with separate weights per channel (global
    depthwise convolution, MobileFaceNet, Chen et al. 2018). Unlike a mean it keeps the position on the face,
    which separates a brow from a mouth.
    """

    def __init__(self, config: ConvVisualConfig) -> None:
        super().__init__()
        self.width = config.width
        self.patch_count = config.patch_grid**2
        widths = config.widths
        layers: list[nn.Module] = [
            nn.Conv2d(1, widths[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        width = widths[0]
        for stage, (width_out, blocks) in enumerate(zip(widths, config.blocks, strict=True)):
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                layers.append(ResidualBlock(width, width_out, stride))
                width = width_out
        self.layers = nn.Sequential(*layers)
        self.pool = nn.Conv2d(width, width, config.patch_grid, groups=width)
        self.norm_global = nn.LayerNorm(width)
        self.norm_patches = nn.LayerNorm(width)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [T, S, S, 3] uint8 as global tokens [T, Dv] and patches [T, N, Dv]."""
        features = self.layers(standard_luminance(crops))  # [T, Dv, G, G]
        pooled = self.pool(features).flatten(1)  # [T, Dv]
        patches = features.flatten(2).transpose(1, 2)  # [T, N, Dv]
        return self.norm_global(pooled), self.norm_patches(patches)


def standard_luminance(crops: Tensor) -> Tensor:
    """Standardise the luminance of each crop: [T, S, S, 3] uint8 RGB -> [T, 1, S, S] float within -4..4.

    Only luminance is used, because most training faces are grey. Mean 0 and standard deviation 1 per crop
    remove lighting and camera gain. Both are measured in the middle of the crop (without the top fifth and a
    fifth at either side), so that the background has no influence.
    """
    weights = torch.tensor(LUMA, device=crops.device) / 255.0
    grey = (crops.to(weights.dtype) * weights).sum(-1)  # [T, S, S]
    side = grey.shape[1]
    middle = grey[:, side // 5 :, side // 5 : side - side // 5]
    mean = middle.mean((1, 2), keepdim=True)
    deviation = (middle - mean).square().mean((1, 2), keepdim=True).sqrt()
    return ((grey - mean) / (deviation + 0.02)).clamp(-4.0, 4.0).unsqueeze(1)  # [T, 1, S, S]


class Dinov2Encoder(nn.Module):
    """DINOv2 after its final norm: the class token is the global token, register tokens are dropped.

    Raises CheckpointError if the weights can be loaded neither from the hub nor from a local folder.
    """

    def __init__(self, config: Dinov2VisualConfig) -> None:
        super().__init__()
        self.backbone = load_backbone(config.source, config.arch)
        arch = self.backbone.config
        self.width: int = arch.hidden_size
        self.patch_count = (config.crop_size // arch.patch_size) ** 2
        self.special_tokens = 1 + getattr(arch, "num_register_tokens", 0)
        self.backbone.requires_grad_(False).eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [T, S, S, 3] uint8 as global tokens [T, Dv] and patches [T, N, Dv]."""
        like = next(self.backbone.parameters())
        mean, std = like.new_tensor(IMAGENET_MEAN), like.new_tensor(IMAGENET_STD)
        pixels = ((crops.to(like.dtype) / 255.0 - mean) / std).permute(0, 3, 1, 2)  # [T, 3, S, S]
        tokens = self.backbone(pixel_values=pixels).last_hidden_state  # [T, 1 + R + N, Dv]
        return tokens[:, 0], tokens[:, self.special_tokens :]

    def train(self, mode: bool = True) -> Self:
        """Set training mode except for the frozen backbone, which would drop paths."""
        super().train(mode)
        self.backbone.eval()
        return self


def pool_patches(patches: Tensor, grid: int) -> Tensor:
    """Average a square grid of patches to grid x grid, row by row: [B, N, Dv] -> [B, grid ** 2, Dv]."""
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return patches
    square = patches.transpose(1, 2).unflatten(2, (side, side))  # [B, Dv, side, side]
    return F.adaptive_avg_pool2d(square, grid).flatten(2).transpose(1, 2)


def build_visual_encoder(config: ConvVisualConfig | Dinov2VisualConfig) -> ConvEncoder | Dinov2Encoder:
    """Build the encoder for a config."""
    return ConvEncoder(config) if isinstance(config, ConvVisualConfig) else Dinov2Encoder(config)
