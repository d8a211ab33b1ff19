"""Encode aligned face crops as one global token and a grid of patch tokens per frame.

Three encoders have the same interface; the kind of config selects one:

    ConvEncoder            encoder of nano: compact, convolutional, trained from scratch in this repository
    HubVisualEncoder       DINOv2, DINOv3, CLIP, SigLIP or ViT from transformers, any size, frozen by default
    SeveralVisualEncoder   several HubVisualEncoders, tokens concatenated

They include their preprocessing, so that training and inference use the same. Crops are already aligned and
have the size of the encoder. Of the preprocessing of a transformers model only rescaling and normalisation
therefore apply; it is not resized or cropped again.

Inputs: crops [T, S, S, 3] uint8 RGB. Returns: global tokens [T, Dv], patches [T, N, Dv], float.
See also: hub.py (loads transformers models), faces/ (detection and alignment of faces), model/alignment.py
(selection of patches).
"""

from typing import Any, Final, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import (
    ConvVisualConfig,
    HubVisualConfig,
    Rgb,
    SeveralVisualConfig,
    TokenPart,
    VisualConfig,
)
from auscan.core.errors import CheckpointError
from auscan.encoders.hub import Backbone, load_backbone

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue in luminance."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in ImageNet, 0 to 1; input normalisation of DINOv2."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in ImageNet."""
MEAN_AND_STD: Final[dict[str, tuple[Rgb, Rgb]]] = {
    "dinov2": (IMAGENET_MEAN, IMAGENET_STD),
    "dinov3": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "vit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Kind -> mean and standard deviation of weights without a preprocessor_config.json, as in transformers."""
BLOCKS_AND_NORM: Final = {
    "dinov2": ("encoder.layer", "layernorm"),
    "dinov3": ("model.layer", "norm"),
    "clip": ("encoder.layers", "post_layernorm"),
    "siglip": ("encoder.layers", "post_layernorm"),
    "vit": ("layers", "layernorm"),
}
"""Kind -> names of the transformer blocks and of the final norm in the transformers model."""


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

    With two patch scales, the patches are the cells of the map before the last, twice as fine, and each has
    the cell of the last map added that contains it (feature pyramid, Lin et al. 2017).
    """

    def __init__(self, config: ConvVisualConfig) -> None:
        super().__init__()
        self.width = config.width
        self.crop_size = config.crop_size
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
        self.pool = nn.Conv2d(width, width, config.last_grid, groups=width)
        self.fine: nn.Conv2d | None = None
        if config.patch_scales == 2:
            self.first_of_last = len(layers) - config.blocks[-1]
            """Index of the layer that halves the map for the last time."""
            self.fine = nn.Conv2d(widths[-2], width, 1)
        self.norm_global = nn.LayerNorm(width)
        self.norm_patches = nn.LayerNorm(width)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [T, S, S, 3] uint8 as global tokens [T, Dv] and patches [T, N, Dv]."""
        features, finer = standard_luminance(crops), None
        for number, layer in enumerate(self.layers):
            if self.fine is not None and number == self.first_of_last:
                finer = self.fine(features)  # [T, Dv, 2 G, 2 G]
            features = layer(features)  # [T, Dv, G, G] in the end
        pooled = self.pool(features).flatten(1)  # [T, Dv]
        if finer is not None:
            features = finer + F.interpolate(features, scale_factor=2.0, mode="nearest")
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


class HubVisualEncoder(nn.Module):
    """Vision transformer from transformers, after its final norm; register tokens are dropped.

    The global token is the class token. SigLIP has none: its global token is the output of its attention
    pooling, or the mean of the patches if the weights have no pooling.

    Raises CheckpointError if the weights can be loaded neither from the hub nor from a local folder, are of
    another kind or not finite, or if their preprocessing cannot be applied to crops.
    """

    def __init__(self, config: HubVisualConfig) -> None:
        super().__init__()
        loaded = load_backbone(config.source, config.arch, "visual")
        self.backbone = loaded.model
        resolved = resolve_preprocessing(config, loaded)
        arch = self.backbone.config
        self.kind = resolved.kind
        self.crop_size = resolved.crop_size
        self.width: int = arch.hidden_size
        self.patch_count = (resolved.crop_size // arch.patch_size) ** 2
        self.special_tokens = 0 if self.kind == "siglip" else 1 + getattr(arch, "num_register_tokens", 0)
        self.preprocessing: dict[str, Any] = resolved.model_dump(exclude={"source", "arch"})
        # DINOv2 and DINOv3 accept any size; the others interpolate their positions on request.
        fits = self.kind in ("dinov2", "dinov3") or resolved.crop_size == arch.image_size
        self._size_option = {} if fits else {"interpolate_pos_encoding": True}

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks, first to last."""
        blocks = self.backbone.get_submodule(BLOCKS_AND_NORM[self.kind][0])
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def final_layers(self) -> list[nn.Module]:
        """Layers after the blocks: the final norm, and the pooling of SigLIP."""
        pooling = getattr(self.backbone, "head", None)
        norm = self.backbone.get_submodule(BLOCKS_AND_NORM[self.kind][1])
        return [norm, pooling] if isinstance(pooling, nn.Module) else [norm]

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [T, S, S, 3] uint8 as global tokens [T, Dv] and patches [T, N, Dv]."""
        output = self.backbone(pixel_values=self.normalise(crops), **self._size_option)
        tokens = output.last_hidden_state  # [T, 1 + R + N, Dv]
        if self.kind == "clip":  # the only one whose tokens are not normalised yet
            tokens = self.backbone.post_layernorm(tokens)
        patches = tokens[:, self.special_tokens :]
        if self.kind != "siglip":
            return tokens[:, 0], patches
        pooled = output.pooler_output
        return patches.mean(1) if pooled is None else pooled, patches

    def normalise(self, crops: Tensor) -> Tensor:
        """Rescale and normalise crops: [T, S, S, 3] uint8 -> [T, 3, S, S]."""
        like = next(self.backbone.parameters())
        mean, std = (like.new_tensor(self.preprocessing[name]) for name in ("mean", "std"))
        pixels: Tensor = (crops.to(like.dtype) / self.preprocessing["pixel_scale"] - mean) / std
        return pixels.permute(0, 3, 1, 2)

    def train(self, mode: bool = True) -> Self:
        """Set training mode except for the frozen backbone, which would drop paths."""
        super().train(mode)
        self.backbone.eval()
        return self


def resolve_preprocessing(config: HubVisualConfig, loaded: Backbone) -> HubVisualConfig:
    """Fill in what the config leaves open: from preprocessor_config.json, else the values of the kind.

    Raises CheckpointError if the values of the file cannot be applied.
    """
    mean, std = MEAN_AND_STD[loaded.kind]
    usual = {"pixel_scale": 255.0, "mean": mean, "std": std}
    given = {name: value for name in usual if (value := getattr(config, name)) is not None}
    if config.arch is not None:
        return config.model_copy(update={"kind": loaded.kind, **usual, **given})
    if "crop_size" in config.model_fields_set:
        given["crop_size"] = config.crop_size
    content = loaded.preprocessing
    try:
        read = _read_values(content)
        if "crop_size" not in read and loaded.kind not in ("dinov2", "dinov3"):
            read["crop_size"] = loaded.model.config.image_size
        values = {**usual, "crop_size": config.crop_size, **read, **given}
        return HubVisualConfig.model_validate({"kind": loaded.kind, "source": config.source, **values})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"The preprocessor_config.json of {config.source} cannot be applied to face crops ({reason}). "
            "Correct it, or delete it to use the usual preprocessing of the model."
        ) from error


