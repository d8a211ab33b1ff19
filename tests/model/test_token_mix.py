"""Test the mix of the tokens of one or several encoders."""

import pytest
import torch
from torch.testing import assert_close

from auscan.core.config import ConvVisualConfig, TokenPart
from auscan.encoders.visual import ConvEncoder
from auscan.model.token_mix import TokenMix, token_parts


def random_tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_one_encoder_without_groups_is_unchanged_and_has_no_weights() -> None:
    """So checkpoints of nano keep their weights and their results."""
    mix, tokens = TokenMix(6, (), 4), random_tokens(2, 5, 6)
    assert mix(tokens) is tokens or torch.equal(mix(tokens), tokens)
    assert not mix.state_dict()
    assert mix.width == 6


def test_groups_are_a_weighted_sum_that_starts_as_the_mean() -> None:
    mix, tokens = TokenMix(12, [TokenPart(width=3, groups=4)], 8), random_tokens(2, 5, 12)
    groups = tokens.unflatten(-1, (4, 3))
    assert mix.width == 3
    assert_close(mix(tokens), groups.mean(-2))
    (weights,) = mix.parameters()
    weights.data = torch.tensor([-50.0, -50.0, 50.0, -50.0])
    assert_close(mix(tokens), groups[..., 2, :])


def test_every_group_weight_learns() -> None:
    mix = TokenMix(12, [TokenPart(width=3, groups=4)], 8)
    mix(random_tokens(5, 12)).square().sum().backward()
    (weights,) = mix.parameters()
    assert weights.grad is not None
    assert weights.grad.abs().min() > 0


def test_several_parts_are_projected_on_their_own_and_concatenated() -> None:
    torch.manual_seed(0)
    parts = [TokenPart(width=3, groups=2), TokenPart(width=5)]
    mix, tokens = TokenMix(11, parts, 8), random_tokens(4, 11)
    mixed = mix(tokens)
    assert mixed.shape == (4, mix.width) == (4, 16)
    other = tokens.clone()
    other[:, 6:] += random_tokens(4, 5)
    assert torch.equal(mix(other)[:, :8], mixed[:, :8])
    assert (mix(other)[:, 8:] != mixed[:, 8:]).all()


def test_the_scale_of_a_part_has_no_effect() -> None:
    """DINOv2 and CLIP differ in scale; a projection alone would let the larger one win."""
    torch.manual_seed(0)
    mix, tokens = TokenMix(8, [TokenPart(width=4), TokenPart(width=4)], 6), random_tokens(3, 8)
    scaled = torch.cat([tokens[:, :4], 1000 * tokens[:, 4:]], dim=-1)
    assert_close(mix(scaled), mix(tokens), atol=1e-3, rtol=1e-3)


def test_no_tokens_have_no_mix() -> None:
    assert TokenMix(12, [TokenPart(width=3, groups=4)], 8)(torch.empty(2, 0, 12)).shape == (2, 0, 3)


def test_parts_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="have 4 channels, not 6"):
        TokenMix(6, [TokenPart(width=4)], 8)


def test_the_compact_encoder_has_no_parts() -> None:
    assert token_parts(ConvEncoder(ConvVisualConfig(crop_size=32, widths=(8, 8), blocks=(1, 1)))) == ()
