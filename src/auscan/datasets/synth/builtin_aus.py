"""Compute the displacement fields of the built-in face: one per AU and one per identity direction.

The skin is a grid with slits at mouth and eyes. A field moves its vertices outwards, upwards and towards the
viewer, in cm at intensity 1. It is a sum of Gaussian displacements over the frontal plane and of movements of
the slits' edges (`Skin.lips`, `Skin.lids`). The fields include the appearance changes that FACS describes:
horizontal forehead lines for AU01 and AU02, vertical furrows for AU04, crow's feet for AU06, the nasolabial
fold for AU10 and AU12, bulges around pressed lips for AU24.

Inputs: a `Skin`.  Returns: displacements [A, V, 3] and [K, V, 3], cm.
See also: builtin.py (the mesh).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.dynamics import RIG_AUS

Array = NDArray[np.float64]

EYE_X: Final[float] = 3.15
"""Distance of an eye from the midline, cm."""

MOUTH_Y: Final[float] = -6.85
"""Height of the mouth, cm."""

SLIT_MOUTH: Final[float] = 2.4
"""Half width of the mouth's slit, cm."""

SLIT_EYE: Final[float] = 1.42
"""Half width of an eye's slit, cm."""

EYE_RADIUS: Final[float] = 1.3
"""Radius of an eyeball, cm."""

EYE_CENTRE_Y: Final[float] = 0.05
"""Height of an eyeball's centre, cm."""

EYE_CENTRE_Z: Final[float] = 6.75
"""Depth z of an eyeball's centre, cm."""


def hill(
    x: Array, y: Array, at_x: float, at_y: float, wide: float, high: float, rise: float, both: bool = False
) -> Array:
    """Return a Gaussian displacement [V] of height `rise` cm, centred at (`at_x`, `at_y`).

    wide, high: standard deviations, cm.  both: mirror it to the other half of the face.
    """

    def one(centre: float) -> Array:
        return np.asarray(rise * np.exp(-0.5 * ((x - centre) / wide) ** 2 - 0.5 * ((y - at_y) / high) ** 2))

    return one(at_x) + one(-at_x) if both and at_x else one(at_x)


