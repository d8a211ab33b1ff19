"""The selective scan: a memory that forgets at its own pace, in three forms that must agree.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

This is Mamba-2's state space dual: one decay a head, B and C shared by all heads.

    scan_step         one frame; what a live stream carries on with
    scan_recurrence   the step in a loop: the definition, slow on purpose
    scan_chunked      the same numbers from a few large matrix products: training, whole files

Axes: B clips, T frames, H heads, P channels of a head, N channels of the state.
Every exponent is a sum of dt A over some frames, so it is never positive and nothing can overflow.
The state and all sums are float32 at least (float64 stays float64); y has the type of x.
Not here: where dt, B and C come from (mamba.py).

The selective scan as a few large matrix products, with its gradient written out.

Frames are cut into chunks of L.  With s the running sum of dt A inside a chunk and u = dt x, a chunk reads

    Y = [decay * C B^T, exp(s) C] @ [U; h_before]        decay_ts = exp(s_t - s_s) for s <= t, otherwise 0

in one product a head and hands on h_after = exp(s_L) h_before + (exp(s_L - s) B)^T U.  The hand-on from
chunk to chunk is such a decay again, one level up: a product over the K chunks of a stretch.  Stretch
follows stretch in a plain loop, so that what lies between inputs and result fits the cache and is never
kept: the gradient keeps the memory at the stretches' beginnings and computes the rest again.

In: float32 or float64 tensors in the axes of scan.py.  Out: y [B, T, H, P] and the memory after [B, H, P, N].
Everything inside is ordered [B, H, K, ...] and a memory is [N, P], as the products want it.
Not here: what the scan means, its other forms and types shorter than float32 (scan.py).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from auscan.core.chunking import chunk_slices

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
    dtype = _sum_dtype(x)
    values, dt, A, Bm, Cm, D, state = (each.to(dtype) for each in (x, dt, A, Bm, Cm, D, state))
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
    fastest.  Gradients are written out (`ChunkedScan`) and can be taken once.
    """
    dtype = _sum_dtype(x)
    memory = _empty_state(x, Bm) if state is None else state
    length = max(SHORTEST_CHUNK, math.isqrt(x.shape[3] * Bm.shape[2])) if chunk is None else chunk
    inputs = (each.to(dtype) for each in (x, dt, A, Bm, Cm, D, memory))
    y, memory = ChunkedScan.apply(*inputs, length)  # type: ignore[no-untyped-call]
    return y.to(x.dtype), memory


def _empty_state(x: Tensor, Bm: Tensor) -> Tensor:
    """[B, H, P, N] zeros for x [B, T, H, P] and Bm [B, T, N]."""
    batch, _, heads, width = x.shape
    return torch.zeros(batch, heads, width, Bm.shape[-1], dtype=_sum_dtype(x), device=x.device)


def _sum_dtype(x: Tensor) -> torch.dtype:
    """The type sums are kept in: float32 for anything shorter."""
    return torch.promote_types(x.dtype, torch.float32)


MIN_LOG_DECAY = -100.0
"""A frame's dt A is cut off here: exp(-100) is nothing beside what comes after, and one hard cut cannot
blur, by float32 rounding of the running sum, the gentle decays that follow it."""
PASS_FRAMES = 1024
"""Frames that are worked on together: more than that no longer fits the cache, fewer are not worth a call."""


