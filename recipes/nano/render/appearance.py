"""Draw the appearance of a rendered person: head shape, skin, hair, beard, glasses.

The same seed always gives the same person. Seeds from TEST_SEEDS on are for benchmarks and never used in
training.

Inputs: a `Head`, a seed. Returns: an `Appearance` (coloured mesh).
See also: expressions.py (AU intensities), camera_model.py (light and camera).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.builtin_aus import hill
from auscan.datasets.synth.person import PAINTS, Floats
from auscan.datasets.synth.raster import vertex_normals
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.head_mesh import Head, Random, smooth_field
from recipes.nano.render.person_shape import draw_au_deltas, draw_shape

TEST_SEEDS = 1_000_000
"""First seed of the persons for benchmarks."""
_TONES = np.array(
    [[250, 220, 198], [232, 186, 156], [204, 150, 114], [148, 98, 70], [84, 54, 42]], np.float64
)
_HAIRS = np.array(
    [
        [22, 18, 17],
        [52, 36, 28],
        [104, 70, 44],
        [186, 150, 98],
        [150, 148, 146],
        [128, 58, 34],
        [222, 220, 216],
    ]
)
_IRISES = np.array([[60, 42, 30], [98, 76, 48], [92, 122, 142], [96, 112, 84]], np.float64)


@dataclass(frozen=True, eq=False)
class Appearance:
    """One person: V vertices of the head, then P vertices of hair and glasses."""

    shape: Floats
    """[V, 3] cm: the face at rest."""
    au_deltas: Floats
    """[A, V, 3] cm: the person's AUs at intensity 1, wrinkles included."""
    hair_offset: Floats
    """[V, 3] cm: offset of hair and beard, added to the moved face."""
    extra_vertices: Floats
    """[P, 3] cm: further vertices, fixed to the skull."""
    triangles: NDArray[np.int32]
    """[F, 3] over V + P vertices."""
    albedo: Floats
    """[V + P, 3] RGB of 0 to 255, before shading."""
    gloss: Floats
    """[V + P]: specular share."""
    resting_aus: Floats
    """[A]: AU intensities of the face at rest."""
    shades: int
    """Levels of diffuse light of a cartoon; 0 for a photograph."""
    skin: Floats
    """[3] RGB."""
    lightness: float
    """L* of the skin, 0 black to 100 white."""
    glasses: str
    """none, clear or dark."""
    hair: str
    """bald, short or long."""
    beard: bool
    """Whether the person has a beard."""
    fringe: bool
    """Whether hair covers the forehead."""


def draw_appearance(head: Head, seed: int) -> Appearance:
    """Draw the person of a seed."""
    random = np.random.default_rng([seed, 77])
    face = head.face
    shape = draw_shape(head, random)
    place = random.uniform(0, len(_TONES) - 1.001)
    skin = (
        _TONES[int(place)]
        + (place % 1) * (_TONES[int(place) + 1] - _TONES[int(place)])
        + random.normal(0, 4, 3)
    )
    hair_colour = _HAIRS[random.integers(len(_HAIRS))] * random.uniform(0.8, 1.2)
    kind = str(random.choice(["bald", "short", "long"], p=[0.1, 0.55, 0.35]))
    fringe = bool(kind != "bald" and random.random() < 0.25)
    hair = _hair(head, kind, fringe, random)
    beard = (
        _beard(head, random)
        if kind != "long" and random.random() < 0.45
        else np.zeros(len(shape), np.float32)
    )
    albedo = _colours(head, np.clip(skin, 30, 252), np.clip(hair_colour, 8, 235), hair, beard, random)
    hair_offset = _hair_offset(head, shape, hair, beard, kind, random)
    glasses = str(random.choice(["none", "clear", "dark"], p=[0.77, 0.19, 0.04]))
    extra_vertices, triangles, colours = _hair_and_glasses_mesh(
        kind, glasses, hair_colour, float(face.points(shape)[:2, 2].mean()), random
    )
    paint = dict(zip(PAINTS, face.paint.T, strict=True))
    shine = random.uniform(0.02, 0.22) * (1 - hair) * (1 - beard)
    gloss = shine + 0.5 * (paint["iris"] + paint["pupil"] + 0.25 * paint["sclera"]) + 0.1 * paint["lip"]
    return Appearance(
        shape=shape,
        au_deltas=draw_au_deltas(head, random),
        hair_offset=hair_offset,
        extra_vertices=extra_vertices,
        triangles=np.concatenate([face.triangles, triangles + len(shape)]).astype(np.int32),
        albedo=np.concatenate([albedo, colours]).astype(np.float32),
        gloss=np.concatenate([gloss, np.full(len(extra_vertices), 0.05)]).astype(np.float32),
        resting_aus=_resting_aus(random),
        shades=int(random.choice([0, 3, 5], p=[0.9, 0.06, 0.04])),
        skin=np.clip(skin, 30, 252).astype(np.float32),
        lightness=float(
            cv2.cvtColor(np.float32(skin[None, None] / 255).clip(0, 1), cv2.COLOR_RGB2LAB)[0, 0, 0]
        ),
        glasses=glasses,
        hair=kind,
        beard=bool(beard.max() > 0),
        fringe=fringe,
    )


