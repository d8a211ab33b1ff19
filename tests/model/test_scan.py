"""Test that the three forms of the selective scan agree and that no input overflows."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from auscan.model.scan import PASS_FRAMES, scan_chunked, scan_recurrence, scan_step

ScanInputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Values = tuple[Tensor, Tensor]
Scan = Callable[..., Values]


def random_scan(
    frames: int,
    seed: int = 0,
    batch: int = 2,
    heads: int = 3,
    width: int = 4,
    state_width: int = 5,
    dtype: torch.dtype = torch.float64,
) -> ScanInputs:
    """Return random x, dt, A, Bm, Cm, D and an initial state."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    x = normal(batch, frames, heads, width)
    dt = torch.nn.functional.softplus(normal(batch, frames, heads))
    A = -torch.exp(normal(heads))
    Bm, Cm = normal(batch, frames, state_width), normal(batch, frames, state_width)
    return x, dt, A, Bm, Cm, normal(heads), normal(batch, heads, width, state_width)


def mixture(y: Tensor, after: Tensor) -> Tensor:
    """Return a scalar that depends on every output and on the state after."""
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return (y * weights).sum() + after.square().sum() / 2


def values_and_gradients(scan: Scan, inputs: ScanInputs, with_state: bool = True) -> dict[str, Tensor]:
    """Return y, the state after, and the gradient of `mixture` of both with respect to each input."""
    leaves = [each.detach().requires_grad_() for each in (inputs if with_state else inputs[:-1])]
    y, after = scan(*leaves)
    loss = mixture(y, after)
    names = ["dx", "ddt", "dA", "dB", "dC", "dD", "dstate"][: len(leaves)]
    gradients = torch.autograd.grad(loss, leaves)
    return {"y": y.detach(), "after": after.detach(), **dict(zip(names, gradients, strict=True))}


def size_of_decay_summands(inputs: ScanInputs, with_state: bool = True) -> float:
    """Return the largest sum of absolute summands of dA, in float64.

    The gradient of A is a sum over frames and may cancel to 0.
    """
    x, dt, A, Bm, Cm, D, memory = (each.detach().double() for each in inputs)
    decays = A.expand_as(dt).clone().requires_grad_()  # [B, T, H], a separate decay for each frame
    memory, outputs = memory if with_state else torch.zeros_like(memory), []
    for t in range(x.shape[1]):
        y, memory = scan_step(x[:, t], dt[:, t], decays[:, t], Bm[:, t], Cm[:, t], D, memory)
        outputs.append(y)
    (summands,) = torch.autograd.grad(mixture(torch.stack(outputs, dim=1), memory), decays)
    return float(summands.abs().sum((0, 1)).max())


def assert_near(
    actual: dict[str, Tensor], expected: dict[str, Tensor], share: float, summands: float
) -> None:
    """Assert that no value differs by more than `share` of the largest value of its tensor.

    dA is compared with the largest of all gradients, or with a tenth of its summands if that is larger
    (`size_of_decay_summands`).
    """
    gradients = max(float(each.abs().max()) for name, each in expected.items() if name.startswith("d"))
    for name, right in expected.items():
        largest = max(gradients, summands / 10) if name == "dA" else float(right.abs().max())
        off = float((actual[name].double() - right.double()).abs().max())
        assert off <= share * largest, f"{name}: {off / largest:.1e}"


