"""Draw and paste occluders over faces: hand, cup, microphone, cloth, phone, blob, bar.

Positions and sizes are in px of an aligned crop (align.TEMPLATE, SIDE px), so the same occluder covers the
same part of a crop and, through a transform, of the frame that was cropped. In a track, an occluder enters
from outside, stays for 0.5 to 5 s, moves slightly and leaves. Labels do not change. The same seed gives the
same result.

Inputs: a random generator; a picture [H, W] or [H, W, 3] uint8, or crops [T, S, S(, 3)] with times [T] in
seconds.
Returns: the picture and its occlusion mask [H, W], or an `OccludedTrack`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from auscan.faces.align import SIDE
from recipes.nano.data.teacher_labels import NANO_AUS

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Random = np.random.Generator
KINDS = ("hand", "cup", "microphone", "cloth", "phone", "blob", "bar")
PARTS = ("mouth", "eyes", "left", "right")
"""Parts of the face; left and right are halves as seen in the picture."""
BOXES = {
    **{"mouth": (36.0, 82.0, 76.0, 106.0), "eyes": (22.0, 43.0, 90.0, 61.0)},
    **{"left": (18.0, 18.0, 56.0, 112.0), "right": (56.0, 18.0, 94.0, 112.0)},
}
"""The parts as x0, y0, x1, y1 in px of an aligned crop."""
REGIONS = {
    **{"brows": (22.0, 27.0, 90.0, 47.0), "eyes": BOXES["eyes"]},
    **{"nose": (42.0, 50.0, 70.0, 80.0), "mouth": BOXES["mouth"]},
}
"""Regions in which AUs are seen, as boxes in px of an aligned crop."""
AU_REGIONS = {
    **dict.fromkeys(("AU01", "AU02", "AU04"), "brows"),
    **dict.fromkeys(("AU05", "AU06", "AU07", "AU45"), "eyes"),
    "AU09": "nose",
}
"""Region of each AU; the mouth for all others."""
COVERED_SHARE, VISIBLE_SHARE = 0.6, 0.1
"""A region is covered from the first share on, and visible up to the second."""
MIN_COVERED_SHARE = 0.75
"""Minimum covered share of a part's box for the part to count as covered."""
_turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
FACE_OUTLINE = np.stack([56 + 38 * np.cos(_turn), 65 + 49 * np.sin(_turn)], axis=1).astype(np.float32)
"""[32, 2]: approximate outline of an aligned face, for faces without landmarks."""
_PATCH = 256  # side of a drawn occluder in px of a crop; its centre is the centre of the part


@dataclass(frozen=True, eq=False)
class Occluder:
    """A drawn occluder; `paste` puts it on a picture."""

    kind: str
    """One of KINDS."""
    part: str
    """One of PARTS."""
    texture: Image
    """[P, P, 3] RGB."""
    alpha: NDArray[np.float32]
    """[P, P], 0 to 1."""
    angle: float
    """Rotation, degrees."""


def draw_occluder(random: Random, part: str, kind: str | None = None) -> Occluder:
    """Draw an occluder large enough for a part of the face.  kind: one of KINDS; None for a random one."""
    kind = kind or str(random.choice(KINDS))
    x0, y0, x1, y1 = BOXES[part]
    half = np.array([x1 - x0, y1 - y0]) / 2 * random.uniform(1.05, 1.3)
    image, alpha = np.zeros((_PATCH, _PATCH, 3), np.float32), np.zeros((_PATCH, _PATCH), np.float32)
    _DRAW[kind](image, alpha, half, random)
    grain = random.normal(0, random.uniform(1, 12), (_PATCH // 4, _PATCH // 4, 1)).astype(np.float32)
    image += cv2.resize(grain, (_PATCH, _PATCH), interpolation=cv2.INTER_CUBIC)[..., None]
    image *= _light(random)[..., None]
    texture = np.clip(cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 1.2)), 0, 255).astype(np.uint8)
    tilt_deg = {"microphone": 25, "hand": 20, "cup": 8, "bar": 0}.get(kind, 12)
    return Occluder(kind, part, texture, cv2.GaussianBlur(alpha, (0, 0), 0.7), random.normal(0, tilt_deg / 2))


