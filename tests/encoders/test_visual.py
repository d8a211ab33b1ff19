"""Test the visual encoders: shapes, position of tokens, and invariance to light, background and batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from auscan.core.config import ConvVisualConfig, HubVisualConfig
from auscan.encoders.visual import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LUMA,
    ConvEncoder,
    HubVisualEncoder,
    build_visual_encoder,
    standard_luminance,
)

SMALL = ConvVisualConfig(crop_size=32, widths=(8, 8, 16), blocks=(1, 2, 1))


@pytest.fixture
def encoder() -> ConvEncoder:
    torch.manual_seed(1)
    return ConvEncoder(SMALL).eval()


def random_crops(count: int, side: int = 32, seed: int = 0) -> Tensor:
    """Return random crops [T, S, S, 3] uint8 of medium brightness, so that no gain clips them."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(60, 180, (count, side, side, 3), generator=random, dtype=torch.uint8)


def test_the_compact_encoder_gives_one_global_token_and_a_grid_of_patches(encoder: ConvEncoder) -> None:
    face, patches = encoder(random_crops(5))
    assert face.shape == (5, 16)
    assert patches.shape == (5, 16, 16)
    assert (encoder.width, encoder.patch_count) == (16, 16)


def test_a_patch_token_sees_its_own_part_of_the_crop(encoder: ConvEncoder) -> None:
    """Patches are ordered row by row; the attention maps shown to users rely on this order."""
    crops = random_crops(32)
    before = encoder(crops)[1]
    for row, column in ((0, 3), (2, 1), (3, 2)):
        touched = crops.clone()
        touched[:, 8 * row + 2 : 8 * row + 6, 8 * column + 2 : 8 * column + 6] = 255
        moved = (encoder(touched)[1] - before).norm(dim=-1).mean(0)
        assert moved.argmax() == 4 * row + column


def test_a_second_scale_gives_four_patches_for_each_cell_of_the_last_map() -> None:
    """A fine patch sees its own part of the crop, and the last map around it."""
    torch.manual_seed(1)
    encoder = ConvEncoder(SMALL.model_copy(update={"patch_scales": 2})).eval()
    crops = random_crops(32)
    face, before = encoder(crops)
    assert face.shape == (32, 16)
    assert before.shape == (32, encoder.patch_count, 16) == (32, 8 * 8, 16)
    for row, column in ((1, 6), (4, 2)):
        touched = crops.clone()
        touched[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
        moved = (encoder(touched)[1] - before).norm(dim=-1).mean(0).view(8, 8)
        most = divmod(int(moved.argmax()), 8)
        assert max(abs(most[0] - row), abs(most[1] - column)) <= 1
        assert moved[row, column] > 2 * moved.median()


def test_the_global_token_is_the_same_with_one_scale_and_with_two(encoder: ConvEncoder) -> None:
    both = ConvEncoder(SMALL.model_copy(update={"patch_scales": 2})).eval()
    both.load_state_dict(encoder.state_dict(), strict=False)
    assert torch.equal(both(random_crops(3))[0], encoder(random_crops(3))[0])


def test_the_global_token_depends_on_position(encoder: ConvEncoder) -> None:
    """A mean over the map would not change if the map were mirrored."""
    crops = random_crops(1)
    features = encoder.layers(standard_luminance(crops))
    assert not torch.allclose(encoder.pool(features), encoder.pool(features.flip(3)), atol=1e-3)


def test_a_crop_is_encoded_the_same_alone_and_in_a_batch(encoder: ConvEncoder) -> None:
    crops = random_crops(6)
    together = encoder(crops)
    for t in range(6):
        for one, all_of_them in zip(encoder(crops[t : t + 1]), together, strict=True):
            assert_close(one[0], all_of_them[t], atol=1e-5, rtol=1e-5)


def test_every_weight_of_the_compact_encoder_learns(encoder: ConvEncoder) -> None:
    face, patches = encoder.train()(random_crops(4))
    ((face * torch.randn_like(face)).sum() + (patches * torch.randn_like(patches)).sum()).backward()
    idle = [name for name, weight in encoder.named_parameters() if weight.grad is None]
    assert idle == []
    assert all(weight.requires_grad for weight in encoder.parameters())


def real_crop(portrait: NDArray[np.uint8]) -> Tensor:
    """Return the face of the portrait, [1, 112, 112, 3] uint8."""
    return torch.from_numpy(portrait[64:176, 170:282].copy())[None]


def test_the_middle_of_a_crop_has_mean_0_and_deviation_1(portrait: NDArray[np.uint8]) -> None:
    standard = standard_luminance(real_crop(portrait))
    assert standard.shape == (1, 1, 112, 112)
    middle = standard[..., 22:, 22:90]
    assert middle.mean().item() == pytest.approx(0, abs=0.05)
    assert middle.std().item() == pytest.approx(0.93, abs=0.07)
    assert standard.abs().max() <= 4


@pytest.mark.parametrize(("gain", "offset"), [(0.6, 0.0), (0.8, 40.0), (0.5, 100.0)])
def test_light_and_camera_gain_hardly_change_the_input(
    portrait: NDArray[np.uint8], gain: float, offset: float
) -> None:
    crop = real_crop(portrait)
    changed = (crop * gain + offset).round().clamp(0, 255).to(torch.uint8)
    before, after = standard_luminance(crop), standard_luminance(changed)
    together = torch.stack([before.flatten(), after.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.999
    assert (before - after).abs().mean() < 0.15


def test_the_background_does_not_change_the_tokens_of_the_face() -> None:
    crop = random_crops(1, side=40)
    touched = crop.clone()
    touched[:, :8], touched[:, :, :8], touched[:, :, -8:] = 255, 255, 0
    inside = (..., slice(8, 40), slice(8, 32))
    before, after = standard_luminance(crop), standard_luminance(touched)
    assert torch.equal(before[inside], after[inside])
    assert not torch.allclose(before, after)


def colours_like_grey() -> list[tuple[int, int, int]]:
    """Return colours with the luminance of grey 120, within 1/500 of a level."""
    steps = range(-70, 71)
    return [
        (120 + r, 120 + g, 120 + b)
        for r in steps
        for b in steps
        for g in [round(-(LUMA[0] * r + LUMA[2] * b) / LUMA[1])]
        if abs(LUMA[0] * r + LUMA[1] * g + LUMA[2] * b) < 0.002 and (abs(r) > 40 or abs(b) > 40)
    ]


def test_a_colour_and_a_grey_of_its_luminance_are_the_same() -> None:
    """Most training faces are grey, so colour would only add noise."""
    colours = colours_like_grey()
    assert len(colours) >= 20
    grey = random_crops(1, side=20)[..., :1].expand(-1, -1, -1, 3).clone()
    coloured = grey.clone()
    for i, colour in enumerate(colours[:20]):
        grey[:, i, i], coloured[:, i, i] = 120, torch.tensor(colour, dtype=torch.uint8)
    assert_close(standard_luminance(coloured), standard_luminance(grey), atol=1e-3, rtol=0)
    assert LUMA == (0.299, 0.587, 0.114)


def test_a_flat_crop_is_zero_and_not_noise() -> None:
    flat = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)
    assert standard_luminance(flat).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "registers"), [("dinov2", 0), ("registers", 3)])