def _resting_aus(random: Random) -> Floats:
    """Draw the AU intensities [A] of the face at rest; lids droop a little."""
    resting = np.clip(random.normal(0, 0.07, len(NANO_AUS)), -0.15, 0.15)
    resting[NANO_AUS.index("AU45")] = np.clip(random.normal(0.06, 0.05), 0, 0.16)
    return resting.astype(np.float32)


def _hair(head: Head, kind: str, fringe: bool, random: Random) -> Floats:
    """Draw the cover of hair on the head: [V], 0 to 1."""
    neutral = head.face.neutral
    x, y, z = neutral.T
    paint = dict(zip(PAINTS, head.face.paint.T, strict=True))
    skin = paint["skin"] + paint["brow"] + paint["hair"] > 0.3
    if kind == "bald":
        return np.zeros(len(x), np.float32)
    line = random.uniform(5.2, 7.2) - random.uniform(0.0, 0.06) * x**2
    if fringe:
        line = random.uniform(2.2, 4.2) + 0.5 * smooth_field(neutral * [1, 0, 0], 3, random) + 0.02 * x**2
    line = line + 0.25 * smooth_field(neutral, 2.5, random)
    temple = random.uniform(0.2, 0.9) * np.clip(4 - z, 0, None)
    back = (z < 1.0) & (y > random.uniform(-9, -5))
    hair = np.maximum(np.clip((y - line + temple) / 0.5, 0, 1) * (y > -4 - (z < 0) * 5), back)
    return np.asarray(hair * skin, np.float32)


def _beard(head: Head, random: Random) -> Floats:
    """Draw stubble or a full beard, often with a moustache: [V], 0 to 1."""
    x, y, z = head.face.neutral.T
    lip = head.face.paint[:, PAINTS.index("lip")]
    jaw = np.clip((-5.2 - 0.25 * np.abs(x) + 0.16 * x**2 * (np.abs(x) > 3) * 0.15 - y) / 1.0, 0, 1)
    jaw *= np.clip((np.hypot(x / 3.1, (y + 6.9) / 1.45) - 0.9) / 0.3, 0, 1)
    upper = np.clip(1 - ((y + 5.2) / 0.65) ** 2, 0, 1) * np.clip((2.9 - np.abs(x)) / 0.6, 0, 1) * (z > 8)
    under = np.clip((y + 14) / 1.5, 0, 1) * (z > 1)
    strength = random.uniform(0.12, 0.9)
    with_jaw, with_lip = random.random() < 0.8, random.random() < 0.8
    found = np.maximum(jaw * with_jaw, upper * with_lip) * under * strength * (1 - np.clip(2 * lip, 0, 1))
    return np.asarray(found, np.float32)


