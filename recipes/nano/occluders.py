"""Things that come before a face: a hand, a cup, a microphone, a cloth, a phone, a dark blob, a flat bar.

Places and sizes are those of an aligned crop (align.TEMPLATE, SIDE px), so that the same thing lies over the
same part of a crop and, through a transform, of the frame that the crop was cut from.

In: a random generator, a picture [H, W] or [H, W, 3] uint8.  Out: the picture, and where it is covered.
Not here: when things come and go (cover_clips.py).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Random = np.random.Generator

KINDS = ("hand", "cup", "microphone", "cloth", "phone", "blob", "bar")
PARTS = ("mouth", "eyes", "left", "right")
"""What can be covered: left and right are the halves of the face in the picture."""
BOXES = {
    **{"mouth": (36.0, 82.0, 76.0, 106.0), "eyes": (22.0, 43.0, 90.0, 61.0)},
    **{"left": (18.0, 18.0, 56.0, 112.0), "right": (56.0, 18.0, 94.0, 112.0)},
}
"""The parts as x0, y0, x1, y1 in px of an aligned crop."""
COVERED = 0.75
"""A part counts as covered where this share of its box is."""

_turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
FACE = np.stack([56 + 38 * np.cos(_turn), 65 + 49 * np.sin(_turn)], axis=1).astype(np.float32)
"""[32, 2]: about the outline of an aligned face, for faces without landmarks."""

_PATCH = 256  # px of a drawn thing, in px of a crop; its middle lies at the middle of the part


@dataclass(frozen=True, eq=False)
class Occluder:
    """A thing once drawn; it may be pasted many times."""

    kind: str
    part: str
    texture: Image
    """[P, P, 3] RGB."""
    alpha: NDArray[np.float32]
    """[P, P], 0 to 1."""
    angle: float
    """Degrees by which it leans."""


def draw_occluder(random: Random, part: str, kind: str | None = None) -> Occluder:
    """A thing large enough to cover a part of the face.  kind: one of KINDS; None draws one."""
    kind = kind or str(random.choice(KINDS))
    x0, y0, x1, y1 = BOXES[part]
    half = np.array([x1 - x0, y1 - y0]) / 2 * random.uniform(1.05, 1.3)
    image, alpha = np.zeros((_PATCH, _PATCH, 3), np.float32), np.zeros((_PATCH, _PATCH), np.float32)
    _DRAWN[kind](image, alpha, half, random)
    grain = random.normal(0, random.uniform(1, 12), (_PATCH // 4, _PATCH // 4, 1)).astype(np.float32)
    image += cv2.resize(grain, (_PATCH, _PATCH), interpolation=cv2.INTER_CUBIC)[..., None]
    image *= _light(random)[..., None]
    texture = np.clip(cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 1.2)), 0, 255).astype(np.uint8)
    lean = {"microphone": 25, "hand": 20, "cup": 8, "bar": 0}.get(kind, 12)
    return Occluder(kind, part, texture, cv2.GaussianBlur(alpha, (0, 0), 0.7), random.normal(0, lean / 2))


def paste(
    image: Image,
    occluder: Occluder,
    shift: NDArray[np.floating] | tuple[float, float] = (0.0, 0.0),
    lean: float = 0.0,
    to_image: NDArray[np.floating] | None = None,
    light: float = 1.0,
) -> tuple[Image, Mask]:
    """Lay the thing over its part of the face; returns the picture and where it is now hidden [H, W].

    shift: px of the crop by which it lies beside the part.  lean: degrees added to its own.
    to_image: [2, 3] from crop px to the picture's; None for a crop.  light: factor on its brightness.
    """
    x0, y0, x1, y1 = BOXES[occluder.part]
    middle = np.array([(x0 + x1) / 2 + shift[0], (y0 + y1) / 2 + shift[1]])
    angle = np.deg2rad(occluder.angle + lean)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, middle - turn @ np.full(2, _PATCH / 2)])
    if to_image is not None:
        wide = to_image.astype(np.float64)
        matrix = np.column_stack([wide[:, :2] @ matrix[:, :2], wide[:, :2] @ matrix[:, 2] + wide[:, 2]])
    size = (image.shape[1], image.shape[0])
    alpha = cv2.warpAffine(occluder.alpha, matrix, size, flags=cv2.INTER_LINEAR)
    texture = occluder.texture
    if image.ndim == 2:
        texture = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
    over = cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32) * light
    share = alpha if image.ndim == 2 else alpha[..., None]
    return np.clip(image * (1 - share) + over * share + 0.5, 0, 255).astype(np.uint8), alpha > 0.5


def parts_covered(hidden: Mask) -> dict[str, bool]:
    """Which parts of an aligned crop are covered, for where it is hidden [SIDE, SIDE]."""
    found = {}
    for part, (x0, y0, x1, y1) in BOXES.items():
        box = hidden[round(y0) : round(y1), round(x0) : round(x1)]
        found[part] = bool(box.mean() >= COVERED)
    return found


def covered_share(hidden: Mask, outline: NDArray[np.floating] = FACE) -> float:
    """Share of a face, the convex hull of an outline [L, 2] px, that is hidden [H, W]; NaN outside of it."""
    hull = cv2.convexHull(outline.astype(np.float32)).round().astype(np.int32)
    face = cv2.fillConvexPoly(np.zeros(hidden.shape, np.uint8), hull, 1).astype(np.bool_)
    return float(hidden[face].mean()) if face.any() else float("nan")


def skin_colour(random: Random) -> NDArray[np.float32]:
    """[3] RGB: skin from very light to very dark."""
    tones = np.array([[246, 214, 190], [224, 176, 144], [196, 140, 104], [141, 91, 64], [78, 50, 38]])
    place = random.uniform(0, len(tones) - 1.001)
    low = int(place)
    tone = tones[low] + (place - low) * (tones[low + 1] - tones[low])
    return np.asarray(tone + random.normal(0, 5, 3), np.float32)


def _light(random: Random) -> NDArray[np.float32]:
    """[P, P]: light from one side."""
    along = np.linspace(-1, 1, _PATCH, dtype=np.float32)
    angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 0.6)
    ramp = np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None]
    return np.asarray(random.uniform(0.55, 1.1) * (1 + strength * ramp), np.float32)


Canvas = NDArray[np.float32]


def _line(
    image: Canvas,
    alpha: Canvas,
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    colour: Canvas,
    wide: float,
) -> None:
    """A rounded bar from a to b, px from the patch's middle; lighter along its middle, as a finger is."""
    ends = [tuple(round(float(v) + _PATCH / 2) for v in p) for p in (a, b)]
    for share, tint in ((1.0, 0.72), (0.8, 0.92), (0.5, 1.0)):
        cv2.line(image, *ends, (colour * tint).tolist(), max(1, round(wide * share)), cv2.LINE_AA)
    cv2.line(alpha, *ends, 1.0, max(1, round(wide)), cv2.LINE_AA)