def test_dinov2_gives_its_class_token_and_its_patches_without_registers(
    backbones: Path, name: str, registers: int
) -> None:
    encoder = build_visual_encoder(HubVisualConfig(crop_size=42, source=str(backbones / name))).eval()
    assert isinstance(encoder, HubVisualEncoder)
    crops = random_crops(2, side=42)
    face, patches = encoder(crops)
    assert face.shape == (2, 16)
    assert patches.shape == (2, 9, 16)
    assert (encoder.width, encoder.patch_count) == (16, 9)

    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    pixels = ((crops / 255 - mean) / std).permute(0, 3, 1, 2)
    tokens = encoder.backbone(pixel_values=pixels).last_hidden_state
    assert tokens.shape == (2, 1 + registers + 9, 16)
    assert_close(face, tokens[:, 0])
    assert_close(patches, tokens[:, 1 + registers :])


def test_dinov2_patches_go_row_by_row(backbones: Path) -> None:
    encoder = HubVisualEncoder(HubVisualConfig(crop_size=56, source=str(backbones / "dinov2"))).eval()
    crops = random_crops(1, side=56)
    touched = crops.clone()
    touched[:, 28:42, 14:28] = 255  # row 2, column 1 of 4 x 4
    moved = (encoder(touched)[1] - encoder(crops)[1]).norm(dim=-1)[0]
    assert moved.argmax() == 2 * 4 + 1


def test_dinov2_is_frozen_also_while_the_rest_is_trained(backbones: Path) -> None:
    encoder = HubVisualEncoder(HubVisualConfig(crop_size=28, source=str(backbones / "registers"))).train()
    assert encoder.training
    assert not any(module.training for module in encoder.backbone.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_the_shipped_size_uses_the_compact_encoder() -> None:
    assert isinstance(build_visual_encoder(SMALL), ConvEncoder)
