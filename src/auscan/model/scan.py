"""Compute the selective scan of Mamba-2 in three equivalent forms.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

This is the state space dual of Mamba-2 (Dao and Gu 2024): one decay per head, B and C shared by all heads.

    scan_step         one frame with carried state
    scan_recurrence   the step in a loop: the definition, slow on purpose
    scan_chunked      the same values from a few large matrix products, for training and inference

Every exponent is a sum of dt A over some frames, so it is never positive and nothing can overflow. The state
and all sums are at least float32 (float64 stays float64); y has the type of x.

The chunked form splits the frames into chunks of L. With s the running sum of dt A inside a chunk and
U = dt x, the output of a chunk (without the skip D x) and the state after it are

    Y = [decay * C B^T, exp(s) C] @ [U; h_before]        decay_ts = exp(s_t - s_s) for s <= t, otherwise 0
    h_after = exp(s_L) h_before + (exp(s_L - s) B)^T U

The step from h_before to h_after is such a decay one level up, so the states of K chunks are one product,
too. A pass computes K chunks together (about `PASS_FRAMES` frames); a loop runs pass after pass, so that the
intermediate tensors fit the cache and are not kept. For the gradient only the state before each pass is kept,
and the rest is recomputed.

Axes: B clips, T frames, H heads, P channels of a head, N channels of the state; S frames of a pass. Inside
the chunked form tensors are ordered [B, H, K, ...] and the state is [N, P], as the matrix products need it.

Inputs: x [B, T, H, P], dt [B, T, H], A and D [H], B and C [B, T, N], state [B, H, P, N].
Returns: y [B, T, H, P] and the state after the last frame [B, H, P, N].
See also: mamba.py (computes dt, B and C).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from auscan.core.environment import chunk_slices

SHORTEST_CHUNK = 16
"""Minimal length of a chunk in frames; the products of smaller matrices are slow."""
MIN_LOG_DECAY = -100.0
"""Lower limit of dt A of a frame. exp(-100) is negligible, and without the limit one large step would round
away the small decays after it in the float32 running sum."""
PASS_FRAMES = 1024
"""Frames of a pass: more would not fit the cache, and fewer would be dominated by call overhead."""


def scan_step(
    x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute one frame of the recurrence.

    x: [B, H, P]   dt: [B, H], not negative   A: [H], negative   Bm, Cm: [B, N]   D: [H]
    state: [B, H, P, N] before the frame
    Returns y [B, H, P] and the state after the frame.
    """
    dtype = _sum_dtype(x)
    values, dt, A, Bm, Cm, D, state = (each.to(dtype) for each in (x, dt, A, Bm, Cm, D, state))
    drive = (dt[..., None] * values)[..., None] * Bm[:, None, None]  # [B, H, P, N]
    state = torch.exp(dt * A)[..., None, None] * state + drive  # [B, H, P, N]
    y = (state @ Cm[:, None, :, None]).squeeze(-1) + D[:, None] * values  # [B, H, P]
    return y.to(x.dtype), state


def scan_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the scan frame by frame. This is the definition that tests compare the chunked form with.

    x: [B, T, H, P]   dt: [B, T, H], not negative   A: [H], negative   Bm, Cm: [B, T, N]   D: [H]
    state: [B, H, P, N] before the first frame; None means zeros
    Returns y [B, T, H, P] and the state after the last frame.
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
    """Compute `scan_recurrence` in chunks of about `chunk` frames, at a cost linear in T.

    Shapes as in `scan_recurrence`; T >= 1. Results do not depend on `chunk`. The default makes the L x L
    decays of a chunk about as large as its state P x N, which measured fastest. The gradient is implemented
    in `ChunkedScan` and is differentiable once.
    """
    dtype = _sum_dtype(x)
    memory = _empty_state(x, Bm) if state is None else state
    length = max(SHORTEST_CHUNK, math.isqrt(x.shape[3] * Bm.shape[2])) if chunk is None else chunk
    inputs = (each.to(dtype) for each in (x, dt, A, Bm, Cm, D, memory))
    y, memory = ChunkedScan.apply(*inputs, length)  # type: ignore[no-untyped-call]
    return y.to(x.dtype), memory


