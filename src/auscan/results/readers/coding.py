"""Define the coding of one face by one coder, either frame by frame or as events.

A coder is a person or a program. An AU that was not coded is NaN, never 0.

See also: the readers of this package (which return codings), agreement/ (which compares them).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameCoding:
    """Coding frame by frame. T frames, A AUs."""

    name: str
    """Name of the file or result."""
    face: int
    """Number of the face in the file."""
    au_names: tuple[str, ...]
    """[A] AUs of the coding."""
    frames: NDArray[np.int64]
    """[T] frame indices from 0, increasing; gaps are allowed."""
    times_s: NDArray[np.float64] | None
    """[T] begin of each frame, seconds; None if the file has no times."""
    labels: NDArray[np.float32]
    """[T, A] 1 active, 0 inactive, NaN unknown."""
    probabilities: NDArray[np.float32] | None = None
    """[T, A] 0 to 1, NaN unknown; None if the file has none."""
    intensities: NDArray[np.float32] | None = None
    """[T, A] 0 to 5, NaN unknown; None if the file has none."""
    events: pd.DataFrame | None = None
    """AU, onset, offset (s) if the coder has its own events; None: events are found from the labels."""
    boxes: NDArray[np.float32] | None = None
    """[T, 4] left, top, width, height of the face, px, NaN without a face; None if the file has none."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        assert self.labels.shape == (count, len(self.au_names))
        assert self.times_s is None or self.times_s.shape == (count,)
        assert self.boxes is None or self.boxes.shape == (count, 4)
        for values in (self.probabilities, self.intensities):
            assert values is None or values.shape == self.labels.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class EventCoding:
    """Coding as events in time. The coder is assumed to have coded the whole video."""

    name: str
    """Name of the file."""
    face: int | None
    """Number of the face in the file; None if it numbers no faces."""
    au_names: tuple[str, ...]
    """AUs that were coded, in ascending order; the others are unknown."""
    events: pd.DataFrame
    """AU, onset, offset (s), sorted by AU and onset."""


Coding = FrameCoding | EventCoding
"""A coding in either form."""