def _colours(
    head: Head, skin: Floats, hair_colour: Floats, hair: Floats, beard: Floats, random: Random
) -> Floats:
    """Draw colours before shading: [V, 3] RGB."""
    face, places = head.face, head.face.neutral
    x, y = places.T[:2].astype(np.float64)
    lip = skin * [0.86, 0.62, 0.64] + random.uniform(-12, 12, 3)
    if random.random() < 0.3:
        lip = 0.4 * lip + 0.6 * np.array(
            [random.uniform(110, 210), random.uniform(20, 70), random.uniform(40, 90)]
        )
    brow_share = random.uniform(0.55, 1.0)
    brow = brow_share * 0.65 * hair_colour + (1 - brow_share) * skin
    iris = _IRISES[random.integers(len(_IRISES))] * random.uniform(0.8, 1.2)
    sclera = np.array([205, 200, 194]) * random.uniform(0.75, 1)
    teeth, cloth = np.array([226, 220, 200]) * random.uniform(0.75, 1), random.uniform(15, 230, 3)
    palette = np.clip([skin, lip, skin, skin, sclera, iris, [14, 12, 12], [58, 22, 24], teeth, cloth], 0, 255)
    paint = face.colours(palette.astype(np.float32))
    paint += _brows(head, random)[:, None] * (brow - paint)
    bare = face.paint[:, :4].sum(axis=1)
    # Skin of one colour looks like wax: add redness, mottling, pores and freckles.
    red = hill(x, y, 3.8, -3.5, 1.6, 1.4, 1, both=True) + hill(x, y, 0, -3.2, 0.9, 1.0, 1)
    tint = np.array([1.0, 0.86, 0.86]) ** (random.uniform(0, 1.2) * red)[:, None]
    mottle = random.uniform(0.01, 0.06) * smooth_field(places, 3.0, random) + random.uniform(
        0.01, 0.05
    ) * smooth_field(places, 1.0, random)
    pores = random.uniform(0.01, 0.06) * random.normal(size=len(x))
    spots = 0.2 * (random.random(len(x)) < random.choice([0, 0.002, 0.02]))
    tired = random.uniform(0, 0.25) * hill(x, y, 3.2, -1.4, 1.4, 0.5, 1, both=True)
    crease = (
        random.uniform(0, 0.1) * smooth_field(places * [1, 0.2, 0], 1.1, random) * hill(x, y, 0, 4.8, 3, 1, 1)
    )
    grain = 1 + bare * (mottle + pores - spots - tired - crease)
    found = paint * np.clip(grain, 0.4, 1.5)[:, None] * np.where(bare[:, None] > 0.5, tint, 1)
    found *= 1 - 0.75 * random.uniform(0.3, 1.0) * head.lid[:, None]
    streaks = 1 + 0.18 * random.normal(size=len(x)) + 0.15 * smooth_field(places * [1, 0.15, 1], 0.8, random)
    for cover in (hair, beard):
        found += cover[:, None] * (hair_colour[None] * np.clip(streaks, 0.4, 1.7)[:, None] - found)
    return np.clip(found, 0, 255).astype(np.float32)


def _brows(head: Head, random: Random) -> Floats:
    """Draw brows of random height, slope, arch and thickness: [V], 0 to 1."""
    x, y, z = head.face.neutral.T
    out = np.abs(x)
    middle = random.uniform(1.55, 2.35) + random.uniform(-0.1, 0.12) * (out - 3.4)
    middle = middle - random.uniform(0.02, 0.12) * (out - random.uniform(3.2, 4.2)) ** 2
    thick = random.uniform(0.26, 0.6) * np.clip(1.25 - 0.14 * out, 0.2, 1)
    ends = np.clip((out - random.uniform(0.6, 1.4)) / 0.3, 0, 1) * np.clip((5.8 - out) / 0.5, 0, 1)
    hairs = random.uniform(0.6, 1.0) * np.clip(0.5 + (thick - np.abs(y - middle)) / 0.16, 0, 1)
    bare = head.face.paint[:, [PAINTS.index("skin"), PAINTS.index("brow")]].sum(axis=1)
    return np.asarray(hairs * ends * (z > 5) * bare, np.float32)


def _hair_offset(head: Head, shape: Floats, hair: Floats, beard: Floats, kind: str, random: Random) -> Floats:
    """Draw the offset of hair and beard from the skin: [V, 3] cm."""
    normals = vertex_normals(shape.astype(np.float32), head.face.triangles)
    volume = random.uniform(0.2, 1.0) if kind == "short" else random.uniform(0.5, 2.2)
    high = np.clip(0.5 + (head.face.neutral[:, 1] - 3) / 8, 0.15, 1)
    shape_of_hair = volume * high * (1 + 0.35 * smooth_field(head.face.neutral, 4.0, random))
    rise = hair * np.clip(shape_of_hair, 0.05, 3) + (beard > 0.6) * beard * random.uniform(0, 0.5)
    return np.asarray(rise[:, None] * normals, np.float32)