def _by(place: NDArray[np.floating], right: float, down: float) -> NDArray[np.floating]:
    """A place [2] moved by so many px."""
    return place + np.array([right, down])


def _hand(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Fingers side by side, a palm behind them and a wrist."""
    skin, side = skin_colour(random), random.choice([-1, 1])
    count = int(np.clip(round(2 * half[1] / 9.5), 4, 6))
    thick, up = 2 * half[1] / count, random.choice([-1, 1])
    palm = np.array([side * (half[0] + 12), 0.2 * half[1]])
    _line(image, alpha, _by(palm, side * 8, 8), _by(palm, side * 70, up * 20 + 110), skin * 0.85, 34)
    _line(image, alpha, palm, _by(palm, side * 22, 6), skin * 0.9, 2 * half[1] + 4)
    for finger in range(count):
        y = -half[1] + thick * (finger + 0.5)
        tip = np.array([-side * (half[0] - random.uniform(0, 4)), y + random.normal(0, 1)])
        shade = skin * random.uniform(0.9, 1.04)
        _line(
            image, alpha, np.array([side * (half[0] + 10), y + random.normal(0, 1)]), tip, shade, thick * 1.12
        )
        nail = _by(tip, side * 0.12 * thick, 0)
        if random.random() < 0.4:
            _line(image, alpha, nail, _by(nail, side * 2, 0), np.minimum(255, skin * 1.15), 0.5 * thick)


def _cup(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A cup with a rim above, often a band of another colour, and fingers around it."""
    colour = random.uniform(20, 245, 3).astype(np.float32)
    wide, high, middle = half[0] * 1.05, half[1] * 1.15 + 14, _PATCH // 2
    top, bottom = -half[1] * 1.1, high
    narrow = random.uniform(0.75, 1.0)
    body = np.array([[-wide, top], [wide, top], [wide * narrow, bottom], [-wide * narrow, bottom]]) + middle
    cv2.fillPoly(alpha, [body.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    cv2.ellipse(alpha, (middle, round(middle + top)), (round(wide), round(0.14 * wide)), 0, 0, 360, 1.0, -1)
    across = 1 - 0.45 * ((np.arange(_PATCH) - middle) / wide) ** 2
    image += (colour[None, None] * np.clip(across, 0.3, 1)[None, :, None]).astype(np.float32)
    if random.random() < 0.5:
        band = slice(round(middle + top + 8), round(middle + top + 8 + random.uniform(6, 30)))
        image[band] = image[band] * 0.3 + random.uniform(0, 255, 3) * 0.7
    if random.random() < 0.6:
        skin, side = skin_colour(random), random.choice([-1, 1])
        for finger in range(3):
            y = -0.3 * half[1] + 10.0 * finger
            _line(image, alpha, np.array([side * (wide + 8), y]), np.array([-side * 0.2 * wide, y]), skin, 10)


def _microphone(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A round head with a mesh on a handle that comes from below."""
    grey = np.float32(random.uniform(15, 130)) * np.ones(3, np.float32)
    radius = float(half[0] * 0.5 + half[1] * 0.65)
    side = random.choice([-1, 1])
    _line(image, alpha, np.array([0, radius * 0.8]), np.array([side * 40, 130]), grey * 0.7, 0.8 * radius)
    middle = (_PATCH // 2, _PATCH // 2)
    axes = (round(max(half[0], radius)), round(radius))
    ball = cv2.ellipse(np.zeros_like(alpha), middle, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    y, x = np.mgrid[:_PATCH, :_PATCH].astype(np.float32)
    mesh = 1 + 0.3 * np.sign(np.sin(x * 1.3)) * np.sign(np.sin(y * 1.3))
    round_off = np.clip(
        1.3 - ((x - middle[0] + radius / 3) ** 2 + (y - middle[1] + radius / 3) ** 2) / radius**2 / 2,
        0.3,
        1.4,
    )
    image[:] = np.where(ball[..., None] > 0.5, (grey * (mesh * round_off)[..., None]), image)
    np.maximum(alpha, ball, out=alpha)


def _cloth(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A flat cloth with folds or stripes: a mask, a scarf."""
    corners = np.array([[-1, -1], [0, -1.1], [1, -1], [1.05, 0.9], [0, 1.3], [-1.05, 0.9]]) * half * 1.1
    corners += random.normal(0, 1.5, corners.shape)
    cv2.fillPoly(alpha, [(corners + _PATCH / 2).round().astype(np.int32)], 1.0, cv2.LINE_AA)
    colour = random.uniform(10, 250, 3).astype(np.float32)
    y, x = np.mgrid[:_PATCH, :_PATCH].astype(np.float32)
    turn, length = random.uniform(0, np.pi), random.uniform(5, 40)
    wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / length + random.uniform(0, 6))
    image += colour * (1 + random.uniform(0, 0.35) * wave[..., None])


def _phone(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A dark slab with a lens or two and fingers at its edge."""
    middle = _PATCH // 2
    a, b = (tuple((sign * half * 1.08 + middle).round().astype(int).tolist()) for sign in (-1, 1))
    cv2.rectangle(alpha, a, b, 1.0, -1)
    image += random.uniform(5, 90) + random.normal(0, 6, 3).astype(np.float32)
    for lens in range(random.integers(1, 4)):
        at = (a[0] + 8, a[1] + 8 + 9 * lens)
        cv2.circle(image, at, 4, (10.0, 10.0, 14.0), -1, cv2.LINE_AA)
        cv2.circle(image, at, 2, (120.0, 120.0, 140.0), 1, cv2.LINE_AA)
    skin = skin_colour(random)
    for finger in range(3):
        y = -half[1] * 0.3 + 11.0 * finger
        _line(image, alpha, np.array([half[0] + 20, y]), np.array([half[0] - 6, y]), skin, 10)


def _blob(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A rounded thing of one shade, often dark."""
    shade = random.uniform(0, 60) if random.random() < 0.5 else random.uniform(0, 255)
    axes = tuple(int(v) for v in half * random.uniform(1.15, 1.35))
    cv2.ellipse(alpha, (_PATCH // 2, _PATCH // 2), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    image += shade + random.normal(0, 6, 3).astype(np.float32)


def _bar(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """A rectangle of one shade, as black bars and captions are."""
    a, b = (tuple((sign * half + _PATCH // 2).round().astype(int).tolist()) for sign in (-1, 1))
    cv2.rectangle(alpha, a, b, 1.0, -1)
    image += random.choice([0.0, 255.0, random.uniform(0, 255)])


_DRAWN = {
    **{"hand": _hand, "cup": _cup, "microphone": _microphone, "cloth": _cloth},
    **{"phone": _phone, "blob": _blob, "bar": _bar},
}


def somewhere(random: Random) -> tuple[Occluder, NDArray[np.float64]]:
    """A thing and a shift for one still: over a part of the face, or anywhere."""
    part = str(random.choice(PARTS, p=[0.4, 0.3, 0.15, 0.15]))
    spread = 4.0 if random.random() < 0.7 else 0.3 * SIDE
    return draw_occluder(random, part), random.normal(0, spread, 2)
