"""The selective scan: a memory that forgets at its own pace, in three forms that must agree.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

This is Mamba-2's state space dual: one decay a head, B and C shared by all heads.

    scan_step         one frame; what a live stream carries on with
    scan_recurrence   the step in a loop: the definition, slow on purpose
    scan_chunked      the same numbers out of a few large matrix products (chunks.py): training, whole files

Axes: B clips, T frames, H heads, P channels of a head, N channels of the state.
Every exponent is a sum of dt A over some frames, so it is never positive and nothing can overflow.
The state and all sums are float32 at least (float64 stays float64); y has the type of x.
Not here: where dt, B and C come from (mamba.py).
"""

import math

import torch
from torch import Tensor

from auscan.model.chunks import Chunked

SHORTEST_CHUNK = 16
"""Below, matrices are too small to be multiplied fast."""


def scan_step(
    x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One frame of the recurrence.

    x: [B, H, P]   dt: [B, H], not negative   A: [H], negative   Bm, Cm: [B, N]   D: [H]
    state: [B, H, P, N], the memory before the frame
    Returns y [B, H, P] and the memory after the frame.
    """
    kind = _sum_type(x)
    values, dt, A, Bm, Cm, D, state = (each.to(kind) for each in (x, dt, A, Bm, Cm, D, state))
    drive = (dt[..., None] * values)[..., None] * Bm[:, None, None]  # [B, H, P, N]
    state = torch.exp(dt * A)[..., None, None] * state + drive  # [B, H, P, N]
    y = (state @ Cm[:, None, :, None]).squeeze(-1) + D[:, None] * values  # [B, H, P]
    return y.to(x.dtype), state


def scan_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, frame after frame; the chunked form is held to it.

    x: [B, T, H, P]   dt: [B, T, H], not negative   A: [H], negative   Bm, Cm: [B, T, N]   D: [H]
    state: [B, H, P, N], the memory before the first frame; None starts empty
    Returns y [B, T, H, P] and the memory after the last frame.
    """
    memory = _empty_state(x, Bm) if state is None else state
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(each.unbind(1) for each in (x, dt, Bm, Cm)), strict=True):
        y, memory = scan_step(x_t, dt_t, A, B_t, C_t, D, memory)
        outputs.append(y)
    return torch.stack(outputs, dim=1), memory


def scan_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bm: Tensor,
    Cm: Tensor,
    D: Tensor,
    state: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What `scan_recurrence` returns, at a cost linear in T, in chunks of about `chunk` frames.

    Shapes as in `scan_recurrence`; any T from 1 on, padding never shows.  The results do not depend on
    `chunk`; left out, a chunk's L x L decays take about as much room as its memory P x N, which measured
    fastest.  Gradients are written out (chunks.py) and can be taken once.
    """
    kind = _sum_type(x)
    memory = _empty_state(x, Bm) if state is None else state
    length = max(SHORTEST_CHUNK, math.isqrt(x.shape[3] * Bm.shape[2])) if chunk is None else chunk
    inputs = (each.to(kind) for each in (x, dt, A, Bm, Cm, D, memory))
    y, memory = Chunked.apply(*inputs, length)  # type: ignore[no-untyped-call]
    return y.to(x.dtype), memory


def _empty_state(x: Tensor, Bm: Tensor) -> Tensor:
    """[B, H, P, N] zeros for x [B, T, H, P] and Bm [B, T, N]."""
    batch, _, heads, width = x.shape
    return torch.zeros(batch, heads, width, Bm.shape[-1], dtype=_sum_type(x), device=x.device)


def _sum_type(x: Tensor) -> torch.dtype:
    """The type sums are kept in: float32 for anything shorter."""
    return torch.promote_types(x.dtype, torch.float32)
