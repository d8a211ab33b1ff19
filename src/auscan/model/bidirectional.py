"""Run a bidirectional scan over a long sequence in chunks, with NumPy arrays or tensors.

Each block of the temporal model adds the updates of a forward and a backward scan to its input. Each scan can
be split into chunks: the state after a chunk is the initial state of the next one. `scan_bidirectional`
defines the order of chunks and carries the state. The caller scans a single chunk:

    whole track, any engine           inference/score_track.py
    whole track or window, PyTorch    mamba.py: BiMamba.forward_long
    live, with limited look-ahead     pipeline/live.py

Inputs: slices of a sequence and a function that scans one of them. Returns: updates.
See also: scan.py (the scan of one chunk). This module imports no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol, TypeVar

from auscan.core.config import ELAPSED_UNIT_HZ, MAX_ELAPSED

Direction = Literal["forward", "backward"]
"""Direction of a scan in time."""
DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
"""Both directions, in the order of the arrays that `elapsed_frames` returns."""

Update = TypeVar("Update")
State = TypeVar("State")


class Array(Protocol):
    """NumPy array or tensor."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __mul__(self, other: Any, /) -> Any: ...


Times = TypeVar("Times", bound=Array)


def elapsed_frames(times_s: Times, valid: Times | None = None) -> tuple[Times, Times]:
    """Return the time since the previous frame and until the next one, in 1/30 s: two arrays [..., T].

    times_s: [..., T] seconds, float64 (float32 loses the frame interval within hours), ascending
    valid: [..., T] bool, False for padding; None if there is none
    Values are clamped to [0, 30]. The value of a frame without a neighbour on that side is 1.
    """
    gaps = ((times_s[..., 1:] - times_s[..., :-1]) * ELAPSED_UNIT_HZ).clip(0.0, MAX_ELAPSED)  # [..., T - 1]
    if valid is not None:
        gaps[~(valid[..., 1:] & valid[..., :-1])] = 1.0
    since, until = times_s * 1.0, times_s * 1.0  # new arrays, filled below
    since[..., :1], since[..., 1:] = 1.0, gaps
    until[..., :-1], until[..., -1:] = gaps, 1.0
    return since, until


def scan_bidirectional(
    scan_chunk: Callable[[Direction, slice, State | None], tuple[Update, State]],
    chunks: Sequence[slice],
    backward_chunks: Sequence[slice] | None = None,
    state: State | None = None,
) -> Iterator[tuple[Direction, slice, Update, State]]:
    """Scan chunks forward from the first to the last, then backward from the last to the first.

    scan_chunk: function of direction, chunk and the state before it (None at the start); returns the update
    of the chunk's frames in time order and the state after it
    chunks: consecutive slices of the sequence, in time order
    backward_chunks: slices for the backward scan; None for the same ones
    state: forward state before the first chunk; None at the start of the sequence

    Yields direction, chunk, update and the state after the chunk, in scan order.
    """
    backward = chunks if backward_chunks is None else backward_chunks
    passes: tuple[tuple[Direction, Sequence[slice], State | None], ...] = (
        ("forward", chunks, state),
        ("backward", backward[::-1], None),
    )
    for direction, ordered, carried in passes:
        for chunk in ordered:
            update, carried = scan_chunk(direction, chunk, carried)
            yield direction, chunk, update, carried
