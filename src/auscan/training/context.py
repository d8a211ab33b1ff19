"""Remember a window in the light of what comes before and after it, at the memory cost of the window.

Whole tracks at once would be the truth, but what backpropagation keeps of each frame does not fit in memory.
Here the memory sweeps over the margins on both sides without gradients, comes to the window with the states
that it has there, forward and backward, and learns from the window alone (truncated backpropagation through
time, in both directions). In each block every frame is read once in either direction, those of the margins
too, since the next block reads what this one made of them.

In: embeddings of a window with its margins.  Out: those of the window, remembered.
Not here: the memory itself (model/mamba.py), cutting windows with margins (windows.py).
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from auscan.model.mamba import BiMamba, BiMambaBlock, ScanState, elapsed_frames

FRAMES_AT_ONCE: Final = 2048
"""Frames of a margin that are swept at a time; changes no result."""

Sweep = Callable[[Tensor, Tensor | None, Tensor, ScanState | None], tuple[Tensor, ScanState]]
"""One direction of a block, see BiMambaBlock."""


def remember_within(
    memory: BiMamba, x: Tensor, guide: Tensor | None, times_s: Tensor, window: slice
) -> Tensor:
    """What the memory makes of `window`, of one sequence with its margins: [Tw, d].

    x: [T, d]    guide: [T, g] or None    times_s: [T] float64, seconds
    The same numbers as of the whole sequence read at once; gradients flow through the window only.
    """
    elapsed = elapsed_frames(times_s[None])  # [1, T] each
    for block in memory.blocks:
        assert isinstance(block, BiMambaBlock)
        x = _one_block(block, x, guide, elapsed, window)
    return x[window]


def _one_block(
    block: BiMambaBlock, x: Tensor, guide: Tensor | None, elapsed: tuple[Tensor, Tensor], window: slice
) -> Tensor:
    """The block's frames [T, d]; those of the window carry gradients."""
    before, after = range(0, window.start), range(window.stop, len(x))
    (ahead, back), inside = elapsed, range(window.start, window.stop)
    with torch.no_grad():
        left_ahead, arriving = _long(block.ahead, x, guide, ahead, _stretches(before))
        right_back, returning = _long(block.back, x, guide, back, _stretches(after)[::-1])
    own_ahead, leaving = _long(block.ahead, x, guide, ahead, [window], arriving)
    own_back, reaching = _long(block.back, x, guide, back, [window], returning)
    with torch.no_grad():
        left_back, _ = _long(block.back, x, guide, back, _stretches(before)[::-1], reaching)
        right_ahead, _ = _long(block.ahead, x, guide, ahead, _stretches(after), leaving)
        left = x[: len(before)] + left_ahead + left_back
        right = x[len(before) + len(inside) :] + right_ahead + right_back
    return torch.cat([left, x[window] + own_ahead + own_back, right])


def _long(
    sweep: Sweep,
    x: Tensor,
    guide: Tensor | None,
    elapsed: Tensor,
    stretches: list[slice],
    state: ScanState | None = None,
) -> tuple[Tensor, ScanState | None]:
    """The updates of neighbouring stretches, in the order of time [t, d], and the state after the last."""
    updates: dict[int, Tensor] = {}
    for part in stretches:
        heard = None if guide is None else guide[None, part]  # [1, t, g]
        update, state = sweep(x[None, part], heard, elapsed[:, part], state)
        updates[part.start] = update[0]
    in_time = [updates[start] for start in sorted(updates)]
    return torch.cat(in_time) if in_time else x[:0], state


def _stretches(rows: range) -> list[slice]:
    """The rows in stretches of `FRAMES_AT_ONCE`."""
    return [
        slice(start, min(start + FRAMES_AT_ONCE, rows.stop))
        for start in range(rows.start, rows.stop, FRAMES_AT_ONCE)
    ]
