"""What one coder says of one face, in one of two forms: frame by frame, or as events in time.

A coder is a person or a program. Not looked at is NaN, never 0.
In: nothing.  Out: the two forms that every reader of this package gives and agreement/ takes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT

Scale = Literal["probability", "intensity"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameCoding:
    """Frame by frame. T frames, A = 12."""

    name: str
    """Of the file."""
    face: int
    """Number of the face in the file."""
    frames: NDArray[np.int64]
    """[T] indices of frames from 0, increasing; gaps are allowed."""
    times_s: NDArray[np.float64] | None
    """[T] when each frame begins; None where the file does not say."""
    labels: NDArray[np.float32]
    """[T, A] 1 active, 0 not, NaN unknown."""
    values: NDArray[np.float32] | None = None
    """[T, A] what the labels were made from; None where there are labels alone."""
    scale: Scale | None = None
    """What the values are; None without."""
    events: pd.DataFrame | None = None
    """AU, onset, offset (s), where the coder has events of its own; None: they are made from the labels."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        assert self.labels.shape == (count, AU_COUNT)
        assert self.times_s is None or self.times_s.shape == (count,)
        assert (self.values is None) == (self.scale is None)


@dataclass(frozen=True, eq=False, kw_only=True)
class EventCoding:
    """As events in time, of any length; who codes so has watched the whole video."""

    name: str
    """Of the file."""
    face: int
    """Number of the face in the file."""
    coded: NDArray[np.bool_]
    """[A] the AUs that were looked for."""
    events: pd.DataFrame
    """AU, onset, offset (s), by AU and onset."""


Coding = FrameCoding | EventCoding