def _read_values(content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of HubVisualConfig that preprocessor_config.json states.

    Raises ValueError if the crop is not square.
    """
    values: dict[str, Any] = {}
    side = content.get("crop_size") if content.get("do_center_crop", True) else None
    side = content.get("size") if side is None else side
    if isinstance(side, dict):
        sides = {side[name] for name in ("height", "width", "shortest_edge") if side.get(name) is not None}
        if len(sides) > 1:
            raise ValueError(f"size {side} is not square")
        side = sides.pop() if sides else None
    if side is not None:
        values["crop_size"] = side
    if not content.get("do_rescale", True):
        values["pixel_scale"] = 1.0
    elif "rescale_factor" in content:
        values["pixel_scale"] = 1.0 / content["rescale_factor"]
    if not content.get("do_normalize", True):
        values |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    for name in ("mean", "std"):
        if name not in values and content.get(f"image_{name}") is not None:
            values[name] = content[f"image_{name}"]
    return values


def pool_patches(patches: Tensor, grid: int) -> Tensor:
    """Average a square grid of patches to grid x grid, row by row: [B, N, Dv] -> [B, grid ** 2, Dv]."""
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return patches
    square = patches.transpose(1, 2).unflatten(2, (side, side))  # [B, Dv, side, side]
    return F.adaptive_avg_pool2d(square, grid).flatten(2).transpose(1, 2)


class SeveralVisualEncoder(nn.Module):
    """Several vision transformers on the same crops; their tokens are concatenated.

    Crops have the size of the largest member and are resized for the others. Patches are averaged to the
    coarsest grid of all members. The tokens of each member are normalised without learned weights, so that
    none dominates in scale; model/token_mix.py projects them.
    """

    def __init__(self, config: SeveralVisualConfig) -> None:
        super().__init__()
        members = [HubVisualEncoder(member) for member in config.members]
        self.members = nn.ModuleList(members)
        self.crop_size = max(member.crop_size for member in members)
        self.patch_count = min(member.patch_count for member in members)
        self.parts: tuple[TokenPart, ...] = tuple(TokenPart(width=member.width) for member in members)
        self.width = sum(member.width for member in members)

    @property
    def encoders(self) -> list[HubVisualEncoder]:
        """The members."""
        return [member for member in self.members if isinstance(member, HubVisualEncoder)]

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [T, S, S, 3] uint8 as global tokens [T, Dv] and patches [T, N, Dv]."""
        grid = round(self.patch_count**0.5)
        faces, patches = [], []
        for member in self.encoders:
            face, fine = member(resize_crops(crops, member.crop_size))
            faces.append(F.layer_norm(face, face.shape[-1:]))
            patches.append(F.layer_norm(pool_patches(fine, grid), face.shape[-1:]))
        return torch.cat(faces, dim=-1), torch.cat(patches, dim=-1)


def resize_crops(crops: Tensor, side: int) -> Tensor:
    """Resize crops [T, S, S, 3] to a side in pixels, bilinear with antialiasing; float unless it fits."""
    if crops.shape[1] == side:
        return crops
    pixels = crops.permute(0, 3, 1, 2).float()
    resized = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)


VisualEncoder = ConvEncoder | HubVisualEncoder | SeveralVisualEncoder
"""Any visual encoder."""


def build_visual_encoder(config: VisualConfig) -> VisualEncoder:
    """Build the encoder for a config."""
    if isinstance(config, SeveralVisualConfig):
        return SeveralVisualEncoder(config)
    return ConvEncoder(config) if isinstance(config, ConvVisualConfig) else HubVisualEncoder(config)
