"""Test the cross-attention: only audio within reach has influence, and frames without audio are unchanged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from auscan.core.config import FusionConfig
from auscan.model import fusion
from auscan.model.fusion import TOKEN_RATE_HZ, AsymmetricFusion, audio_at_frames

WIDTH, AUDIO_WIDTH, BATCH = 12, 6, 2
CONFIG = FusionConfig(heads=3, reach_s=0.5)
START_S = 7200.0  # after two hours float32 cannot distinguish the times of neighbouring tokens


def randomised(dtype: torch.dtype = torch.float64) -> AsymmetricFusion:
    """Return a fusion with random weights, including those that are initialised with 0."""
    random = torch.Generator().manual_seed(1)
    module = AsymmetricFusion(WIDTH, AUDIO_WIDTH, CONFIG)
    for weight in module.parameters():
        weight.data = weight.data + 0.5 * torch.randn(weight.shape, generator=random)
    return module.to(dtype)


def token_times_s(count: int) -> Tensor:
    """Return the centres [Ta] of `count` tokens that start at 0 s, float64."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / TOKEN_RATE_HZ


def random_clip(frames: int = 90, tokens: int = 110, seed: int = 0) -> tuple[Tensor, ...]:
    """Return visual, frame_s over 3 s, tokens, token_s from 0.5 s to 2.7 s, and a mask of True."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    uneven = torch.rand(BATCH, frames, generator=random, dtype=torch.float64).cumsum(1)
    frame_s = START_S + 3.0 * uneven / uneven[:, -1:]
    token_s = START_S + 0.5 + token_times_s(tokens).expand(BATCH, -1)
    valid = torch.ones(BATCH, tokens, dtype=torch.bool)
    return normal(BATCH, frames, WIDTH), frame_s, normal(BATCH, tokens, AUDIO_WIDTH), token_s, valid


def dense_reference(module: AsymmetricFusion, *clip: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the attention over the full [T, Ta] matrix, clip by clip and head by head."""
    updated, gates = [], []
    knots_s = torch.linspace(-CONFIG.reach_s, CONFIG.reach_s, module.time_bias.shape[0], dtype=torch.float64)
    for visual, frame_s, tokens, token_s, valid in zip(*clip, strict=True):
        offset_s = token_s[None, :] - frame_s[:, None]  # [T, Ta]
        audible = valid & (offset_s.abs() <= CONFIG.reach_s)
        hat = (1 - (offset_s[..., None] - knots_s).abs() / (knots_s[1] - knots_s[0])).clamp_min(0)
        normed, normed_audio = module.norm_visual(visual), module.norm_audio(tokens)
        heads = []
        for head, part in enumerate(torch.arange(WIDTH).chunk(CONFIG.heads)):
            q, k, v = (
                layer(series)[:, part]
                for layer, series in (
                    (module.query, normed),
                    (module.key, normed_audio),
                    (module.value, normed_audio),
                )
            )
            scores = q @ k.T / len(part) ** 0.5 + hat @ module.time_bias[:, head]
            weights = scores.masked_fill(~audible, -torch.inf).softmax(-1).nan_to_num(0.0)
            heads.append(weights @ v)
        attended = torch.cat(heads, dim=-1)  # [T, d]
        gate = torch.sigmoid(module.gate(torch.cat([normed, attended], dim=-1)))[:, 0] * audible.any(-1)
        updated.append(visual + gate[:, None] * module.out(attended))
        gates.append(gate)
    return torch.stack(updated), torch.stack(gates)