def _hair_and_glasses_mesh(
    kind: str, glasses: str, hair_colour: Floats, eyes_cm: float, random: Random
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Make long hair and glasses: vertices [P, 3], triangles [F, 3] double-sided, colours [P, 3]."""
    sheets: list[tuple[Floats, Floats]] = []  # grids [R, C, 3] and their colours
    if kind == "long":
        sheets.append(_long_hair(hair_colour, random))
    if glasses != "none":
        sheets += _glasses(glasses == "dark", eyes_cm, random)
    vertices, colours, triangles, first = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros((0, 3), int)], 0
    for grid, colour in sheets:
        rows, columns = grid.shape[:2]
        index = first + np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
        one = np.concatenate([np.stack(corners, -1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
        triangles += [one, one[:, ::-1]]
        vertices.append(grid.reshape(-1, 3))
        colours.append(colour.reshape(-1, 3))
        first += rows * columns
    return (
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(colours).astype(np.float32),
    )


def _long_hair(hair_colour: Floats, random: Random) -> tuple[Floats, Floats]:
    """Make long hair around the head, open at the face."""
    open_to = np.deg2rad(random.uniform(58, 88, 2))
    turn = np.linspace(open_to[0], 2 * np.pi - open_to[1], 60)[None, :]
    down = np.linspace(0, 1, 14)[:, None]
    y = 5.5 - down * random.uniform(12, 27)
    wide = random.uniform(8.3, 9.6) + random.uniform(-0.5, 2.0) * down
    curl = 0.25 * np.sin(turn * 23 + 6 * down) + 0.3 * np.sin(turn * 9 + random.uniform(0, 6) + 3 * down)
    narrow = np.sqrt(np.clip(1 - ((y - 1.5).clip(0) / 8) ** 2, 0.2, 1))
    grid = np.stack(
        [
            (wide + curl) * narrow * np.sin(turn),
            y + 0 * turn,
            (wide + curl + 0.4) * narrow * np.cos(turn) - 0.5,
        ],
        -1,
    )
    streak = np.clip(
        1 + 0.25 * random.normal(size=(1, 60, 1)) + 0.05 * random.normal(size=(14, 60, 1)), 0.4, 1.7
    )
    return grid, np.clip(hair_colour * streak * np.ones((14, 60, 1)), 0, 255)


def _glasses(dark: bool, eyes_cm: float, random: Random) -> list[tuple[Floats, Floats]]:
    """Make rims, bridge, arms and, if dark, lenses.  eyes_cm: depth of the eyes."""
    front = eyes_cm + 2.0
    rim, bulk = random.uniform(5, 110, 3), random.uniform(0.14, 0.42)
    half = np.array([random.uniform(2.3, 2.9), random.uniform(1.5, 2.3)])
    square = random.uniform(2.0, 4.0)  # 2 is an ellipse
    turn = np.linspace(0, 2 * np.pi, 41)
    cos, sin = (np.sign(f) * np.abs(f) ** (2 / square) for f in (np.cos(turn), np.sin(turn)))
    sheets = []
    for x in (-3.25, 3.25):
        ring = [
            np.stack(
                [
                    x + (half[0] + o) * cos,
                    -0.3 + (half[1] + o) * sin,
                    front - 0.07 * (x + half[0] * cos) ** 2,
                ],
                -1,
            )
            for o in (0, bulk)
        ]
        sheets.append(np.stack(ring))
        if dark:
            sheets.append(np.stack([ring[0], 0.02 * ring[0] + 0.98 * ring[0].mean(axis=0)]))
        side = np.sign(x)
        arm = np.array([[side * (3.25 + half[0]), 0.4, front - 2.1], [side * 8.1, 0.3, -0.5]])
        sheets.append(np.stack([arm, arm - [0, bulk * 1.2, 0]]))
    bridge = np.array([[-3.25 + half[0], 0.2, front], [3.25 - half[0], 0.2, front]])
    sheets.append(np.stack([bridge, bridge - [0, bulk, 0]]))
    lens = random.uniform(8, 50, 3)
    is_lens = [dark and number in (1, 4) for number in range(len(sheets))]
    return [
        (sheet, np.broadcast_to(lens if of_glass else rim, sheet.shape).copy())
        for sheet, of_glass in zip(sheets, is_lens, strict=True)
    ]