def paste(
    image: Image,
    occluder: Occluder,
    shift: NDArray[np.floating] | tuple[float, float] = (0.0, 0.0),
    tilt_deg: float = 0.0,
    to_image: NDArray[np.floating] | None = None,
    light: float = 1.0,
) -> tuple[Image, Mask]:
    """Paste an occluder over its part of the face. Return the picture and the occlusion mask [H, W].

    shift: offset from the part, in px of the crop.  tilt_deg: added to the occluder's angle.
    to_image: [2, 3] transform from crop px to picture px; None for a crop.  light: factor on its brightness.
    """
    x0, y0, x1, y1 = BOXES[occluder.part]
    middle = np.array([(x0 + x1) / 2 + shift[0], (y0 + y1) / 2 + shift[1]])
    angle = np.deg2rad(occluder.angle + tilt_deg)
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
    """Return whether each part of an aligned crop is covered, by its occlusion mask [SIDE, SIDE]."""
    found = {}
    for part, (x0, y0, x1, y1) in BOXES.items():
        box = hidden[round(y0) : round(y1), round(x0) : round(x1)]
        found[part] = bool(box.mean() >= MIN_COVERED_SHARE)
    return found


def region_covers(hidden: Mask) -> NDArray[np.int8]:
    """Return whether the region of each AU is covered: [A] of 1 covered, 0 visible, -1 between.

    hidden: occlusion mask of an aligned crop [SIDE, SIDE].
    """
    shares = {
        name: float(hidden[round(y0) : round(y1), round(x0) : round(x1)].mean())
        for name, (x0, y0, x1, y1) in REGIONS.items()
    }
    found = np.array([shares[AU_REGIONS.get(name, "mouth")] for name in NANO_AUS])
    return np.where(found >= COVERED_SHARE, 1, np.where(found <= VISIBLE_SHARE, 0, -1)).astype(np.int8)


def covered_share(hidden: Mask, outline: NDArray[np.floating] = FACE_OUTLINE) -> float:
    """Compute the share of a face under a mask [H, W]; NaN if the face is outside the picture.

    outline: [L, 2] px; the face is its convex hull.
    """
    hull = cv2.convexHull(outline.astype(np.float32)).round().astype(np.int32)
    face = cv2.fillConvexPoly(np.zeros(hidden.shape, np.uint8), hull, 1).astype(np.bool_)
    return float(hidden[face].mean()) if face.any() else float("nan")


def skin_colour(random: Random) -> NDArray[np.float32]:
    """Draw a skin colour, [3] RGB."""
    tones = np.array([[246, 214, 190], [224, 176, 144], [196, 140, 104], [141, 91, 64], [78, 50, 38]])
    place = random.uniform(0, len(tones) - 1.001)
    low = int(place)
    tone = tones[low] + (place - low) * (tones[low + 1] - tones[low])
    return np.asarray(tone + random.normal(0, 5, 3), np.float32)


def _light(random: Random) -> NDArray[np.float32]:
    """Draw directional shading [P, P]."""
    along = np.linspace(-1, 1, _PATCH, dtype=np.float32)
    angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 0.6)
    ramp = np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None]
    return np.asarray(random.uniform(0.55, 1.1) * (1 + strength * ramp), np.float32)


Canvas = NDArray[np.float32]


def _draw_stroke(
    image: Canvas,
    alpha: Canvas,
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    colour: Canvas,
    wide: float,
) -> None:
    """Draw a rounded bar from a to b, px from the patch centre, lighter along its middle like a finger."""
    ends = [tuple(round(float(v) + _PATCH / 2) for v in p) for p in (a, b)]
    for share, tint in ((1.0, 0.72), (0.8, 0.92), (0.5, 1.0)):
        cv2.line(image, *ends, (colour * tint).tolist(), max(1, round(wide * share)), cv2.LINE_AA)
    cv2.line(alpha, *ends, 1.0, max(1, round(wide)), cv2.LINE_AA)


def _offset(place: NDArray[np.floating], right: float, down: float) -> NDArray[np.floating]:
    """Move a place [2] by some px."""
    return place + np.array([right, down])


