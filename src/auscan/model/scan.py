"""The selective scan: a memory that forgets at its own pace, in three forms that must agree.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

This is Mamba-2's state space dual: one decay a head, B and C shared by all heads.

    scan_step         one frame; what a live stream carries on with
    scan_recurrence   the step in a loop: the definition, slow on purpose
    scan_chunked      the same numbers out of a few large matrix products: training and whole files

Axes: B clips, T frames, H heads, P channels of a head, N channels of the state; K chunks of L frames.
Every exponent is a sum of dt A over some frames, so it is never positive and nothing can overflow.
The state and all sums are float32 at least (float64 stays float64); y has the type of x.
Not here: where dt, B and C come from (mamba.py).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FORGOTTEN = -100.0
"""A frame's dt A is cut off here in the chunked form: exp(-100) is nothing beside what comes after, and
one hard cut cannot blur, by float32 rounding of the running sum, the gentle decays that follow it."""


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
    for t in range(x.shape[1]):
        y, memory = scan_step(x[:, t], dt[:, t], A, Bm[:, t], Cm[:, t], D, memory)
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
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """What `scan_recurrence` returns, at a cost linear in T, in chunks of `chunk` frames.

    Inside a chunk every frame reads every earlier one by a matrix product; between chunks only the
    state is handed on.  Shapes as in `scan_recurrence`; any T from 1 on, padding never shows.
    """
    kind, frames = _sum_type(x), x.shape[1]
    length = min(chunk, frames)
    values, steps, inputs, outputs = (_fold(each.to(kind), length) for each in (x, dt, Bm, Cm))
    heads, width = values.shape[3:]
    sums = (steps * A.to(kind)).clamp_min(FORGOTTEN).cumsum(dim=2)  # [B, K, L, H], falling along L
    drive = values * steps[..., None]  # [B, K, L, H, P]
    within = _within_chunks(sums, drive, inputs, outputs)  # [B, K, L, H, P]

    to_end = torch.exp(sums[:, :, -1:] - sums)[..., None]  # [B, K, L, H, 1]
    added = (drive * to_end).flatten(3).transpose(2, 3) @ inputs  # [B, K, H * P, N]
    kept = torch.exp(sums[:, :, -1]).repeat_interleave(width, dim=2)[..., None]  # [B, K, H * P, 1]
    memory = (_empty_state(x, Bm) if state is None else state.to(kind)).flatten(1, 2)  # [B, H * P, N]
    before = []
    for k in range(added.shape[1]):
        before.append(memory)
        memory = kept[:, k] * memory + added[:, k]  # [B, H * P, N]

    across = outputs @ torch.stack(before, dim=1).transpose(2, 3)  # [B, K, L, H * P]
    across = torch.unflatten(across, 3, (heads, width)) * torch.exp(sums)[..., None]  # [B, K, L, H, P]
    y = (within + across).flatten(1, 2)[:, :frames] + D.to(kind)[:, None] * x  # [B, T, H, P]
    return y.to(x.dtype), torch.unflatten(memory, 1, (heads, width))


def _within_chunks(sums: Tensor, drive: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """What each frame reads of the frames of its own chunk up to itself: [B, K, L, H, P].

    sums: [B, K, L, H]   drive: [B, K, L, H, P]   inputs (B), outputs (C): [B, K, L, N]
    """
    length = sums.shape[2]
    falling = sums.transpose(2, 3)  # [B, K, H, L]
    gaps = falling[..., :, None] - falling[..., None, :]  # [B, K, H, L, L], dt A summed from column to row
    later = torch.ones(length, length, dtype=torch.bool, device=sums.device).triu(1)  # [L, L]
    # Masked before the exponential: the gap to a later frame is positive and could overflow.
    decay = gaps.masked_fill(later, -torch.inf).exp()  # [B, K, H, L, L]
    match = outputs @ inputs.transpose(2, 3)  # [B, K, L, L]
    return ((decay * match[:, :, None]) @ drive.transpose(2, 3)).transpose(2, 3)  # [B, K, L, H, P]


def _fold(series: Tensor, length: int) -> Tensor:
    """[B, T, ...] -> [B, K, L, ...]; the last chunk is filled with zeros, which drive and forget nothing."""
    missing = -series.shape[1] % length
    padded = F.pad(series, (0, 0) * (series.dim() - 2) + (0, missing))
    return torch.unflatten(padded, 1, (-1, length))


def _empty_state(x: Tensor, Bm: Tensor) -> Tensor:
    """[B, H, P, N] zeros for x [B, T, H, P] and Bm [B, T, N]."""
    batch, _, heads, width = x.shape
    return torch.zeros(batch, heads, width, Bm.shape[-1], dtype=_sum_type(x), device=x.device)


def _sum_type(x: Tensor) -> torch.dtype:
    """The type sums are kept in: float32 for anything shorter."""
    return torch.promote_types(x.dtype, torch.float32)
