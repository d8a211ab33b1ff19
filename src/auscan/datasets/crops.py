"""Read the aligned pictures of a track as crops of one size.

In: the paths of an index.  Out: uint8 [T, S, S, 3] RGB.  No torch here.
Not here: aligning faces (faces/align.py): the pictures of a data set are aligned already, and only resized.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.media.images import read_image


def read_crop(path: Path, side: int) -> NDArray[np.uint8]:
    """The picture, brought to [side, side, 3]. Raises MediaError where it cannot be read."""
    image = read_image(path)
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


@dataclass(frozen=True, eq=False)
class TrackCrops:
    """The pictures of one track; each is read when it is asked for."""

    root: Path
    """The data set's folder."""
    images: Sequence[str | None]
    """[T] paths from there; None where a frame has no picture."""
    side: int
    """S, pixels."""

    def read(self, rows: NDArray[np.integer], wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The crops [len(rows), S, S, 3] of some rows, black where one is not wanted or there is none.

        Raises MediaError where one cannot be read.
        """
        crops = np.zeros((len(rows), self.side, self.side, 3), np.uint8)
        for place in np.flatnonzero(wanted):
            image = self.images[rows[place]]
            if image is not None:
                crops[place] = read_crop(self.root / image, self.side)
        return crops
