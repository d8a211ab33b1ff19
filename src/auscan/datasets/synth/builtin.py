"""Build the built-in face mesh from formulas, so that the benchmark needs no external assets.

The skin is a grid of rows and columns around the front half of a head. Three slits are cut into it, the mouth
and both eyes; the rows above and below a slit can move apart. All other shape is relief: smooth Gaussian
displacements over the frontal plane, in the neutral face and for each AU, so that furrows are shaded like
skin. Eyeballs, two rows of teeth and a dark mouth cavity lie behind the slits.

Returns: a `Face`; lengths in cm, origin between the eyes.
See also: builtin_aus.py (displacement fields of AUs and identities).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from auscan.datasets.synth.builtin_aus import (
    EYE_CENTRE_Y,
    EYE_CENTRE_Z,
    EYE_RADIUS,
    EYE_X,
    MOUTH_Y,
    SLIT_MOUTH,
    Skin,
    au_fields,
    hill,
    identity_fields,
    lid_depth,
)
from auscan.datasets.synth.dynamics import RIG_AUS
from auscan.datasets.synth.person import PAINTS, Face, Floats, quads_to_triangles

COLUMNS: Final[int] = 97
"""Columns of the skin grid."""

# Rows of height y, half width and depth of the head, cm; closed at the top and below the chin.
_OUTLINE = np.array(
    [
        *([-11.9, 0.3, 4.0], [-11.7, 1.9, 6.3], [-11.3, 3.0, 7.2], [-10.3, 4.2, 7.9], [-9, 5.2, 8.2]),
        *([-6.8, 6.1, 8.5], [-4, 6.8, 8.6], [0, 7.3, 8.5], [3, 7.4, 8.6], [6, 7.2, 8.3]),
        *([8.5, 6.2, 7.2], [10.3, 4.4, 5.3], [11.3, 2.3, 2.8], [11.7, 0.3, 0.3]),
    ]
)


def builtin_face() -> Face:
    """Return the built-in face; every call returns equal arrays."""
    skin = _skin()
    parts = [_MeshPart(skin.vertices, skin.quads, _skin_paint(skin))]
    parts += [_eyeball(side) for side in (-1, 1)]
    parts += [_mouth_cavity(), _teeth(upper=True), _teeth(upper=False), _neck(), _shoulders()]
    vertices = np.concatenate([part.vertices for part in parts])
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    deltas = np.zeros((len(RIG_AUS), *vertices.shape))
    deltas[:, : starts[1]] = au_fields(skin)
    jaw, lower_teeth = deltas[RIG_AUS.index("AU26")], slice(starts[5], starts[6])
    jaw[lower_teeth, 1] -= 1.5
    cavity = slice(starts[3], starts[4])
    jaw[cavity, 1] -= 1.6 * np.clip((MOUTH_Y - vertices[cavity, 1]) / 1.0, 0, 1)
    persons = identity_fields(skin)
    identity = np.zeros((len(persons), *vertices.shape))
    identity[:, : starts[1]] = persons
    return Face(
        neutral=vertices.astype(np.float32),
        triangles=quads_to_triangles(
            np.concatenate([part.quads + start for part, start in zip(parts, starts, strict=False)])
        ),
        au_deltas=deltas.astype(np.float32),
        identity_deltas=identity.astype(np.float32),
        paint=np.concatenate([part.paint for part in parts]).astype(np.float32),
        anchors=_anchors(vertices[: starts[1]], skin),
    )


class _MeshPart:
    """Part of the mesh: vertices [V, 3] cm, quads [Q, 4], paint weights [V, PAINTS]."""

    def __init__(self, vertices: NDArray[np.floating], quads: NDArray[np.int64], paint: Floats) -> None:
        self.vertices, self.quads, self.paint = vertices, quads, paint


def _rows() -> NDArray[np.float64]:
    """Return the heights of the grid rows in cm: dense around eyes and mouth, one exactly at each slit."""
    return np.concatenate(
        [
            *(np.arange(-11.9, -9.0, 0.28), np.arange(-9.0, MOUTH_Y - 0.07, 0.143)),
            *(MOUTH_Y + np.arange(0, 1.5, 0.14), np.arange(-5.35, -1.3, 0.24), np.arange(-1.26, -0.05, 0.14)),
            *(np.arange(0, 4.0, 0.14), np.arange(4.05, 7.0, 0.25), np.arange(7.1, 11.5, 0.5)),
            np.array([11.7]),
        ]
    )


def _skin() -> Skin:
    rows = _rows()
    turn = np.linspace(-1, 1, COLUMNS)
    # Columns are denser in front than at the sides.
    angle = np.deg2rad(112) * (0.72 * turn + 0.28 * turn**3)
    width = PchipInterpolator(_OUTLINE[:, 0], _OUTLINE[:, 1])(rows)
    depth = PchipInterpolator(_OUTLINE[:, 0], _OUTLINE[:, 2])(rows)
    x = width[:, None] * np.sin(angle)[None]
    z = depth[:, None] * np.cos(angle)[None]
    y = np.repeat(rows[:, None], COLUMNS, axis=1)
    skin = Skin.from_grid(np.stack([x, y, z], axis=-1))
    return skin.with_vertices(_neutral_vertices(skin))


def _neutral_vertices(skin: Skin) -> NDArray[np.float64]:
    """Return the vertices [V, 3] of the neutral face: head outline, relief and open eyes."""
    vertices = skin.vertices.copy()
    x, y, z = vertices.T
    front = np.clip(z / 4, 0, 1)
    nose_run = np.clip((0.6 - y) / 4.4, 0, 1)  # 0 between the eyes, 1 at the tip
    below_tip = 1 / (1 + np.exp(-(y + 4.75) / 0.16))
    above = np.clip((1.8 - y) / 1.2, 0, 1)
    ridge = (0.5 + 1.9 * nose_run**1.2) * np.exp(-((x / (0.75 + 0.45 * nose_run)) ** 2)) * below_tip * above
    relief = (
        ridge
        + hill(x, y, 0, -4.0, 0.75, 0.7, 0.65) * below_tip
        + hill(x, y, 1.25, -4.25, 0.45, 0.5, 0.75, both=True)
        + hill(x, y, 2.9, 1.9, 2.2, 0.8, 0.55, both=True)
        - hill(x, y, 3.0, 0.1, 1.8, 1.1, 0.75, both=True)
        - hill(x, y, 1.3, 0.4, 0.6, 0.8, 0.5, both=True)
        + hill(x, y, 4.2, -2.6, 1.7, 1.7, 0.55, both=True)
        - hill(x, y, 0, -5.7, 0.3, 0.5, 0.12)
        + hill(x, y, 0, -6.6, 1.9, 1.3, 0.45)
        + hill(x, y, 0.35, -6.42, 1.1, 0.3, 0.42, both=True)
        + hill(x, y, 0, -7.3, 1.3, 0.36, 0.6)
        - hill(x, y, 0, -6.85, 1.1, 0.12, 0.16)
        - hill(x, y, 0, -8.35, 1.5, 0.4, 0.4)
        + hill(x, y, 0, -10.1, 1.6, 1.0, 0.7)
        - 0.12 * skin.nasolabial_fold(x, y)
    )
    vertices[:, 2] += front * relief
    vertices[:, 1] += skin.lids(upper=0.5, lower=0.36)
    _fit_lids_to_eyeballs(vertices)
    return vertices


def _fit_lids_to_eyeballs(vertices: NDArray[np.float64]) -> None:
    """Move the lids in place onto the eyeballs."""
    lid, off = lid_depth(vertices[:, 0], vertices[:, 1])
    share = np.clip((1.75 - off) / 0.55, 0, 1) * (vertices[:, 2] > 3)
    vertices[:, 2] += share * (np.maximum(lid, vertices[:, 2] - 0.25) - vertices[:, 2])


def _smooth_step(value: NDArray[np.floating], edge: float, soft: float) -> NDArray[np.floating]:
    """Return a ramp from 0 below `edge` to 1 above it, `soft` wide."""
    return np.asarray(np.clip((value - edge) / soft + 0.5, 0, 1))


def _skin_paint(skin: Skin) -> Floats:
    x, y, z = skin.flat.T
    across = np.abs(x)
    bow = -6.12 + 0.12 * np.exp(-(((across - 0.6) / 0.4) ** 2)) - 0.62 * (across / 2.5) ** 2
    low = -7.75 + 0.75 * (across / 2.5) ** 2
    lip = (
        _smooth_step(bow - y, 0, 0.12)
        * _smooth_step(y - low, 0, 0.12)
        * _smooth_step(2.5 - across, 0, 0.1)
        * (z > 5)
    )
    middle = 2.25 + 0.45 * np.sin(np.clip((across - 0.9) / 4.6, 0, 1) * np.pi * 0.75)
    thick = 0.36 - 0.05 * np.clip(across - 3, 0, 3)
    brow = (
        _smooth_step(thick - np.abs(y - middle), 0, 0.16)
        * _smooth_step(across, 1.05, 0.3)
        * _smooth_step(5.6 - across, 0, 0.5)
    )
    hairline = 6.3 - 0.035 * x**2
    hair = np.maximum(
        _smooth_step(y, hairline, 0.4), _smooth_step(-z, -2.2, 0.5) * _smooth_step(y, -2.5, 1.5)
    )
    lashes = 0.75 * skin.lashes()
    nostril = np.exp(-(((across - 0.6) / 0.3) ** 2) - ((y + 4.78) / 0.17) ** 2) * (z > 5)
    weights = {
        "lip": lip,
        "brow": np.maximum(0.85 * brow * (z > 2), lashes),
        "hair": hair,
        "mouth": 0.55 * nostril,
    }
    return _paint(len(x), weights)


def _paint(count: int, weights: dict[str, NDArray[np.floating]]) -> Floats:
    """Return paint weights [V, PAINTS] from weights [V] by name; the remainder is skin."""
    paint = np.zeros((count, len(PAINTS)), np.float32)
    for name, weight in weights.items():
        paint[:, PAINTS.index(name)] = weight
    paint /= np.maximum(1, paint.sum(axis=1, keepdims=True))
    paint[:, 0] += 1 - paint.sum(axis=1)
    return paint


def _grid_part(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], paint: str
) -> _MeshPart:
    """Return a part of one paint from grids [R, C]; y increases by row, x by column."""
    count = x.size
    index = np.arange(count).reshape(x.shape)
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1).reshape(-1, 4)
    return _MeshPart(np.stack([x, y, z], -1).reshape(-1, 3), quads, _paint(count, {paint: np.ones(count)}))


def _eyeball(side: int) -> _MeshPart:
    across, up = np.meshgrid(np.linspace(-1.25, 1.25, 25), np.linspace(-1.25, 1.25, 25))
    turn_x, turn_y = across, up  # radians from the gaze direction, so that the grid has no pole in the pupil
    x, y = np.sin(turn_x), np.cos(turn_x) * np.sin(turn_y)
    z = np.cos(turn_x) * np.cos(turn_y)
    part = _grid_part(
        side * EYE_X + EYE_RADIUS * x, EYE_CENTRE_Y + EYE_RADIUS * y, EYE_CENTRE_Z + EYE_RADIUS * z, "sclera"
    )
    off_cm = EYE_RADIUS * np.hypot(x, y).ravel()
    pupil = _smooth_step(-off_cm, -0.24, 0.1)
    iris = _smooth_step(-off_cm, -0.6, 0.12) - pupil
    part.paint = _paint(x.size, {"pupil": pupil, "iris": iris, "sclera": 1 - pupil - iris})
    return part


def _mouth_cavity() -> _MeshPart:
    x, y = np.meshgrid(np.linspace(-2.9, 2.9, 9), np.linspace(-8.6, -5.6, 13))
    return _grid_part(x, y, 7.3 - 0.12 * x**2, "mouth")


def _teeth(upper: bool) -> _MeshPart:
    low = -6.95 if upper else -7.85
    x, y = np.meshgrid(np.linspace(-2.1, 2.1, 15), np.linspace(low, low + 0.85, 3))
    return _grid_part(x, y, (8.0 if upper else 7.8) - 0.16 * x**2, "teeth")


def _neck() -> _MeshPart:
    turn, y = np.meshgrid(np.linspace(-1.9, 1.9, 21), np.linspace(-17, -7, 7))
    return _grid_part(4.7 * np.sin(turn), y, -0.8 + 4.4 * np.cos(turn), "skin")


def _shoulders() -> _MeshPart:
    across, y = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-26, -13.8, 9))
    half = 5.2 + 11 * np.sqrt(np.clip((-13.8 - y) / 6, 0, 1))
    return _grid_part(
        half * across, y, -2 + 5.5 * np.sqrt(1 - 0.9 * across**2) - 0.02 * (y + 14) ** 2, "cloth"
    )


def _anchors(vertices: NDArray[np.floating], skin: Skin) -> tuple[NDArray[np.int64], ...]:
    """Return anchor vertices: the lid edges of each eye, the nose tip and the mouth corners."""
    lids = skin.lashes() > 0.5
    eyes = [np.flatnonzero(lids & (np.sign(vertices[:, 0]) == side)) for side in (-1, 1)]
    x, y, z = vertices.T
    tip = np.flatnonzero((np.abs(x) < 0.6) & (y > -5) & (y < -3))
    tip = tip[[np.argmax(z[tip])]]
    corner = [np.argmin((x - s * SLIT_MOUTH) ** 2 + (y - MOUTH_Y) ** 2 + 1e3 * (z < 5)) for s in (-1, 1)]
    return (*eyes, tip, np.array([corner[0]]), np.array([corner[1]]))