def lid_depth(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the depth z [V] of a lid 0.17 cm above an eyeball, and the distance [V] from its axis, cm."""
    off = np.hypot(np.abs(x) - EYE_X, y - EYE_CENTRE_Y)
    return EYE_CENTRE_Z + np.sqrt(np.clip((EYE_RADIUS + 0.17) ** 2 - off**2, 0, None)), off


@dataclass(frozen=True, eq=False)
class Skin:
    """Skin mesh made from a grid. The vertices of a slit exist twice, for its upper and its lower edge."""

    vertices: Array
    """Current vertices [V, 3], cm."""
    flat: Array
    """Vertices [V, 3] before any relief, cm; displacement fields are functions of these."""
    quads: NDArray[np.int64]
    """Quads [Q, 4] of vertex indices."""
    below: NDArray[np.bool_]
    """Mask [V] of vertices below the mouth's slit or on its lower edge."""
    under_eye: NDArray[np.bool_]
    """Mask [V] of vertices below the eyes' slits or on their lower edges."""
    on_lid: NDArray[np.bool_]
    """Mask [V] of vertices on the edge of a lid."""

    @staticmethod
    def from_grid(grid: Array) -> "Skin":
        """Build a skin from a grid [R, C, 3], rows from bottom to top, and cut the slits."""
        rows, columns = grid.shape[:2]
        index = np.arange(rows * columns).reshape(rows, columns)
        heights = grid[:, columns // 2, 1]
        mouth, eyes = (int(np.argmin(np.abs(heights - y))) for y in (MOUTH_Y, 0.0))
        x = grid[..., 0]
        # Only the inner vertices of a slit are duplicated; its ends stay connected.
        cuts = [
            (mouth, np.flatnonzero(np.abs(x[mouth]) < SLIT_MOUTH)),
            (eyes, np.flatnonzero(np.abs(np.abs(x[eyes]) - EYE_X) < SLIT_EYE)),
        ]
        vertices, under, extra = [grid.reshape(-1, 3)], index.copy(), rows * columns
        for row, chosen in cuts:
            vertices.append(grid[row, chosen])
            under[row, chosen] = extra + np.arange(len(chosen))
            extra += len(chosen)
        # Quads below a slit's row use its lower copy, quads above it the upper copy.
        low, top = index[:-1], under[1:]
        quads = np.stack([low[:, :-1], low[:, 1:], top[:, 1:], top[:, :-1]], axis=-1).reshape(-1, 4)
        flat = np.concatenate(vertices)
        copied = np.zeros((2, extra), bool)
        copied[0, under[cuts[0][0], cuts[0][1]]] = True
        copied[1, under[cuts[1][0], cuts[1][1]]] = True
        on_lid = copied[1].copy()
        on_lid[index[eyes, cuts[1][1]]] = True
        y = flat[:, 1]
        return Skin(flat, flat, quads, (y < MOUTH_Y - 0.01) | copied[0], (y < -0.01) | copied[1], on_lid)

    def with_vertices(self, vertices: Array) -> "Skin":
        """Return a copy with other vertices [V, 3]."""
        return replace(self, vertices=vertices)

    def lids(self, upper: float, lower: float, width: float = SLIT_EYE) -> Array:
        """Return the upward displacement [V] that opens the lids by `upper` and `lower` cm."""
        x, y = self.flat[:, 0], self.flat[:, 1]
        almond = np.clip(1 - ((np.abs(x) - EYE_X) / (width + 0.15)) ** 2, 0, 1) ** 0.75
        fade = np.exp(-((y / 0.95) ** 2)) * (self.flat[:, 2] > 2)
        return np.asarray(almond * fade * np.where(self.under_eye, -lower, upper))

    def lips(self, upper: float, lower: float, power: float = 1.0) -> Array:
        """Return the upward displacement [V] of the lips by `upper` and `lower` cm."""
        x, y = self.flat[:, 0], self.flat[:, 1]
        arch = np.clip(1 - (x / (SLIT_MOUTH + 0.1)) ** 2, 0, 1) ** power
        reach = np.where(self.below, 1.6, 1.3)
        fade = np.exp(-(((y - MOUTH_Y) / reach) ** 2)) * (self.flat[:, 2] > 2)
        return np.asarray(arch * fade * np.where(self.below, lower, upper))

    def lashes(self) -> Array:
        """Return weights [V]: 1 on the edges of the upper lids, 0.55 on those of the lower lids, else 0."""
        return np.where(self.on_lid, np.where(self.under_eye, 0.55, 1.0), 0.0)

    @staticmethod
    def nasolabial_fold(
        x: Array, y: Array, start: float = 0.0, end: float = 1.0, width: float = 0.22
    ) -> Array:
        """Return weights [V], 1 along the nasolabial fold.

        start, end: part of the fold, from 0 at the nose's wing to 1 beside the mouth's corner.
        width: standard deviation across the fold, cm.
        """
        along = np.clip((-4.0 - y) / 3.2, start, end)
        middle = 1.75 + 1.55 * along**0.9
        off = np.hypot(np.abs(x) - middle, y - (-4.0 - 3.2 * along))
        return np.asarray(np.exp(-0.5 * (off / width) ** 2))


def au_fields(skin: Skin) -> Array:
    """Return the displacement [A, V, 3] of each AU at intensity 1, cm."""
    return np.stack([_AU_FIELDS[name](skin) for name in RIG_AUS])


def identity_fields(skin: Skin) -> Array:
    """Return identity directions [K, V, 3], cm; several resemble a weak AU."""
    x, y = _xy(skin)
    zero = np.zeros_like(x)
    whole = [
        np.stack([0.05 * x, zero, zero], -1),  # wide
        np.stack([zero, 0.05 * np.minimum(y + 3, 0), zero], -1),  # long below the nose
        np.stack([-0.06 * x * np.clip((-4 - y) / 5, 0, 1), zero, zero], -1),  # narrow jaw
    ]
    local = [
        _field(skin, up=hill(x, y, 3.0, 2.4, 2.5, 1.0, 0.25, both=True)),  # high brows
        _field(skin, rise=hill(x, y, 2.6, 1.8, 2.0, 0.7, 0.25, both=True)),  # strong brow ridge
        _field(skin, up=skin.lids(0.07, 0.05)),  # open eyes
        _field(skin, rise=hill(x, y, 0, -3.2, 0.8, 1.8, 0.3)),  # nose, prominent
        _field(skin, out=hill(x, y, 1.2, -4.2, 0.6, 0.6, 0.18, both=True)),  # nose, wide
        _field(skin, up=hill(x, y, 0, -4.3, 1.4, 0.7, 0.25)),  # nose, short
        _field(skin, out=hill(x, y, 2.4, MOUTH_Y, 1.1, 1.0, 0.2, both=True)),  # mouth, wide
        _field(skin, up=_thin_lips(skin, 0.14)),  # lips, thin
        _field(skin, up=hill(x, y, 2.4, MOUTH_Y, 0.8, 0.8, 0.12, both=True)),  # mouth corners, high
        _field(skin, rise=hill(x, y, 4.0, -3.0, 1.6, 1.6, 0.3, both=True)),  # cheeks, full
        _field(skin, rise=-0.14 * skin.nasolabial_fold(x, y)),  # fold beside the nose, deep
        _field(skin, rise=hill(x, y, 0, -10, 1.6, 1.0, 0.3)),  # chin, strong
    ]
    return np.stack([*whole, *local])


def _field(skin: Skin, out: Array | float = 0.0, up: Array | float = 0.0, rise: Array | float = 0.0) -> Array:
    """Return a field [V, 3] from displacements [V] away from the midline, upwards and towards the viewer."""
    x, _, z = skin.flat.T
    front = np.clip(z / 3, 0, 1)
    side = np.clip(x / 0.3, -1, 1)  # no jump at the midline
    return np.stack([front * side * out, front * up, front * rise], axis=-1)


def _xy(skin: Skin) -> tuple[Array, Array]:
    return skin.flat[:, 0], skin.flat[:, 1]


def _thin_lips(skin: Skin, amount: float) -> Array:
    """Return the upward displacement [V] that moves the lips' outer edges to the slit by `amount` cm."""
    x, y = _xy(skin)
    arch = np.exp(-0.5 * (x / 1.5) ** 4 / 4)
    edge = np.clip(np.abs(y - MOUTH_Y) / 0.5, 0, 1) * np.exp(-(((np.abs(y - MOUTH_Y) - 0.7) / 0.7) ** 2))
    return np.asarray(amount * arch * edge * np.where(skin.below, 1, -1))


def _au01(skin: Skin) -> Array:
    x, y = _xy(skin)
    lines = -0.2 * np.cos(2 * np.pi * (y - 4.6) / 1.15) * hill(x, y, 0, 4.6, 1.9, 0.95, 1)
    up = hill(x, y, 1.25, 2.4, 0.95, 1.1, 0.95, both=True) + 0.35 * hill(x, y, 0, 4.2, 1.5, 1.0, 1)
    return _field(skin, up=up + 0.25 * skin.lids(0.35, 0), rise=lines)


def _au02(skin: Skin) -> Array:
    x, y = _xy(skin)
    lines = -0.18 * np.cos(2 * np.pi * (y - 4.7) / 1.1) * hill(x, y, 4.2, 4.7, 1.1, 0.9, 1, both=True)
    up = hill(x, y, 4.3, 2.3, 1.25, 1.15, 1.05, both=True)
    return _field(skin, up=up + 0.4 * skin.lids(0.35, 0), rise=lines)


def _au04(skin: Skin) -> Array:
    x, y = _xy(skin)
    up = -hill(x, y, 1.7, 2.3, 1.5, 0.95, 0.8, both=True) - hill(x, y, 4.2, 2.2, 1.0, 0.8, 0.35, both=True)
    out = -hill(x, y, 1.7, 2.3, 1.4, 1.0, 0.5, both=True)
    furrows = -hill(x, y, 0.62, 2.3, 0.16, 0.85, 0.4, both=True) + hill(x, y, 0, 2.2, 0.28, 0.8, 0.25)
    return _field(
        skin, out, up - 0.3 * skin.lids(0.35, 0), furrows + hill(x, y, 1.8, 1.6, 1.1, 0.5, 0.35, both=True)
    )


def _au06(skin: Skin) -> Array:
    x, y = _xy(skin)
    up = hill(x, y, 4.0, -2.2, 1.6, 1.1, 0.6, both=True) - hill(x, y, 5.4, 2.0, 0.9, 0.8, 0.25, both=True)
    pouch = hill(x, y, 4.1, -1.9, 1.4, 0.6, 0.5, both=True) - hill(
        x, y, 3.5, -1.05, 1.5, 0.16, 0.32, both=True
    )
    angle = np.arctan2(y + 0.1, np.abs(x) - 4.3)
    feet = -0.16 * np.cos(7 * angle) * hill(x, y, 5.9, 0.0, 0.6, 1.0, 1, both=True)
    return _field(skin, up=up + skin.lids(-0.08, -0.26), rise=pouch + feet)


def _au07(skin: Skin) -> Array:
    x, y = _xy(skin)
    bulge = hill(x, y, EYE_X, -0.75, 1.2, 0.22, 0.22, both=True)
    return _field(skin, up=skin.lids(-0.24, -0.3), rise=bulge)


def _au10(skin: Skin) -> Array:
    x, y = _xy(skin)
    squared = np.exp(-0.5 * ((np.abs(x) - 0.8) / 1.0) ** 2)
    up = 0.75 * squared * np.exp(-(((y + 6.3) / 1.2) ** 2)) * ~skin.below
    # The lower lip follows, because parted lips are AU25.
    up += 0.55 * squared * np.exp(-(((y - MOUTH_Y) / 0.8) ** 2)) * skin.below
    up += hill(x, y, 1.35, -4.4, 0.6, 0.6, 0.35, both=True)
    rise = -0.38 * skin.nasolabial_fold(x, y, 0, 0.55, 0.25) + hill(x, y, 2.4, -3.7, 0.7, 0.8, 0.4, both=True)
    return _field(skin, hill(x, y, 1.3, -4.3, 0.5, 0.5, 0.15, both=True), up, rise)


def _au12(skin: Skin) -> Array:
    x, y = _xy(skin)
    out = hill(x, y, 2.6, MOUTH_Y, 1.15, 1.3, 1.0, both=True)
    up = hill(x, y, 2.7, MOUTH_Y + 0.1, 0.95, 1.2, 0.95, both=True) + hill(
        x, y, 3.9, -4, 1.4, 1.2, 0.35, both=True
    )
    rise = (
        -0.34 * skin.nasolabial_fold(x, y, 0, 0.85, 0.28)
        + hill(x, y, 3.9, -3.9, 1.2, 1.1, 0.5, both=True)
        - hill(x, y, 0, -6.6, 2, 0.8, 0.25)
    )
    return _field(skin, out, up + 0.4 * skin.lips(-0.25, -0.1), rise)


def _au15(skin: Skin) -> Array:
    x, y = _xy(skin)
    up = -hill(x, y, 2.5, MOUTH_Y, 0.75, 0.95, 0.95, both=True)
    rise = -hill(x, y, 3.1, -8.3, 0.25, 0.7, 0.35, both=True) + hill(
        x, y, 2.2, -8.6, 0.5, 0.4, 0.3, both=True
    )
    rise += hill(x, y, 0, -9.6, 1.0, 0.6, 0.2)
    return _field(skin, hill(x, y, 2.5, MOUTH_Y, 0.8, 0.8, 0.1, both=True), up, rise)


def _au23(skin: Skin) -> Array:
    x, y = _xy(skin)
    out = -hill(x, y, 2.1, MOUTH_Y, 1.0, 0.9, 0.62, both=True)
    purse = 0.06 * np.cos(2 * np.pi * x / 0.55) * hill(x, y, 0, -5.75, 1.2, 0.3, 1)
    return _field(skin, out, _thin_lips(skin, 0.34), purse + hill(x, y, 0, MOUTH_Y, 1.2, 0.5, 0.12))


def _au24(skin: Skin) -> Array:
    x, y = _xy(skin)
    bulge = hill(x, y, 0, -5.75, 1.6, 0.3, 0.3) + hill(x, y, 0, -8.15, 1.6, 0.35, 0.5)
    corner = -hill(x, y, 2.75, MOUTH_Y, 0.25, 0.6, 0.3, both=True)
    flat = -hill(x, y, 0, MOUTH_Y, 1.7, 0.45, 0.6)
    return _field(
        skin,
        hill(x, y, 2.2, MOUTH_Y, 0.8, 0.7, 0.12, both=True),
        _thin_lips(skin, 0.6),
        bulge + corner + flat,
    )


def _au25(skin: Skin) -> Array:
    x, y = _xy(skin)
    return _field(skin, up=skin.lips(0.24, -0.62), rise=hill(x, y, 0, -7.4, 1.4, 0.4, 0.1))


def _au26(skin: Skin) -> Array:
    x, y = _xy(skin)
    lateral = np.clip(1.25 - np.abs(x) / 7.5, 0, 1)
    chin = np.clip((-6.2 - y) / 2.2, 0, 1)
    corner = hill(x, y, 2.6, MOUTH_Y, 0.9, 1.0, 0.55, both=True)
    cheek = np.where(skin.below, 0.0, -0.3 * np.clip((-4.5 - y) / 2, 0, 1) * np.clip(np.abs(x) / 2, 0, 1))
    drop = np.where(
        skin.below, -1.85 * lateral * np.maximum(chin, np.clip(1 - (np.abs(x) / 2.6) ** 2, 0, 1) ** 0.6), 0
    )
    out = -hill(x, y, 2.6, MOUTH_Y, 0.9, 1.0, 0.35, both=True)
    return _field(skin, out, drop + cheek - np.where(skin.below, 0, corner * 0.6), -0.25 * chin * skin.below)


def _au05(skin: Skin) -> Array:
    return _field(skin, up=skin.lids(0.32, 0.04))


def _au09(skin: Skin) -> Array:
    x, y = _xy(skin)
    up = hill(x, y, 1.25, -3.9, 0.6, 0.8, 0.5, both=True) + hill(x, y, 1.1, -6.1, 0.8, 0.5, 0.3, both=True)
    up -= hill(x, y, 1.3, 2.0, 1.1, 0.8, 0.5, both=True)
    wrinkles = 0.2 * np.cos(2 * np.pi * (y + 1.2) / 0.75) * hill(x, y, 0.85, -1.3, 0.5, 1.0, 1, both=True)
    return _field(skin, up=up, rise=wrinkles - 0.25 * skin.nasolabial_fold(x, y, 0, 0.35, 0.25))


def _au14(skin: Skin) -> Array:
    x, y = _xy(skin)
    dimple = -hill(x, y, 3.0, MOUTH_Y, 0.3, 0.5, 0.45, both=True)
    bulge = hill(x, y, 3.6, MOUTH_Y, 0.4, 0.7, 0.2, both=True)
    out = hill(x, y, 2.4, MOUTH_Y, 0.7, 0.6, 0.35, both=True)
    return _field(skin, out, 0.0, dimple + bulge)


def _au17(skin: Skin) -> Array:
    x, y = _xy(skin)
    up = hill(x, y, 0, -9.4, 1.6, 0.9, 0.55) + hill(x, y, 0, -7.4, 1.7, 0.7, 0.42)
    up += hill(x, y, 0, -6.5, 1.8, 0.5, 0.12) - hill(x, y, 2.6, MOUTH_Y, 0.6, 0.6, 0.15, both=True)
    pits = 0.12 * np.cos(2 * np.pi * x / 0.6) * np.cos(2 * np.pi * y / 0.6) * hill(x, y, 0, -9.6, 1.1, 0.7, 1)
    return _field(skin, up=up, rise=pits + hill(x, y, 0, -7.4, 1.4, 0.35, 0.3))


def _au20(skin: Skin) -> Array:
    x, y = _xy(skin)
    out = hill(x, y, 2.5, MOUTH_Y, 1.2, 1.3, 0.95, both=True)
    up = -hill(x, y, 2.7, MOUTH_Y - 0.1, 0.8, 0.8, 0.2, both=True)
    rise = -hill(x, y, 0, -6.9, 2.0, 0.9, 0.3) - hill(x, y, 3.6, -7.6, 0.25, 0.8, 0.25, both=True)
    return _field(skin, out, up + _thin_lips(skin, 0.16), rise)


def _au28(skin: Skin) -> Array:
    x, y = _xy(skin)
    sunk = -hill(x, y, 0, MOUTH_Y, 1.8, 0.75, 0.8)
    bulge = hill(x, y, 0, -5.6, 1.8, 0.3, 0.15) + hill(x, y, 0, -8.3, 1.7, 0.35, 0.3)
    return _field(skin, up=_thin_lips(skin, 0.53) + skin.lips(-0.05, 0.1), rise=sunk + bulge)


def _au45(skin: Skin) -> Array:
    # The lids of the neutral face are open by 0.5 and 0.36 cm; the upper one overlaps the lower one, because
    # the eyes of some people are larger.
    x, y, z = skin.vertices.T
    up = skin.lids(-0.95, -0.06)
    depth, off = lid_depth(x, y + up)
    above = np.clip((1.75 - off) / 0.4, 0, 1) * (z > 3)  # keeps the closed lids above the eyeball
    return _field(skin, up=up, rise=above * np.maximum(depth + 0.18 - z, 0) * (up < 0))


_AU_FIELDS: Final[dict[str, Callable[[Skin], Array]]] = {
    **{"AU01": _au01, "AU02": _au02, "AU04": _au04, "AU06": _au06, "AU07": _au07, "AU10": _au10},
    **{
        "AU05": _au05,
        "AU09": _au09,
        "AU14": _au14,
        "AU17": _au17,
        "AU20": _au20,
        "AU28": _au28,
        "AU45": _au45,
    },
    **{"AU12": _au12, "AU15": _au15, "AU23": _au23, "AU24": _au24, "AU25": _au25, "AU26": _au26},
}