class ScanInputs(NamedTuple):
    """The inputs of a scan, of a whole sequence or of a stretch of it."""

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
    """`ChunkedScan.apply(x, dt, A, Bm, Cm, D, state [B, H, P, N], chunk)` -> y, the memory after."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        """Stretch after stretch."""
        inputs, memory, chunk = ScanInputs(*args[:6]), args[6].transpose(2, 3), args[7]
        y, before = torch.empty_like(inputs.x), []
        with torch.autocast(y.device.type, enabled=False):
            for span in _pass_slices(y.shape[1], chunk):
                before.append(memory)
                sequence = _run_chunks(_slice_frames(inputs, span), memory, chunk)
                torch.addcmul(_outputs(sequence), inputs.x[:, span], _per_channel(inputs), out=y[:, span])
                memory = sequence.memory[:, :, -1].clone()  # a view would keep those of all chunks
        ctx.save_for_backward(*inputs, y, *before)
        ctx.chunk = chunk
        return y, memory.transpose(2, 3).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dmemory: Tensor) -> tuple[Tensor | None, ...]:
        """The same stretches from the last to the first."""
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
    """A stretch of S frames cut into K chunks of L; frames that fill up the last drive and forget nothing."""

    values: Tensor
    """[B, K, L, H, P] x"""
    steps: Tensor
    """[B, K, L, H] dt"""
    inputs: Tensor
    """[B, K, L, N] B"""
    outputs: Tensor
    """[B, K, L, N] C"""
    sums: Tensor
    """[B, H, K, L] dt A summed from the beginning of the chunk, falling along L"""
    sources: Tensor
    """[B, H, K, L + N, P] what a chunk reads from: its own dt x, and below it the memory before it"""
    write_weights: Tensor
    """[B, H, K, L, N] B times what is left of it at the end of the chunk"""
    chunk_decay: Tensor
    """[B, H, K + 1, K + 1] what is left at the beginning of chunk k of what was there at that of chunk j"""
    memory: Tensor
    """[B, H, K + 1, N, P] at the beginning of each chunk, and at the end"""
    frames: int
    """S"""


def _run_chunks(inputs: ScanInputs, memory: Tensor, chunk: int) -> ChunkedSequence:
    """Cut a stretch and follow the memory [B, H, N, P] through its chunks."""
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
    """What the frames of a stretch read of the memory: [B, S, H, P]."""
    length, width = sequence.write_weights.shape[3:]
    match = (sequence.outputs @ sequence.inputs.transpose(2, 3)).tril_()  # [B, K, L, L]
    read_weights = sequence.sums.new_empty(*sequence.sums.shape, length + width)  # [B, H, K, L, L + N]
    torch.mul(_decay(sequence.sums), match[:, None], out=read_weights[..., :length])
    torch.mul(sequence.outputs[:, None], sequence.sums.exp()[..., None], out=read_weights[..., length:])
    return (read_weights @ sequence.sources).flatten(2, 3).transpose(1, 2)[:, : sequence.frames]


def _gradients(
    sequence: ChunkedSequence, inputs: ScanInputs, y: Tensor, dy: Tensor, dmemory: Tensor, into: ScanInputs
) -> Tensor:
    """Fill in (for A and D: add to) the gradients of a stretch; returns that of the memory before it.

    y, dy: [B, S, H, P]    dmemory: [B, H, N, P], gradient of the memory after the stretch
    Every product of the way there is met again, transposed: frames are sources s here, and columns t.
    """
    length, width = sequence.write_weights.shape[3:]
    dy_chunks = _fold(dy, length)  # [B, K, L, H, P]
    from_start = sequence.sums.exp()[..., None]  # [B, H, K, L, 1]
    targets = torch.empty_like(
        sequence.sources
    )  # dy, and below it the gradient of the memory after the chunk
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
    """The gradients of x, dt, A and D.

    A sum s_t makes all that frame t reads larger, and smaller what is later read of frame t.  So its
    gradient is what t read times dy, less what it wrote times the gradient of that; to the last of a chunk
    comes the memory handed on (`dlast_sum`, [B, K, H]).  No second pass over L x L is needed.
    """
    length = sequence.write_weights.shape[3]
    skipped = (dy * inputs.x).sum(3)  # [B, S, H]
    dsums_read = _fold((dy * y).sum(3) - inputs.D * skipped, length)  # [B, K, L, H]
    dsteps = (sequence.values * ddrive).sum(4)  # [B, K, L, H], by what is driven
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
    """exp of each sum less each other, capped at 1: [..., L] -> [..., L, L], row t and column s.

    Above the diagonal the difference is positive and could overflow; what is there is for others to blank.
    """
    return (sums[..., :, None] - sums[..., None, :]).clamp_max_(0.0).exp_()


def _pass_slices(frames: int, chunk: int) -> list[slice]:
    """Slices of whole chunks, `PASS_FRAMES` frames together, and the rest."""
    return chunk_slices(frames, max(1, PASS_FRAMES // chunk) * chunk)


def _slice_frames(inputs: ScanInputs, span: slice) -> ScanInputs:
    """The stretch of what goes along time."""
    x, dt, A, Bm, Cm, D = inputs
    return ScanInputs(x[:, span], dt[:, span], A, Bm[:, span], Cm[:, span], D)


def _fold(series: Tensor, chunk: int) -> Tensor:
    """[B, S, ...] -> [B, K, L, ...] with L at most `chunk`, as even as can be; filled up with zeros."""
    frames = series.shape[1]
    count = -(-frames // chunk)
    length = -(-frames // count)
    missing = count * length - frames
    if missing:
        series = F.pad(series, (0, 0) * (series.dim() - 2) + (0, missing))
    return torch.unflatten(series, 1, (count, length))


def _copy_frames(into: Tensor, chunks: Tensor) -> None:
    """[B, K, L, ...] -> [B, S, ...], without what was filled up."""
    into.copy_(chunks.flatten(1, 2)[:, : into.shape[1]])


def _per_channel(inputs: ScanInputs) -> Tensor:
    """D for every channel, [H, P]: the same number side by side is read faster than one number spread."""
    return inputs.D[:, None].expand(inputs.x.shape[2:]).contiguous()