def _empty_state(x: Tensor, Bm: Tensor) -> Tensor:
    """Return a zero state [B, H, P, N] for x [B, T, H, P] and Bm [B, T, N]."""
    batch, _, heads, width = x.shape
    return torch.zeros(batch, heads, width, Bm.shape[-1], dtype=_sum_dtype(x), device=x.device)


def _sum_dtype(x: Tensor) -> torch.dtype:
    """Return the type of sums: float32, or float64 for float64 inputs."""
    return torch.promote_types(x.dtype, torch.float32)


class ScanInputs(NamedTuple):
    """Inputs of a scan, of a whole sequence or of one pass."""

    x: Tensor
    """[B, T, H, P]"""
    dt: Tensor
    """[B, T, H]"""
    A: Tensor
    """[H]"""
    Bm: Tensor
    """[B, T, N]"""
    Cm: Tensor
    """[B, T, N]"""
    D: Tensor
    """[H]"""


class ChunkedScan(torch.autograd.Function):
    """Autograd function: `apply(x, dt, A, Bm, Cm, D, state [B, H, P, N], chunk)` -> y, state after."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        """Compute y and the state after, pass by pass; keep the state before each pass."""
        inputs, memory, chunk = ScanInputs(*args[:6]), args[6].transpose(2, 3), args[7]
        y, before = torch.empty_like(inputs.x), []
        with torch.autocast(y.device.type, enabled=False):
            for span in _pass_slices(y.shape[1], chunk):
                before.append(memory)
                sequence = _run_chunks(_slice_frames(inputs, span), memory, chunk)
                torch.addcmul(_outputs(sequence), inputs.x[:, span], _per_channel(inputs), out=y[:, span])
                memory = sequence.memory[:, :, -1].clone()  # a view would keep the states of all chunks alive
        ctx.save_for_backward(*inputs, y, *before)
        ctx.chunk = chunk
        return y, memory.transpose(2, 3).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dmemory: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients, from the last pass to the first."""
        inputs, y, before = ScanInputs(*ctx.saved_tensors[:6]), ctx.saved_tensors[6], ctx.saved_tensors[7:]
        grads, dmemory = ScanInputs(*map(torch.zeros_like, inputs)), dmemory.transpose(2, 3)
        with torch.autocast(y.device.type, enabled=False):
            for span, memory in reversed(list(zip(_pass_slices(y.shape[1], ctx.chunk), before, strict=True))):
                sequence = _run_chunks(_slice_frames(inputs, span), memory, ctx.chunk)
                dmemory = _gradients(
                    sequence,
                    _slice_frames(inputs, span),
                    y[:, span],
                    dy[:, span],
                    dmemory,
                    _slice_frames(grads, span),
                )
        return *grads, dmemory.transpose(2, 3), None


class ChunkedSequence(NamedTuple):
    """S frames of a pass in K chunks of L; padding of the last chunk has dt 0."""

    values: Tensor
    """x [B, K, L, H, P]."""
    steps: Tensor
    """dt [B, K, L, H]."""
    inputs: Tensor
    """B [B, K, L, N]."""
    outputs: Tensor
    """C [B, K, L, N]."""
    sums: Tensor
    """Running sum of dt A from the start of the chunk [B, H, K, L], decreasing along L."""
    sources: Tensor
    """Right factor of a chunk's product [B, H, K, L + N, P]: dt x, below it the state before the chunk."""
    write_weights: Tensor
    """B times the decay until the end of the chunk [B, H, K, L, N]."""
    chunk_decay: Tensor
    """Decay from the start of chunk j to the start of chunk k [B, H, K + 1, K + 1], row k and column j."""
    memory: Tensor
    """State before each chunk and after the last one [B, H, K + 1, N, P]."""
    frames: int
    """Number of frames S."""