def _hand(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw fingers, a palm and a wrist."""
    skin, side = skin_colour(random), random.choice([-1, 1])
    count = int(np.clip(round(2 * half[1] / 9.5), 4, 6))
    thick, up = 2 * half[1] / count, random.choice([-1, 1])
    palm = np.array([side * (half[0] + 12), 0.2 * half[1]])
    _draw_stroke(
        image, alpha, _offset(palm, side * 8, 8), _offset(palm, side * 70, up * 20 + 110), skin * 0.85, 34
    )
    _draw_stroke(image, alpha, palm, _offset(palm, side * 22, 6), skin * 0.9, 2 * half[1] + 4)
    for finger in range(count):
        y = -half[1] + thick * (finger + 0.5)
        tip = np.array([-side * (half[0] - random.uniform(0, 4)), y + random.normal(0, 1)])
        shade = skin * random.uniform(0.9, 1.04)
        _draw_stroke(
            image, alpha, np.array([side * (half[0] + 10), y + random.normal(0, 1)]), tip, shade, thick * 1.12
        )
        nail = _offset(tip, side * 0.12 * thick, 0)
        if random.random() < 0.4:
            _draw_stroke(
                image, alpha, nail, _offset(nail, side * 2, 0), np.minimum(255, skin * 1.15), 0.5 * thick
            )


def _cup(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw a cup with a rim, often a coloured band and fingers."""
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
            _draw_stroke(
                image, alpha, np.array([side * (wide + 8), y]), np.array([-side * 0.2 * wide, y]), skin, 10
            )


def _microphone(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw a microphone with a mesh head on a handle."""
    grey = np.float32(random.uniform(15, 130)) * np.ones(3, np.float32)
    radius = float(half[0] * 0.5 + half[1] * 0.65)
    side = random.choice([-1, 1])
    _draw_stroke(
        image, alpha, np.array([0, radius * 0.8]), np.array([side * 40, 130]), grey * 0.7, 0.8 * radius
    )
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
    """Draw a cloth with folds or stripes, like a mask or scarf."""
    corners = np.array([[-1, -1], [0, -1.1], [1, -1], [1.05, 0.9], [0, 1.3], [-1.05, 0.9]]) * half * 1.1
    corners += random.normal(0, 1.5, corners.shape)
    cv2.fillPoly(alpha, [(corners + _PATCH / 2).round().astype(np.int32)], 1.0, cv2.LINE_AA)
    colour = random.uniform(10, 250, 3).astype(np.float32)
    y, x = np.mgrid[:_PATCH, :_PATCH].astype(np.float32)
    turn, length = random.uniform(0, np.pi), random.uniform(5, 40)
    wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / length + random.uniform(0, 6))
    image += colour * (1 + random.uniform(0, 0.35) * wave[..., None])


def _phone(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw a phone with lenses and fingers at its edge."""
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
        _draw_stroke(image, alpha, np.array([half[0] + 20, y]), np.array([half[0] - 6, y]), skin, 10)


def _blob(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw an ellipse of one shade, often dark."""
    shade = random.uniform(0, 60) if random.random() < 0.5 else random.uniform(0, 255)
    axes = tuple(int(v) for v in half * random.uniform(1.15, 1.35))
    cv2.ellipse(alpha, (_PATCH // 2, _PATCH // 2), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    image += shade + random.normal(0, 6, 3).astype(np.float32)


def _bar(image: Canvas, alpha: Canvas, half: NDArray[np.float64], random: Random) -> None:
    """Draw a rectangle of one shade, like a bar or caption."""
    a, b = (tuple((sign * half + _PATCH // 2).round().astype(int).tolist()) for sign in (-1, 1))
    cv2.rectangle(alpha, a, b, 1.0, -1)
    image += random.choice([0.0, 255.0, random.uniform(0, 255)])


_DRAW = {
    **{"hand": _hand, "cup": _cup, "microphone": _microphone, "cloth": _cloth},
    **{"phone": _phone, "blob": _blob, "bar": _bar},
}


def draw_random_occluder(random: Random) -> tuple[Occluder, NDArray[np.float64]]:
    """Draw an occluder and an offset for one still: over a part of the face, or anywhere."""
    part = str(random.choice(PARTS, p=[0.4, 0.3, 0.15, 0.15]))
    spread = 4.0 if random.random() < 0.7 else 0.3 * SIDE
    return draw_occluder(random, part), random.normal(0, spread, 2)


SPAN_S = (0.5, 5.0)
"""Shortest and longest occlusion, seconds."""
PART_CHOICES = ("mouth", "mouth", "mouth", "eyes", "left", "right")
"""Parts to draw from. The mouth is half of them, because there audio can help."""
_ENTRY_DISTANCE_PX = 130.0  # distance of the entry point, crop px


@dataclass(frozen=True, eq=False)
class OccludedTrack:
    """Crops of a track with occluders."""

    crops: NDArray[np.uint8]
    """[T, S, S] or [T, S, S, 3]."""
    hidden: NDArray[np.bool_]
    """[T, 4]: whether each of PARTS is covered."""
    share: NDArray[np.float32]
    """[T]: covered share of the face."""

    def part(self, name: str) -> NDArray[np.bool_]:
        """Return whether this one of PARTS is covered: [T]."""
        return self.hidden[:, PARTS.index(name)]


@dataclass(frozen=True, eq=False)
class OccluderPath:
    """Path of one occluder over the face."""

    occluder: Occluder
    frames: NDArray[np.intp]
    """[n]: frames with the occluder in or near the picture."""
    shifts: NDArray[np.floating]
    """[n, 2] offsets in px of the crop."""
    tilts_deg: NDArray[np.floating]
    """[n] degrees, added to the occluder's angle."""


def plan_occlusions(
    times_s: NDArray[np.floating],
    random: np.random.Generator,
    spans_s: list[tuple[float, float]],
    parts: tuple[str, ...] = PART_CHOICES,
    kinds: tuple[str, ...] = KINDS,
) -> list[OccluderPath]:
    """Draw an occluder for each span of time, over one of `parts`, of one of `kinds`; frame times [T] s."""
    found = []
    for start_s, end_s in spans_s:
        occluder = draw_occluder(random, str(random.choice(parts)), str(random.choice(kinds)))
        frames = np.flatnonzero((times_s >= start_s - 0.5) & (times_s <= end_s + 0.5))
        found.append(OccluderPath(occluder, frames, *_movement(random, times_s[frames], start_s, end_s)))
    return found


def occlude_track(
    crops: NDArray[np.uint8],
    times_s: NDArray[np.floating],
    random: np.random.Generator,
    occluded_share: float = 0.5,
    parts: tuple[str, ...] = PART_CHOICES,
    kinds: tuple[str, ...] = KINDS,
) -> OccludedTrack:
    """Occlude parts of a face for spans of time.

    crops: [T, S, S] or [T, S, S, 3].  times_s: [T] seconds.
    occluded_share: approximate share of time; 1 covers the whole track.
    parts, kinds: parts of the face and kinds of occluders to draw from for each span.
    """
    out, share = crops.copy(), np.zeros(len(crops), np.float32)
    hidden = np.zeros((len(crops), len(PARTS)), np.bool_)
    spans_s = draw_spans(random, float(times_s[0]), float(times_s[-1]), occluded_share)
    for path in plan_occlusions(times_s, random, spans_s, parts, kinds):
        for frame, shift, tilt_deg in zip(path.frames, path.shifts, path.tilts_deg, strict=True):
            light = float(
                np.clip(crops[frame].mean() / 110.0, 0.35, 1.15)
            )  # match the brightness of the picture
            out[frame], here = paste(out[frame], path.occluder, shift, tilt_deg, light=light)
            share[frame] = max(share[frame], covered_share(here))
            hidden[frame] |= np.array(list(parts_covered(here).values()))
    return OccludedTrack(out, hidden, share)


def occlude_still(
    crop: NDArray[np.uint8], part: str, random: np.random.Generator, kind: str | None = None
) -> NDArray[np.uint8]:
    """Cover a part of the face in one aligned crop."""
    return paste(crop, draw_occluder(random, part, kind), random.normal(0, 1.5, 2))[0]


def draw_spans(
    random: np.random.Generator, first_s: float, last_s: float, occluded_share: float
) -> list[tuple[float, float]]:
    """Draw start and end of each span, s, in order."""
    if occluded_share >= 1:
        return [(first_s - 1, last_s + 1)]
    mean_s = 2.0  # mean length of a span, from the squared random number below
    gap_s = mean_s * (1 - occluded_share) / occluded_share
    found, now = [], first_s + float(random.exponential(gap_s))
    while now < last_s:
        length = SPAN_S[0] + (SPAN_S[1] - SPAN_S[0]) * float(random.random()) ** 2
        found.append((now, now + length))
        now += length + min(0.6, gap_s) + float(random.exponential(max(0.0, gap_s - 0.6)))
    return found


def _movement(
    random: np.random.Generator, times_s: NDArray[np.floating], start_s: float, end_s: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Draw offsets [n, 2] px and tilts [n] degrees: entry, slow drift with tremor, exit."""
    pace_s = random.uniform(0.1, 0.25)
    away = 1 - _sigmoid((times_s - start_s) / pace_s) * _sigmoid((end_s - times_s) / pace_s)
    angle = random.uniform(0.05, 0.95) * np.pi  # enters from below, left or right
    come = _ENTRY_DISTANCE_PX * np.array([np.cos(angle), np.sin(angle)])
    width = max(1.0, 8.0 * pace_s / 0.2)
    drift = gaussian_filter1d(random.normal(0, 1, (len(times_s), 3)), width, axis=0) * np.sqrt(3.5 * width)
    tremble = random.normal(0, 0.25, (len(times_s), 2))
    shifts = away[:, None] * come + 1.6 * drift[:, :2] + tremble + random.normal(0, 1.5, 2)
    return shifts, 2.0 * drift[:, 2]


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a smooth step from 0 to 1 around 0."""
    return np.asarray(1 / (1 + np.exp(-4 * x)))
