"""Find hard cuts, and shots that continue after a cut away from them.

Each frame is reduced to a few hundred pixels. A cut is a frame that differs from the one before in every way
that a moving picture does not: its colours (histogram), its pixels by far more than in the frames before,
and its structure (correlation). Light that is switched on changes the colours and keeps the structure; a fast
camera changes the structure and keeps the colours. Thresholds: the two largest differences within a shot, of
the 33 shared clips, are 0.05 (colours) and 22 of 255 levels; cuts have 0.3 and 50.

After a cut the frame is compared with the last frames of the shots before: if it resembles one of them, that
shot continues, as after a flash, a cutaway or in a dialogue.

Inputs: frames in order with their times in seconds. Returns: the number of each frame's shot, from 0.
See also: tracking.py (tracks end with their shot).
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final[int] = 36
"""Pixels of the reduced picture along a side."""
BINS: Final[int] = 16
"""Bins of the histogram of each colour."""
MIN_COLOUR_CHANGE: Final[float] = 0.12
"""Share of pixels that change their bin, from which a frame may be a cut."""
MIN_PIXEL_RATIO: Final[float] = 4.0
"""Mean difference of pixels over the usual one, from which a frame may be a cut."""
MIN_USUAL: Final[float] = 2.0
"""Least usual difference, in levels of 255: noise of a still picture."""
USUAL_FRAMES: Final[int] = 12
"""Frames whose median difference is the usual one."""
MAX_CORRELATION: Final[float] = 0.85
"""Correlation of brightness up to which a frame may be a cut."""
MAX_SAME: Final[float] = 15.0
"""Mean difference of pixels, in levels of 255, up to which a shot continues."""
MEMORY_S: Final[float] = 2.0
"""Time after which a shot that was cut away from is forgotten, seconds."""

Thumbnail = NDArray[np.int16]


class ShotCounter:
    """Number the shots of one video; call `shot_of` once for each frame, in order."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._changes: deque[float] = deque(maxlen=USUAL_FRAMES)
        self._shot, self._count = 0, 1
        self._earlier: dict[int, tuple[float, Thumbnail]] = {}
        """Shot -> time and picture of its last frame."""
        self._last_s = 0.0

    def shot_of(self, image: NDArray[np.uint8], time_s: float) -> int:
        """Return the number of the shot of the next frame [H, W, 3] uint8."""
        picture = _reduced(image)
        if self._last is not None:
            change = float(np.abs(picture - self._last).mean())
            if self._is_cut(picture, self._last, change):
                self._earlier[self._shot] = self._last_s, self._last
                self._shot = self._continued_shot(picture, time_s)
                self._changes.clear()
            else:
                self._changes.append(change)
        self._last, self._last_s = picture, time_s
        return self._shot

    def _is_cut(self, picture: Thumbnail, last: Thumbnail, change: float) -> bool:
        usual = max(MIN_USUAL, float(np.median(self._changes))) if self._changes else MIN_USUAL
        return (
            change >= MIN_PIXEL_RATIO * usual
            and _colour_change(picture, last) >= MIN_COLOUR_CHANGE
            and _correlation(picture, last) <= MAX_CORRELATION
        )

    def _continued_shot(self, picture: Thumbnail, time_s: float) -> int:
        """Return the earlier shot that the picture resembles most, or a new one."""
        self._earlier = {k: v for k, v in self._earlier.items() if time_s - v[0] <= MEMORY_S}
        changes = {
            shot: float(np.abs(picture - last).mean())
            for shot, (_, last) in self._earlier.items()
            if last.shape == picture.shape
        }
        best = min(changes, key=changes.__getitem__, default=None)
        if best is not None and changes[best] <= MAX_SAME:
            return best
        self._count += 1
        return self._count - 1


def _reduced(image: NDArray[np.uint8]) -> Thumbnail:
    """Return every n-th pixel of an image: [SIDE, SIDE, 3] or a little more."""
    rows, columns = (np.linspace(0, length - 1, SIDE + 2).astype(np.intp)[1:-1] for length in image.shape[:2])
    return image[rows[:, None], columns].astype(np.int16)


def _colour_change(a: Thumbnail, b: Thumbnail) -> float:
    """Return the share of pixels in other bins of the histograms of red, green and blue, 0 to 1."""
    bins = np.arange(3) * BINS
    counts = [np.bincount((x // (256 // BINS) + bins).ravel(), minlength=3 * BINS) for x in (a, b)]
    return float(np.abs(counts[0] - counts[1]).sum() / (2 * a.size))


def _correlation(a: Thumbnail, b: Thumbnail) -> float:
    """Return Pearson's correlation of the brightness of two pictures; 0 if one of them is uniform."""
    x, y = (each.sum(axis=2, dtype=np.float64).ravel() for each in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0
