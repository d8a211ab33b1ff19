"""Run a bidirectional scan over a long sequence in chunks, with NumPy arrays or tensors alike.

Each block of the temporal model adds the updates of a forward and a backward scan to its input. Either scan
can be split into chunks: the state after a chunk is where the next one starts. `scan_bidirectional` holds the
order of chunks and the state that is carried; scanning one chunk is left to the caller:

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
"""In the order of `elapsed_frames`."""

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
    valid: [..., T] bool, False for padding; None if every frame counts
    Clamped to [0, 30]. A frame without a neighbour on that side gets 1.
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

    scan_chunk: takes direction, chunk and the state before it (None at the start), returns the update of the
    chunk's frames in order of time and the state after it
    chunks: consecutive slices of the sequence, in order of time
    backward_chunks: those of the backward scan; None for the same
    state: forward state after the frames before the first chunk; None where the sequence starts

    Yields direction, chunk, update and the state after the chunk, in the order of scanning.
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
