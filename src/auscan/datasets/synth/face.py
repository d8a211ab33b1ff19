"""A face as numbers: a mesh that the twelve AUs, a person's shape and a person's palette change linearly.

Two faces share this form: the built-in one (builtin.py) and ICT-FaceKit's (ict.py). AUs add up, so a person
whose resting face holds some of an AU looks as another does who moves it; only time tells the two apart.

In: intensities, shape weights, palettes.  Out: vertices [V, 3] cm, colours [V, 3].
Not here: drawing (raster.py), how intensities move (dynamics.py).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PAINTS: Final[tuple[str, ...]] = (
    *("skin", "lip", "brow", "hair", "sclera", "iris", "pupil", "mouth", "teeth", "cloth"),
)
"""What a vertex may be covered with, in the order of a palette's rows."""


@dataclass(frozen=True, eq=False)
class Face:
    """A mesh and all ways to change it. Lengths in cm, origin between the eyes, face towards +z."""

    neutral: Floats
    """[V, 3]."""
    triangles: NDArray[np.int32]
    """[F, 3], anticlockwise seen from outside."""
    au_deltas: Floats
    """[A, V, 3]: what each AU adds at intensity 1."""
    identity_deltas: Floats
    """[K, V, 3]: directions in which persons differ, each of variance 1 over persons."""
    paint: Floats
    """[V, PAINTS], rows adding to 1."""
    anchors: tuple[NDArray[np.int64], ...]
    """Five lists of vertices whose means are eyes, nose tip and mouth corners, in align.TEMPLATE's order."""

    def shape(self, identity: Floats) -> Floats:
        """A person's mesh [V, 3] at AU intensity 0, for identity [K]."""
        return self.neutral + np.tensordot(identity.astype(np.float32), self.identity_deltas, axes=1)

    def vertices(self, intensities: Floats, shape: Floats) -> Floats:
        """A person's mesh [V, 3] with AU intensities [A] on top of their shape [V, 3]."""
        return shape + np.tensordot(intensities.astype(np.float32), self.au_deltas, axes=1)

    def colours(self, palette: Floats) -> Floats:
        """Colours [V, 3] without light, for a palette [PAINTS, 3] RGB of 0 to 255."""
        return self.paint @ palette.astype(np.float32)

    def points(self, vertices: Floats) -> Floats:
        """Left eye, right eye, nose tip, left and right mouth corner [5, 3]; left has the smaller x."""
        return np.stack([vertices[anchor].mean(axis=0) for anchor in self.anchors])


def quads_to_triangles(quads: NDArray[np.integer]) -> NDArray[np.int32]:
    """Quads [Q, 4] -> triangles [2 Q, 3] of the same winding."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
