"""The skin of the built-in face: a grid with slits at mouth and eyes, and words for places on it.

A field is a displacement of all its vertices, written with hills over the frontal plane and with what a slit
parts: `side` of the mouth, `lids` of the eyes.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EYE_X: Final[float] = 3.15
MOUTH_Y: Final[float] = -6.85
SLIT_MOUTH: Final[float] = 2.4
"""Half its width, cm."""
SLIT_EYE: Final[float] = 1.42


def hill(
    x: Array, y: Array, at_x: float, at_y: float, wide: float, high: float, rise: float, both: bool = False
) -> Array:
    """A smooth hill `rise` cm high around a place, [V]; `both`: one on each half of the face."""

    def one(centre: float) -> Array:
        return np.asarray(rise * np.exp(-0.5 * ((x - centre) / wide) ** 2 - 0.5 * ((y - at_y) / high) ** 2))

    return one(at_x) + one(-at_x) if both and at_x else one(at_x)


@dataclass(frozen=True, eq=False)
class Skin:
    """The grid as vertices. A slit's row is there twice: for what lies above and for what lies below."""

    places: Array
    """[V, 3] cm, as they are now."""
    flat: Array
    """[V, 3] cm, before any relief: hills are placed on these."""
    quads: NDArray[np.int64]
    """[Q, 4]."""
    below: NDArray[np.bool_]
    """[V]: does the vertex lie below the mouth's slit, or on its lower edge?"""
    under_eye: NDArray[np.bool_]
    """[V]: below the eyes' slits, or on their lower edges."""
    on_lid: NDArray[np.bool_]
    """[V]: on the edge of a lid."""

    @staticmethod
    def cut(grid: Array) -> "Skin":
        """A skin from a grid [R, C, 3], rows from below, with the slits cut."""
        rows, columns = grid.shape[:2]
        index = np.arange(rows * columns).reshape(rows, columns)
        heights = grid[:, columns // 2, 1]
        mouth, eyes = (int(np.argmin(np.abs(heights - y))) for y in (MOUTH_Y, 0.0))
        x = grid[..., 0]
        # Only inner vertices of a slit are doubled; its ends stay whole.
        cuts = [
            (mouth, np.flatnonzero(np.abs(x[mouth]) < SLIT_MOUTH)),
            (eyes, np.flatnonzero(np.abs(np.abs(x[eyes]) - EYE_X) < SLIT_EYE)),
        ]
        places, under, extra = [grid.reshape(-1, 3)], index.copy(), rows * columns
        for row, chosen in cuts:
            places.append(grid[row, chosen])
            under[row, chosen] = extra + np.arange(len(chosen))
            extra += len(chosen)
        # The quads below a row use its lower copy, those above its upper one.
        low, top = index[:-1], under[1:]
        quads = np.stack([low[:, :-1], low[:, 1:], top[:, 1:], top[:, :-1]], axis=-1).reshape(-1, 4)
        flat = np.concatenate(places)
        copied = np.zeros((2, extra), bool)
        copied[0, under[cuts[0][0], cuts[0][1]]] = True
        copied[1, under[cuts[1][0], cuts[1][1]]] = True
        on_lid = copied[1].copy()
        on_lid[index[eyes, cuts[1][1]]] = True
        y = flat[:, 1]
        return Skin(flat, flat, quads, (y < MOUTH_Y - 0.01) | copied[0], (y < -0.01) | copied[1], on_lid)

    def with_places(self, places: Array) -> "Skin":
        """The same skin with its vertices elsewhere."""
        return replace(self, places=places)

    def lids(self, upper: float, lower: float, width: float = SLIT_EYE) -> Array:
        """Upward displacement [V] that opens the eyes by `upper` and `lower` cm, fading outwards."""
        x, y = self.flat[:, 0], self.flat[:, 1]
        almond = np.clip(1 - ((np.abs(x) - EYE_X) / (width + 0.15)) ** 2, 0, 1) ** 0.75
        fade = np.exp(-((y / 0.95) ** 2)) * (self.flat[:, 2] > 2)
        return np.asarray(almond * fade * np.where(self.under_eye, -lower, upper))

    def lips(self, upper: float, lower: float, power: float = 1.0) -> Array:
        """Upward displacement [V] of the lips by `upper` and `lower` cm, fading into nose and chin."""
        x, y = self.flat[:, 0], self.flat[:, 1]
        arch = np.clip(1 - (x / (SLIT_MOUTH + 0.1)) ** 2, 0, 1) ** power
        reach = np.where(self.below, 1.6, 1.3)
        fade = np.exp(-(((y - MOUTH_Y) / reach) ** 2)) * (self.flat[:, 2] > 2)
        return np.asarray(arch * fade * np.where(self.below, lower, upper))

    def lashes(self) -> Array:
        """1 on the edges of the upper lids, a little on the lower ones, [V]."""
        return np.where(self.on_lid, np.where(self.under_eye, 0.55, 1.0), 0.0)

    @staticmethod
    def fold(x: Array, y: Array, start: float = 0.0, end: float = 1.0, width: float = 0.22) -> Array:
        """1 along the fold from the nose's wing (start) to beside the mouth's corner (end), [V]."""
        along = np.clip((-4.0 - y) / 3.2, start, end)
        middle = 1.75 + 1.55 * along**0.9
        off = np.hypot(np.abs(x) - middle, y - (-4.0 - 3.2 * along))
        return np.asarray(np.exp(-0.5 * (off / width) ** 2))