def _run_chunks(inputs: ScanInputs, memory: Tensor, chunk: int) -> ChunkedSequence:
    """Split a pass into chunks and compute the state before each of them.

    memory: [B, H, N, P], state before the pass
    """
    frames, width = inputs.x.shape[1], inputs.Bm.shape[2]
    along = (inputs.x, inputs.dt, inputs.Bm, inputs.Cm)
    values, steps, input_weights, output_weights = (_fold(each, chunk) for each in along)
    sums = (steps * inputs.A).clamp_min_(MIN_LOG_DECAY).permute(0, 3, 1, 2).contiguous().cumsum(3)
    batch, heads, count, length = sums.shape
    sources = values.new_empty(batch, heads, count, length + width, values.shape[4])
    drive = sources[..., :length, :]
    torch.mul(values.permute(0, 3, 1, 2, 4), steps.permute(0, 3, 1, 2)[..., None], out=drive)

    write_weights = input_weights[:, None] * (sums[..., -1:] - sums).exp_()[..., None]  # [B, H, K, L, N]
    chunk_decay = _decay(F.pad(sums[..., -1].cumsum(2), (1, 0))).tril_()  # [B, H, K + 1, K + 1]
    added = torch.cat(
        [memory[:, :, None], write_weights.transpose(3, 4) @ drive], dim=2
    )  # [B, H, K + 1, N, P]
    through = (chunk_decay @ added.flatten(3)).view_as(added)
    sources[..., length:, :] = through[:, :, :-1]
    return ChunkedSequence(
        values,
        steps,
        input_weights,
        output_weights,
        sums,
        sources,
        write_weights,
        chunk_decay,
        through,
        frames,
    )


def _outputs(sequence: ChunkedSequence) -> Tensor:
    """Return the output of a pass without the skip: [B, S, H, P]."""
    length, width = sequence.write_weights.shape[3:]
    match = (sequence.outputs @ sequence.inputs.transpose(2, 3)).tril_()  # [B, K, L, L]
    read_weights = sequence.sums.new_empty(*sequence.sums.shape, length + width)  # [B, H, K, L, L + N]
    torch.mul(_decay(sequence.sums), match[:, None], out=read_weights[..., :length])
    torch.mul(sequence.outputs[:, None], sequence.sums.exp()[..., None], out=read_weights[..., length:])
    return (read_weights @ sequence.sources).flatten(2, 3).transpose(1, 2)[:, : sequence.frames]


def _gradients(
    sequence: ChunkedSequence, inputs: ScanInputs, y: Tensor, dy: Tensor, dmemory: Tensor, into: ScanInputs
) -> Tensor:
    """Write the gradients of a pass to `into` (for A and D: add them); return that of the state before the
    pass.

    y, dy: [B, S, H, P]    dmemory: [B, H, N, P], gradient of the state after the pass
    The products are those of the forward pass, transposed: row s is the source frame, column t the target
    frame.
    """
    length, width = sequence.write_weights.shape[3:]
    dy_chunks = _fold(dy, length)  # [B, K, L, H, P]
    from_start = sequence.sums.exp()[..., None]  # [B, H, K, L, 1]
    targets = torch.empty_like(sequence.sources)  # dy, and below it the gradient of the state after the chunk
    dy_rows = targets[..., :length, :]
    dy_rows.copy_(dy_chunks.permute(0, 3, 1, 2, 4))
    read_weights = sequence.outputs[:, None] * from_start  # [B, H, K, L, N]
    dmemories = torch.cat(
        [read_weights.transpose(3, 4) @ dy_rows, dmemory[:, :, None]], dim=2
    )  # [B, H, K + 1, N, P]
    dmemories = (sequence.chunk_decay.transpose(2, 3) @ dmemories.flatten(3)).view_as(dmemories)
    targets[..., length:, :] = dmemories[:, :, 1:]

    decay = _decay(-sequence.sums)  # [B, H, K, L, L], from row s to column t
    match = (sequence.inputs @ sequence.outputs.transpose(2, 3)).triu_()  # [B, K, L, L]
    send_weights = decay.new_empty(*sequence.sums.shape, length + width)  # [B, H, K, L, L + N]
    torch.mul(decay, match[:, None], out=send_weights[..., :length])
    send_weights[..., length:] = sequence.write_weights
    ddrive = (send_weights @ targets).permute(0, 2, 3, 1, 4)  # [B, K, L, H, P]

    dsend_weights = sequence.sources[..., :length, :] @ targets.transpose(3, 4)  # [B, H, K, L, L + N]
    dmatch = dsend_weights[..., :length].mul_(decay).sum(1).triu_()  # [B, K, L, L]
    to_end = (sequence.sums[..., -1:] - sequence.sums).exp_()[..., None]
    dwrite_weights = dsend_weights[..., length:].mul_(to_end).sum(1)  # [B, K, L, N]
    dread_weights = (dy_rows @ sequence.sources[..., length:, :].transpose(3, 4)).mul_(from_start).sum(1)
    _copy_frames(into.Bm, dmatch @ sequence.outputs + dwrite_weights)
    _copy_frames(into.Cm, dmatch.transpose(2, 3) @ sequence.inputs + dread_weights)

    dlast_sum = (dmemories[:, :, 1:] * sequence.memory[:, :, 1:]).sum((3, 4)).transpose(1, 2)  # [B, K, H]
    _step_and_value_gradients(sequence, inputs, y, dy, ddrive, dlast_sum, into)
    return dmemories[:, :, 0]


