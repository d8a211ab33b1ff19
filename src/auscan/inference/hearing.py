"""Which audio tokens each frame hears, in numpy: what model/fusion.py works out in torch.

Times are float64 and searched, which is no work for a graph; the attention over what is found here is.
There all tokens are valid, so the rules are short; a test holds both to each other.

In: times of frames and of tokens, seconds.  Out: places of tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import NEAR_S


class Heard(NamedTuple):
    """The inputs of the hear graph that depend on time alone; names as there."""

    window: NDArray[np.int64]
    """[T, W] which tokens lie around each frame"""
    audible: NDArray[np.bool_]
    """[T, W] False beyond the reach and beyond the sound"""
    offset_s: NDArray[np.float32]
    """[T, W] their time less the frame's; 0 where not audible"""
    neighbours: NDArray[np.int64]
    """[T, 2] the tokens before and after"""
    weights: NDArray[np.float32]
    """[T, 2] how much of each is heard at the frame's own time; 0 for silence"""


def who_hears_what(
    frame_s: NDArray[np.float64], token_s: NDArray[np.float64], reach_s: float, width: int
) -> Heard:
    """frame_s: [T]    token_s: [Ta], ascending, Ta >= 1    width: W, tokens in a frame's window."""
    count = len(token_s)
    first = np.searchsorted(token_s, frame_s - reach_s) - 1  # [T]
    place = first[:, None] + np.arange(width)  # [T, W]
    window = np.clip(place, 0, count - 1)
    offset_s = token_s[window] - frame_s[:, None]
    audible = (place == window) & (np.abs(offset_s) <= reach_s)

    after = np.searchsorted(token_s, frame_s)[:, None] + np.array([-1, 0])  # [T, 2]
    neighbours = np.clip(after, 0, count - 1)
    distance_s = np.abs(token_s[neighbours] - frame_s[:, None])
    near = (after == neighbours) & (distance_s <= NEAR_S)
    between = distance_s[:, ::-1] / np.maximum(distance_s.sum(1, keepdims=True), 1e-9)
    weights = np.where(near.all(1, keepdims=True), between, near)
    return Heard(
        window,
        audible,
        np.where(audible, offset_s, 0.0).astype(np.float32),
        neighbours,
        weights.astype(np.float32),
    )
