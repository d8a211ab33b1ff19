"""Draw what comes before a face: a hand, a microphone, glasses, strands of hair.

In: the picture [H, W, 3] uint8 RGB, places in px, the face's size in px a cm.  Out: drawn into the picture.
Not here: when they come (person.py).
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.dynamics import Array

Image = NDArray[np.uint8]
Place = NDArray[np.floating]

_SHIFT: Final[int] = (
    4  # binary digits after the point in OpenCV's places, so that props do not jump by pixels
)


def draw_hand(image: Image, at: Place, scale: float, skin: Array) -> None:
    """A hand held sideways over the place [2], its fingers flat on the face."""
    for finger in range(4):
        y = at[1] + scale * (1.7 * finger - 2.4)
        tip = at[0] - scale * (4.6 - 0.5 * abs(finger - 1.2))
        _line(
            image, (tip, y), (at[0] + scale * 3, y + 0.2 * scale), skin * (0.97 - 0.05 * finger), 1.75 * scale
        )
        _line(
            image,
            (tip + 0.6 * scale, y + 0.85 * scale),
            (at[0] + 3 * scale, y + 1.0 * scale),
            skin * 0.66,
            0.2 * scale,
        )
    _line(
        image,
        (at[0] + 4.5 * scale, at[1]),
        (at[0] + 6 * scale, at[1] + 1.5 * scale),
        skin * 0.93,
        7.4 * scale,
    )
    _line(
        image,
        (at[0] + 6 * scale, at[1] + 3 * scale),
        (at[0] + 9 * scale, at[1] + 26 * scale),
        skin * 0.9,
        6 * scale,
    )


def draw_microphone(image: Image, at: Place, scale: float) -> None:
    """A microphone whose head is before the place [2], its handle pointing down."""
    grey = np.array([38.0, 38.0, 42.0])
    _line(image, (at[0], at[1] + scale), (at[0] + 2 * scale, at[1] + 14 * scale), grey, 2.6 * scale)
    _line(image, (at[0], at[1] - 0.3 * scale), (at[0] + 0.2 * scale, at[1] + scale), grey * 1.7, 5.6 * scale)
    _line(
        image,
        (at[0] - 0.9 * scale, at[1] - 1.2 * scale),
        (at[0] - 0.6 * scale, at[1]),
        grey * 3.2,
        0.5 * scale,
    )


def draw_glasses(image: Image, rims: tuple[Place, Place], scale: float) -> None:
    """Rims [N, 2] px of both glasses, already turned with the head, and the bridge between them."""
    dark = np.array([30.0, 28.0, 30.0])
    for rim in rims:
        points = np.round(rim * 2**_SHIFT).astype(np.int32)
        cv2.polylines(image, [points], True, dark.tolist(), max(1, round(0.32 * scale)), cv2.LINE_AA, _SHIFT)
    left, right = (
        (rim[np.argmax(rim[:, 0])] for rim in rims[:1]),
        (rim[np.argmin(rim[:, 0])] for rim in rims[1:]),
    )
    _line(image, tuple(next(left)), tuple(next(right)), dark, 0.32 * scale)


def draw_strands(image: Image, roots: Place, tips: Place, scale: float, hair: Array) -> None:
    """Strands of hair from roots [N, 2] to tips [N, 2]."""
    for number, (root, tip) in enumerate(zip(roots, tips, strict=True)):
        _line(image, tuple(root), tuple(tip), hair * (0.8 + 0.1 * (number % 4)), 0.3 * scale)


def _line(
    image: Image, start: tuple[float, ...], end: tuple[float, ...], colour: Array, thick: float
) -> None:
    a, b = ((round(float(p[0]) * 2**_SHIFT), round(float(p[1]) * 2**_SHIFT)) for p in (start, end))
    cv2.line(image, a, b, np.clip(colour, 0, 255).tolist(), max(1, round(thick)), cv2.LINE_AA, _SHIFT)