def _step_and_value_gradients(
    sequence: ChunkedSequence,
    inputs: ScanInputs,
    y: Tensor,
    dy: Tensor,
    ddrive: Tensor,
    dlast_sum: Tensor,
    into: ScanInputs,
) -> None:
    """Compute the gradients of x, dt, A and D.

    A running sum s_t scales everything that frame t reads by exp(s_t), and everything that it writes by
    exp(-s_t). So its gradient is (output of t) * dy minus (input of t) * (gradient of that input). The last
    sum of a chunk also scales the state after the chunk (`dlast_sum`, [B, K, H]). This needs no second
    product over L x L.
    """
    length = sequence.write_weights.shape[3]
    skipped = (dy * inputs.x).sum(3)  # [B, S, H]
    dsums_read = _fold((dy * y).sum(3) - inputs.D * skipped, length)  # [B, K, L, H]
    dsteps = (sequence.values * ddrive).sum(4)  # [B, K, L, H], through dt x
    dsums = dsums_read - sequence.steps * dsteps
    dsums[:, :, -1] += dlast_sum
    exponents = dsums.flip(2).cumsum_(2).flip(2)  # [B, K, L, H], gradient of dt A
    exponents.masked_fill_(sequence.steps * inputs.A < MIN_LOG_DECAY, 0.0)
    _copy_frames(into.dt, dsteps + exponents * inputs.A)
    into.A.add_((exponents * sequence.steps).sum((0, 1, 2)))
    into.D.add_(skipped.sum((0, 1)))
    torch.addcmul(
        (ddrive * sequence.steps[..., None]).flatten(1, 2)[:, : sequence.frames],
        dy,
        _per_channel(inputs),
        out=into.x,
    )


def _decay(sums: Tensor) -> Tensor:
    """Return exp(min(s_t - s_s, 0)) for all pairs: [..., L] -> [..., L, L], row t and column s.

    Above the diagonal the difference is positive and could overflow, hence the limit. The caller masks these
    values.
    """
    return (sums[..., :, None] - sums[..., None, :]).clamp_max_(0.0).exp_()


def _pass_slices(frames: int, chunk: int) -> list[slice]:
    """Return the slices of the passes: whole chunks of about `PASS_FRAMES` frames in total, then the rest."""
    return chunk_slices(frames, max(1, PASS_FRAMES // chunk) * chunk)


def _slice_frames(inputs: ScanInputs, span: slice) -> ScanInputs:
    """Return the inputs of some frames."""
    x, dt, A, Bm, Cm, D = inputs
    return ScanInputs(x[:, span], dt[:, span], A, Bm[:, span], Cm[:, span], D)


def _fold(series: Tensor, chunk: int) -> Tensor:
    """Split into chunks of equal length L <= `chunk`, padded with zeros: [B, S, ...] -> [B, K, L, ...]."""
    frames = series.shape[1]
    count = -(-frames // chunk)
    length = -(-frames // count)
    missing = count * length - frames
    if missing:
        series = F.pad(series, (0, 0) * (series.dim() - 2) + (0, missing))
    return torch.unflatten(series, 1, (count, length))


def _copy_frames(into: Tensor, chunks: Tensor) -> None:
    """Copy chunks [B, K, L, ...] to `into` [B, S, ...], without the padding."""
    into.copy_(chunks.flatten(1, 2)[:, : into.shape[1]])


def _per_channel(inputs: ScanInputs) -> Tensor:
    """Return D for every channel [H, P], contiguous, because a broadcast view is slower to read."""
    return inputs.D[:, None].expand(inputs.x.shape[2:]).contiguous()
