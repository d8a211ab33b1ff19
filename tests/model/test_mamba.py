"""Test the temporal model: chunks, padding, elapsed time, audio condition and number types."""

from itertools import pairwise
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from auscan.core.config import TemporalConfig
from auscan.model.bidirectional import DIRECTIONS, Direction, elapsed_frames
from auscan.model.mamba import BiMamba, BiMambaBlock, SelectiveScan

Module = TypeVar("Module", bound=nn.Module)

WIDTH, AUDIO_WIDTH = 8, 6
CONFIG = TemporalConfig(blocks=2, expand=2, head_width=4, state_width=5, conv_width=4)


def randomised(module: Module, dtype: torch.dtype = torch.float64) -> Module:
    """Return the module with random weights, including those that are initialised with 0."""
    random = torch.Generator().manual_seed(1)
    for weight in module.parameters():
        weight.data = weight.data + 0.3 * torch.randn(weight.shape, generator=random)
    return module.to(dtype)


def random_track(frames: int, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return x [B, T, d], audio_condition [B, T, Da] and uneven times [B, T], float64."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, frames, WIDTH, generator=random, dtype=torch.float64)
    audio_condition = torch.randn(batch, frames, AUDIO_WIDTH, generator=random, dtype=torch.float64)
    gaps = 0.1 * torch.rand(batch, frames, generator=random, dtype=torch.float64)
    return x, audio_condition, 7.0 + gaps.cumsum(1)


def close(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_an_untrained_model_leaves_the_frames_unchanged() -> None:
    x, audio_condition, times_s = random_track(20)
    assert torch.equal(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG).double()(x, audio_condition, times_s), x)


def test_initial_time_constants_range_from_a_tenth_of_a_second_to_a_minute() -> None:
    scan = SelectiveScan(32, AUDIO_WIDTH, CONFIG)
    span_s = 1.0 / (torch.nn.functional.softplus(scan.dt_bias) * scan.log_decay.exp()) / 30.0
    assert_close(span_s[[0, -1]], torch.tensor([0.1, 60.0]), rtol=1e-3, atol=0.0)


@settings(max_examples=25)
@given(frames=st.integers(2, 90), cuts=st.sets(st.integers(1, 89), max_size=4))
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_direction_does_not_depend_on_the_split_into_chunks(
    direction: Direction, frames: int, cuts: set[int]
) -> None:
    block = randomised(BiMambaBlock(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(frames)
    elapsed = elapsed_frames(times_s)[direction == "backward"]
    whole, end = block.scan(direction, x, audio_condition, elapsed)
    edges = [0, *sorted(cut for cut in cuts if cut < frames), frames]
    parts = [slice(*pair) for pair in pairwise(edges)]
    state, out = None, torch.empty_like(whole)
    for part in parts if direction == "forward" else parts[::-1]:
        chunk = x[:, part], audio_condition[:, part], elapsed[:, part]
        out[:, part], state = block.scan(direction, *chunk, state)
    close(out, whole)
    assert state is not None
    close(state.tail, end.tail)
    close(state.memory, end.memory)


def test_scanning_frame_by_frame_equals_the_whole_sequence() -> None:
    scan = randomised(SelectiveScan(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(70)
    elapsed, _ = elapsed_frames(times_s)
    whole, _ = scan(x, audio_condition, elapsed)
    state, outputs = None, []
    for t in range(70):
        y, state = scan(x[:, t : t + 1], audio_condition[:, t : t + 1], elapsed[:, t : t + 1], state)
        outputs.append(y)
    close(torch.cat(outputs, dim=1), whole)


@pytest.mark.slow
@pytest.mark.parametrize("with_audio", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_a_long_track_in_chunks_equals_the_track_at_once(chunk: int, with_audio: bool) -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(150, batch=1)
    condition = audio_condition if with_audio else None
    expected = model(x, condition, times_s)[0]
    out = model.forward_long(x[0], None if condition is None else condition[0], times_s[0], chunk)
    close(out, expected)
    assert not out.requires_grad


@pytest.mark.parametrize("window", [slice(0, 40), slice(50, 80), slice(120, 150), slice(0, 150)])
@pytest.mark.parametrize("chunk", [17, 1000])
def test_a_window_of_a_long_track_equals_the_track_at_once_and_has_gradients(
    window: slice, chunk: int
) -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(150, batch=1)
    expected = model(x, audio_condition, times_s)[0]
    x = x[0].requires_grad_()
    out = model.forward_long(x, audio_condition[0], times_s[0], chunk, grad_window=window)
    close(out, expected)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    rows = torch.arange(150)
    inside = (rows >= window.start) & (rows < window.stop)
    assert torch.equal(gradient.abs().sum(1) > 0, inside)


def test_a_long_track_leaves_its_input_untouched() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(30, batch=1)
    before = x.clone()
    assert not torch.equal(model.forward_long(x[0], audio_condition[0], times_s[0], 8), before[0])
    assert torch.equal(x, before)


def test_the_forward_scan_ignores_later_frames_and_the_backward_scan_earlier_ones() -> None:
    block = randomised(BiMambaBlock(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(40)
    changed = x.clone()
    changed[:, 20] += 1.0
    for direction, elapsed, unaffected in zip(
        DIRECTIONS, elapsed_frames(times_s), (slice(0, 20), slice(21, 40)), strict=True
    ):
        before, after = (block.scan(direction, each, audio_condition, elapsed)[0] for each in (x, changed))
        difference = after - before
        assert difference[:, unaffected].abs().max() == 0.0
        assert difference[:, 20].abs().max() > 0.0


def test_a_reversed_sequence_gives_the_reversed_output() -> None:
    block = randomised(BiMambaBlock(WIDTH, AUDIO_WIDTH, CONFIG))
    block.backward_scan.load_state_dict(block.forward_scan.state_dict())
    x, audio_condition, times_s = random_track(40)
    forwards = block(x, audio_condition, elapsed_frames(times_s))
    backwards = block(x.flip(1), audio_condition.flip(1), elapsed_frames(-times_s.flip(1)))
    close(backwards.flip(1), forwards)


def test_padded_frames_change_no_other_frame_and_have_a_zero_output() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(60, batch=3)
    lengths = [60, 37, 1]
    valid = torch.arange(60) < torch.tensor(lengths)[:, None]
    out = model(x, audio_condition, times_s, valid)
    for i, length in enumerate(lengths):
        alone = model(x[i : i + 1, :length], audio_condition[i : i + 1, :length], times_s[i : i + 1, :length])
        close(out[i : i + 1, :length], alone)
        assert bool((out[i, length:] == 0.0).all())


def test_padded_frames_get_no_gradient() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(20)
    valid = torch.arange(20) < torch.tensor([20, 11])[:, None]
    x.requires_grad_()
    model(x, audio_condition, times_s, valid).square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad[~valid] == 0.0).all())
    assert bool((x.grad[valid] != 0.0).any(dim=-1).all())


def test_without_audio_no_audio_weight_matters() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(30)
    silent = model(x, torch.zeros_like(audio_condition), times_s)
    close(model(x, None, times_s), silent)
    with_audio = model(x, audio_condition, times_s)
    for name, weight in model.named_parameters():
        if "audio_condition" in name:
            weight.data += 1.0
    assert torch.equal(model(x, torch.zeros_like(audio_condition), times_s), silent)
    assert (model(x, audio_condition, times_s) - with_audio).abs().max() > 1e-3


@pytest.mark.parametrize("start", [0, 1, 2])
def test_audio_conditions_what_is_written_read_and_forgotten(start: int) -> None:
    scan = randomised(SelectiveScan(WIDTH, AUDIO_WIDTH, CONFIG))
    x, audio_condition, times_s = random_track(30)
    elapsed, _ = elapsed_frames(times_s)
    before, _ = scan(x, audio_condition, elapsed)
    n = CONFIG.state_width
    edges = [0, n, 2 * n, scan.audio_condition.proj.weight.shape[0]]
    scan.audio_condition.proj.weight.data[edges[start] : edges[start + 1]] += 0.5
    assert (scan(x, audio_condition, elapsed)[0] - before).abs().max() > 1e-4


@pytest.mark.parametrize("rate_hz", [60, 10, 3, 1])
def test_a_still_face_leads_to_the_same_state_at_any_frame_rate(rate_hz: int) -> None:
    """Without the zero-order hold a frame after a gap of a second would weigh thirty times as much."""
    config = CONFIG.model_copy(update={"conv_width": 1})  # the short convolution depends on the frame rate
    scan = randomised(SelectiveScan(WIDTH, AUDIO_WIDTH, config))
    x, audio_condition, _ = random_track(1, batch=1)

    def memory_after_four_seconds(rate_hz: int) -> Tensor:
        times_s = torch.arange(4 * rate_hz + 1, dtype=torch.float64)[None] / rate_hz
        frames = times_s.shape[1]
        elapsed, _ = elapsed_frames(times_s)
        _, state = scan(x.expand(-1, frames, -1), audio_condition.expand(-1, frames, -1), elapsed)
        return state.memory

    close(memory_after_four_seconds(rate_hz), memory_after_four_seconds(30))


def test_elapsed_time_is_in_thirtieths_of_a_second_up_to_one_second() -> None:
    times_s = torch.tensor([[3600.0, 3600.1, 3600.1, 3605.0]], dtype=torch.float64)
    since, until = elapsed_frames(times_s)
    assert_close(since, torch.tensor([[1.0, 3.0, 0.0, 30.0]], dtype=torch.float64))
    assert_close(until, torch.tensor([[3.0, 0.0, 30.0, 1.0]], dtype=torch.float64))
    valid = torch.tensor([[True, True, False, False]])
    _, until = elapsed_frames(times_s, valid)
    assert_close(until[:, :2], torch.tensor([[3.0, 1.0]], dtype=torch.float64))


def test_every_weight_has_a_gradient() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG))
    model(*random_track(30)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        assert weight.grad.abs().max() > 0.0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shorter_number_types_stay_near_the_exact_result(dtype: torch.dtype) -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG), dtype)
    x, audio_condition, times_s = random_track(100)
    x, audio_condition = x.to(dtype), audio_condition.to(dtype)
    out = model(x, audio_condition, times_s)
    assert out.dtype == dtype
    expected = model.double()(x.double(), audio_condition.double(), times_s)
    error = (out.double() - expected).abs().max() / expected.abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 0.1)


def test_training_under_autocast_stays_near_the_exact_result() -> None:
    model = randomised(BiMamba(WIDTH, AUDIO_WIDTH, CONFIG), torch.float32)
    x, audio_condition, times_s = random_track(100)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x.float(), audio_condition.float(), times_s)
    out.square().sum().backward()
    assert out.dtype == torch.float32
    assert all(bool(weight.grad.isfinite().all()) for weight in model.parameters() if weight.grad is not None)
    expected = model.double()(x, audio_condition, times_s)
    assert (out.double() - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_head_width_that_does_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="head_width 7; choose a head_width that divides 16"):
        SelectiveScan(WIDTH, AUDIO_WIDTH, CONFIG.model_copy(update={"head_width": 7}))
