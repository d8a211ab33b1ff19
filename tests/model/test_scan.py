"""The three forms of the selective scan agree, and no input makes them overflow."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from auscan.model.scan import scan_chunked, scan_recurrence, scan_step

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Scan = Callable[..., tuple[Tensor, Tensor]]


def random_scan(
    frames: int,
    seed: int = 0,
    batch: int = 2,
    heads: int = 3,
    width: int = 4,
    state_width: int = 5,
    dtype: torch.dtype = torch.float64,
) -> Inputs:
    """x, dt, A, Bm, Cm, D and a state to start from."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    x = normal(batch, frames, heads, width)
    dt = torch.nn.functional.softplus(normal(batch, frames, heads))
    A = -torch.exp(normal(heads))
    Bm, Cm = normal(batch, frames, state_width), normal(batch, frames, state_width)
    return x, dt, A, Bm, Cm, normal(heads), normal(batch, heads, width, state_width)


def test_the_recurrence_is_the_sum_that_the_formula_spells_out() -> None:
    x, dt, A, Bm, Cm, D, _ = random_scan(frames=6)
    y, _ = scan_recurrence(x, dt, A, Bm, Cm, D)
    expected = D[:, None] * x
    for t in range(6):
        for s in range(t + 1):
            decay = torch.exp(A * dt[:, s + 1 : t + 1].sum(dim=1))  # [B, H]
            match = (Cm[:, t] * Bm[:, s]).sum(dim=-1)  # [B]
            expected[:, t] += (decay * dt[:, s] * match[:, None])[..., None] * x[:, s]
    assert_close(y, expected)


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 63, 64, 65, 200, 1000])
def test_the_chunked_scan_equals_the_recurrence(frames: int, with_state: bool) -> None:
    *inputs, state = random_scan(frames)
    start = state if with_state else None
    y, after = scan_chunked(*inputs, start)
    expected_y, expected_after = scan_recurrence(*inputs, start)
    assert_close(y, expected_y, rtol=1e-10, atol=1e-10)
    assert_close(after, expected_after, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(1, 40),
    chunk=st.integers(1, 50),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    state_width=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_forms_agree_on_any_shape_and_chunk_length(
    frames: int, chunk: int, batch: int, heads: int, width: int, state_width: int, seed: int
) -> None:
    inputs = random_scan(frames, seed, batch, heads, width, state_width)
    assert_close(scan_chunked(*inputs, chunk=chunk), scan_recurrence(*inputs), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(frames=st.integers(2, 150), cut=st.integers(1, 149), seed=st.integers(0, 1000))
@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
def test_a_split_with_the_state_carried_over_changes_nothing(
    scan: Scan, frames: int, cut: int, seed: int
) -> None:
    cut = min(cut, frames - 1)
    x, dt, A, Bm, Cm, D, state = random_scan(frames, seed)
    whole, after = scan(x, dt, A, Bm, Cm, D, state)
    first, middle = scan(x[:, :cut], dt[:, :cut], A, Bm[:, :cut], Cm[:, :cut], D, state)
    second, end = scan(x[:, cut:], dt[:, cut:], A, Bm[:, cut:], Cm[:, cut:], D, middle)
    assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)
    assert_close(end, after, rtol=1e-10, atol=1e-10)


def test_stepping_frame_by_frame_equals_the_chunked_scan() -> None:
    x, dt, A, Bm, Cm, D, state = random_scan(frames=70)
    expected, after = scan_chunked(x, dt, A, Bm, Cm, D, state)
    outputs = []
    for t in range(70):
        y, state = scan_step(x[:, t], dt[:, t], A, Bm[:, t], Cm[:, t], D, state)
        outputs.append(y)
    assert_close(torch.stack(outputs, dim=1), expected, rtol=1e-10, atol=1e-10)
    assert_close(state, after, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
def test_the_gradients_are_those_of_finite_differences(scan: Scan) -> None:
    inputs = random_scan(frames=5, batch=1, heads=2, width=2, state_width=2)
    chunk = {"chunk": 2} if scan is scan_chunked else {}
    leaves = [each.requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(lambda *parts: scan(*parts, **chunk), leaves)


def test_the_gradients_of_both_forms_agree_over_several_chunks() -> None:
    def gradients(scan: Scan) -> tuple[Tensor, ...]:
        leaves = [each.requires_grad_() for each in random_scan(frames=150)]
        y, after = scan(*leaves)
        loss = (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + after.square().sum()
        return torch.autograd.grad(loss, leaves)

    assert_close(gradients(scan_chunked), gradients(scan_recurrence), rtol=1e-9, atol=1e-9)


def test_float32_stays_close_to_float64() -> None:
    inputs = random_scan(frames=500)
    y, after = scan_chunked(*(each.float() for each in inputs))
    expected_y, expected_after = scan_recurrence(*inputs)
    assert y.dtype == after.dtype == torch.float32
    assert_close(y.double(), expected_y, rtol=1e-3, atol=1e-4)
    assert_close(after.double(), expected_after, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
@pytest.mark.parametrize("decay", [1e2, 1e5, 1e30])
def test_a_very_strong_decay_overflows_neither_values_nor_gradients(scan: Scan, decay: float) -> None:
    x, dt, A, *rest = (each.float().requires_grad_() for each in random_scan(frames=130))
    y, after = scan(x, dt, A * decay, *rest)
    gradients = torch.autograd.grad(y.sum() + after.sum(), [x, dt, A, *rest])
    assert all(bool(each.isfinite().all()) for each in (y, after, *gradients))


def test_one_hard_cut_does_not_blur_the_gentle_decays_after_it() -> None:
    """In float32 a running sum of -1e6 has a spacing of 0.06, which would be read as decay."""
    x, dt, A, Bm, Cm, D, state = random_scan(frames=60)
    dt = torch.full_like(dt, 0.01)
    dt[:, 3] = 1e6
    x[:, 3] = 0.0
    y, _ = scan_chunked(*(each.float() for each in (x, dt, A, Bm, Cm, D, state)))
    expected, _ = scan_recurrence(x, dt, A, Bm, Cm, D, state)
    assert_close(y.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
def test_bfloat16_inputs_give_finite_results_near_the_exact_ones(scan: Scan) -> None:
    inputs = random_scan(frames=200, dtype=torch.bfloat16)
    y, after = scan(*inputs)
    expected_y, expected_after = scan_recurrence(*(each.double() for each in inputs))
    assert y.dtype == torch.bfloat16
    assert after.dtype == torch.float32
    assert_close(y.double(), expected_y, rtol=1e-2, atol=1e-2)
    assert_close(after.double(), expected_after, rtol=1e-4, atol=1e-4)


def test_the_chunked_scan_is_near_the_exact_one_under_autocast() -> None:
    inputs = random_scan(frames=200)
    with torch.autocast("cpu", torch.bfloat16):
        y, after = scan_chunked(*(each.float() for each in inputs))
    expected_y, expected_after = scan_recurrence(*inputs)
    assert after.dtype == torch.float32
    assert (y.double() - expected_y).abs().max() < 0.02 * expected_y.abs().max()
    assert (after.double() - expected_after).abs().max() < 0.02 * expected_after.abs().max()