def sizes_of_summands(inputs: ScanInputs, expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the size of the summands of each output and gradient, in float64.

    Decays are positive, so with absolute inputs and output gradients no sum cancels, and each result is the
    sum of the absolute summands. The gradients of dt and A are differences of such sums. They are compared
    with the largest of all gradients or a tenth of the summands of dA, as in `assert_near`.
    """
    x, dt, A, *rest = (each.detach().double() for each in inputs)
    names = ("dx", "dB", "dC", "dD", "dstate")
    leaves = [each.abs().requires_grad_() for each in (x, *rest)]
    y, after = scan_recurrence(leaves[0], dt, A, *leaves[1:])
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    loss = (y * weights.abs()).sum() + (after * expected["after"].abs()).sum()
    gradients = dict(zip(names, torch.autograd.grad(loss, leaves), strict=True))
    sums = {"y": y.detach(), "after": after.detach(), **gradients}
    sizes = {name: float(each.max()) for name, each in sums.items()}
    largest_gradient = max(float(each.abs().max()) for name, each in expected.items() if name.startswith("d"))
    gradient_sizes = [size for name, size in sizes.items() if name.startswith("d")]
    largest = max(largest_gradient, *gradient_sizes, size_of_decay_summands(inputs) / 10)
    return {**sizes, "ddt": largest, "dA": largest}


def assert_near_beside_summands(
    actual: dict[str, Tensor], expected: dict[str, Tensor], inputs: ScanInputs
) -> None:
    """Assert that no float32 value differs by more than 2e-5 of the size of its summands."""
    for name, size in sizes_of_summands(inputs, expected).items():
        error = float((actual[name].double() - expected[name].double()).abs().max())
        assert error <= 2e-5 * size, f"{name}: {error / size:.1e}"


def test_the_recurrence_equals_the_sum_of_its_definition() -> None:
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
@pytest.mark.parametrize("frames", [1, 2, 63, 64, 65, 200, 1000, PASS_FRAMES + 1, 2 * PASS_FRAMES + 100])
def test_the_chunked_scan_equals_the_recurrence(frames: int, with_state: bool) -> None:
    *inputs, state = random_scan(frames)
    start = state if with_state else None
    y, after = scan_chunked(*inputs, start)
    expected_y, expected_after = scan_recurrence(*inputs, start)
    assert_close(y, expected_y, rtol=1e-10, atol=1e-10)
    assert_close(after, expected_after, rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
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


@settings(max_examples=40)
@given(frames=st.integers(2, 150), cut=st.integers(1, 149), seed=st.integers(0, 1000))
@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
def test_a_split_with_carried_state_does_not_change_the_results(
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


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("frames", [1, 63, 64, 65, 1000, PASS_FRAMES + 1])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_values_and_gradients_are_exact_to_the_type(
    dtype: torch.dtype, share: float, frames: int, with_state: bool
) -> None:
    """The reference is the recurrence in float64. The float32 recurrence has errors of the same size."""
    inputs = random_scan(frames, dtype=dtype)
    exact = tuple(each.double() for each in inputs)
    chunked = values_and_gradients(scan_chunked, inputs, with_state)
    expected = values_and_gradients(scan_recurrence, exact, with_state)
    assert_near(chunked, expected, share, size_of_decay_summands(inputs, with_state))


@pytest.mark.slow
@settings(max_examples=30)
@given(
    frames=st.integers(1, 200),
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    width=st.integers(1, 40),
    state_width=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_are_exact_on_any_shape(
    frames: int, batch: int, heads: int, width: int, state_width: int, seed: int
) -> None:
    inputs = random_scan(frames, seed, batch, heads, width, state_width)
    expected = values_and_gradients(scan_recurrence, inputs)
    assert_near(values_and_gradients(scan_chunked, inputs), expected, 1e-10, size_of_decay_summands(inputs))


@pytest.mark.slow
@settings(max_examples=30)
@given(
    frames=st.integers(1, 200),
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    width=st.integers(1, 40),
    state_width=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
@example(frames=5, batch=1, heads=1, width=1, state_width=1, seed=0)
def test_rounding_errors_in_float32_are_small_beside_the_summands_on_any_shape(
    frames: int, batch: int, heads: int, width: int, state_width: int, seed: int
) -> None:
    """In float32 the error of a sum is bounded by its summands and not by its value.

    In the explicit example the gradient of the state is 0.0024 and its summands are near 1, so a correctly
    rounded sum may be off by 5e-5 of its value.
    """
    inputs = random_scan(frames, seed, batch, heads, width, state_width, torch.float32)
    actual = values_and_gradients(scan_chunked, inputs)
    expected = values_and_gradients(scan_recurrence, tuple(each.double() for each in inputs))
    assert_near_beside_summands(actual, expected, inputs)


@pytest.mark.slow
@settings(max_examples=10)
@given(cut=st.integers(1, 1099), seed=st.integers(0, 1000))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_split_changes_neither_values_nor_gradients(dtype: torch.dtype, cut: int, seed: int) -> None:
    def in_two(x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor) -> Values:
        first, state = scan_chunked(x[:, :cut], dt[:, :cut], A, Bm[:, :cut], Cm[:, :cut], D, state)
        second, state = scan_chunked(x[:, cut:], dt[:, cut:], A, Bm[:, cut:], Cm[:, cut:], D, state)
        return torch.cat([first, second], dim=1), state

    inputs = random_scan(1100, seed, batch=1, dtype=dtype)
    whole, split = values_and_gradients(scan_chunked, inputs), values_and_gradients(in_two, inputs)
    if dtype == torch.float64:
        assert_near(split, whole, 1e-10, size_of_decay_summands(inputs))
    else:
        assert_near_beside_summands(split, whole, inputs)


def test_gradients_of_some_of_the_inputs_can_be_taken() -> None:
    x, *rest = random_scan(frames=70)
    y, _ = scan_chunked(x.requires_grad_(), *rest)
    expected, _ = scan_recurrence(x, *rest)
    assert_close(
        torch.autograd.grad(y.sum(), x), torch.autograd.grad(expected.sum(), x), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("scan", [scan_recurrence, scan_chunked])
@pytest.mark.parametrize("decay", [1e2, 1e5, 1e30])
def test_a_very_strong_decay_overflows_neither_values_nor_gradients(scan: Scan, decay: float) -> None:
    x, dt, A, *rest = (each.float().requires_grad_() for each in random_scan(frames=130))
    y, after = scan(x, dt, A * decay, *rest)
    gradients = torch.autograd.grad(y.sum() + after.sum(), [x, dt, A, *rest])
    assert all(bool(each.isfinite().all()) for each in (y, after, *gradients))


def test_one_large_step_does_not_round_away_the_small_decays_after_it() -> None:
    """In float32 a running sum of -1e6 has a spacing of 0.06, which would act as a decay."""
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