@settings(max_examples=15)
@given(
    frames=st.integers(1, 90),
    tokens=st.integers(1, 150),
    holes=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_the_window_equals_dense_attention_under_a_mask(
    frames: int, tokens: int, holes: float, seed: int
) -> None:
    module = randomised()
    *clip, valid = random_clip(frames, tokens, seed)
    valid = torch.rand(valid.shape, generator=torch.Generator().manual_seed(seed)) >= holes
    updated, gate, _ = module(*clip, valid)
    expected_updated, expected_gate = dense_reference(module, *clip, valid)
    assert_close(updated, expected_updated, rtol=1e-9, atol=1e-9)
    assert_close(gate, expected_gate, rtol=1e-9, atol=1e-9)


def test_an_untrained_fusion_leaves_the_visual_stream_unchanged() -> None:
    clip = random_clip()
    updated, gate, _ = AsymmetricFusion(WIDTH, AUDIO_WIDTH, CONFIG).double()(*clip)
    assert torch.equal(updated, clip[0])
    assert gate.max() > 0.0


def test_without_a_token_in_reach_the_gate_is_exactly_zero_and_the_frame_is_unchanged() -> None:
    visual, frame_s, tokens, token_s, valid = random_clip()
    valid[0, 40:] = False
    updated, gate, _ = randomised()(visual, frame_s, tokens, token_s, valid)
    near = ((frame_s[:, :, None] - token_s[:, None, :]).abs() <= CONFIG.reach_s) & valid[:, None, :]
    audible = near.any(-1)
    assert 0 < int(audible[0].sum()) < audible.shape[1]
    assert bool((gate[~audible] == 0.0).all())
    assert bool((gate[audible] > 0.0).all())
    assert torch.equal(updated[~audible], visual[~audible])
    assert bool((updated[audible] != visual[audible]).any(-1).all())


def without_sound(kind: str) -> tuple[Tensor, ...]:
    """Return a clip without audible tokens, of one of three kinds."""
    visual, frame_s, tokens, token_s, valid = random_clip()
    if kind == "none":
        return visual, frame_s
    if kind == "empty":
        return visual, frame_s, tokens[:, :0], token_s[:, :0], valid[:, :0]
    return visual, frame_s, tokens * torch.nan, token_s, torch.zeros_like(valid)


@pytest.mark.parametrize("kind", ["none", "empty", "invalid"])
def test_without_audio_no_audio_weight_matters(kind: str) -> None:
    module = randomised()
    clip = without_sound(kind)
    updated, gate, _ = module(*clip)
    for weight in module.parameters():
        weight.data.normal_()
    assert torch.equal(module(*clip)[0], updated)
    assert torch.equal(updated, clip[0])
    assert bool((gate == 0.0).all())


def test_frames_without_audio_cause_no_nan_in_gradients() -> None:
    module = randomised()
    visual, frame_s, tokens, token_s, valid = random_clip()
    valid[0] = False
    tokens[0] = torch.nan
    visual.requires_grad_()
    tokens.requires_grad_()
    updated, gate, _ = module(visual, frame_s, tokens, token_s, valid)
    (updated.square().sum() + gate.sum()).backward()
    for leaf in (visual, tokens, *module.parameters()):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
    assert tokens.grad is not None
    assert bool((tokens.grad[0] == 0.0).all())
    assert tokens.grad[1].abs().max() > 0.0


def test_a_token_out_of_reach_has_no_influence() -> None:
    module = randomised()
    visual, frame_s, tokens, token_s, valid = random_clip()
    before, gate_before, _ = module(visual, frame_s, tokens, token_s, valid)
    changed = tokens.clone()
    changed[:, 55] = changed[:, 54].flip(-1)
    after, gate_after, _ = module(visual, frame_s, changed, token_s, valid)
    reached = (frame_s - token_s[:, 55:56]).abs() <= CONFIG.reach_s
    assert torch.equal(after[~reached], before[~reached])
    assert torch.equal(gate_after[~reached], gate_before[~reached])
    assert bool((after[reached] != before[reached]).any(-1).all())


def test_invalid_tokens_may_hold_any_value_and_any_time() -> None:
    module = randomised()
    visual, frame_s, tokens, token_s, valid = random_clip()
    valid[:, 30:50] = False
    valid[0, 100:] = False
    expected = module(visual, frame_s, tokens, token_s, valid)
    expected_condition = audio_at_frames(tokens, token_s, valid, frame_s)
    tokens = tokens.masked_fill(~valid[..., None], torch.nan)
    token_s = token_s.masked_fill(~valid, 0.0)
    updated, gate, _ = module(visual, frame_s, tokens, token_s, valid)
    assert torch.equal(updated, expected[0])
    assert torch.equal(gate, expected.gate)
    audio_condition, audible = audio_at_frames(tokens, token_s, valid, frame_s)
    assert torch.equal(audio_condition, expected_condition[0])
    assert torch.equal(audible, expected_condition[1])


@pytest.mark.parametrize("at_once", [1, 7, 89, 1000])
def test_the_result_does_not_depend_on_how_frames_are_chunked(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    module, clip = randomised(), random_clip()
    expected = module(*clip)
    monkeypatch.setattr(fusion, "FRAMES_AT_ONCE", at_once)
    assert_close(module(*clip), expected, rtol=1e-12, atol=1e-12)


def test_the_learned_time_bias_changes_the_result() -> None:
    module = randomised()
    visual, frame_s, tokens, token_s, valid = random_clip()
    before, *_ = module(visual, frame_s, tokens, token_s, valid)
    module.time_bias.data.zero_()
    assert (module(visual, frame_s, tokens, token_s, valid)[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shorter_number_types_stay_near_the_exact_result(dtype: torch.dtype) -> None:
    module = randomised(dtype)
    visual, frame_s, tokens, token_s, valid = random_clip()
    visual, tokens = visual.to(dtype), tokens.to(dtype)
    updated, gate, _ = module(visual, frame_s, tokens, token_s, valid)
    assert updated.dtype == gate.dtype == dtype
    expected, _, _ = module.double()(visual.double(), frame_s, tokens.double(), token_s, valid)
    error = (updated.double() - expected).abs().max() / expected.abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 0.05)


def test_the_token_at_a_frame_is_interpolated_linearly() -> None:
    token_s = START_S + token_times_s(100)[None]
    tokens = torch.stack([token_s, -2.0 * token_s], dim=-1)
    frame_s = START_S + torch.linspace(0.011, 1.989, 77, dtype=torch.float64)[None]
    audio_condition, audible = audio_at_frames(tokens, token_s, torch.ones(1, 100, dtype=torch.bool), frame_s)
    assert bool(audible.all())
    assert_close(audio_condition, torch.stack([frame_s, -2.0 * frame_s], dim=-1), rtol=0.0, atol=1e-9)


def test_the_condition_of_a_frame_at_the_time_of_a_token_is_that_token() -> None:
    _, _, tokens, token_s, valid = random_clip()
    audio_condition, audible = audio_at_frames(tokens, token_s, valid, token_s)
    assert_close(audio_condition, tokens, rtol=0.0, atol=1e-9)
    assert bool(audible.all())


def test_far_from_any_valid_token_nothing_is_audible_and_the_condition_is_zero() -> None:
    _, _, tokens, token_s, valid = random_clip()
    valid[:, 40:60] = False
    edge_s = token_s[:, 39:40]
    frame_s = edge_s + torch.tensor([[-0.005, 0.02, 0.1, 0.2, 0.4, 0.415]], dtype=torch.float64)
    audio_condition, audible = audio_at_frames(tokens, token_s, valid, frame_s)
    assert audible.tolist() == [[True, True, False, False, True, True]] * BATCH
    assert_close(audio_condition[:, 1], tokens[:, 39])  # a single near neighbour is copied
    assert bool((audio_condition[~audible] == 0.0).all())


@pytest.mark.parametrize("kind", ["empty", "invalid"])
def test_without_audio_the_condition_is_zero_everywhere(kind: str) -> None:
    _, frame_s, tokens, token_s, valid = without_sound(kind)
    audio_condition, audible = audio_at_frames(tokens, token_s, valid, frame_s)
    assert audio_condition.shape == (*frame_s.shape, AUDIO_WIDTH)
    assert bool((audio_condition == 0.0).all())
    assert not bool(audible.any())


def test_a_number_of_heads_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a number of heads that divides 12"):
        AsymmetricFusion(WIDTH, AUDIO_WIDTH, FusionConfig(heads=5))
