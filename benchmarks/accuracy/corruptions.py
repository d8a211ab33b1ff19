"""Corrupt pictures in one way at a time by a known amount, reproducibly.

Amounts are relative to the face: covers lie over its parts in an aligned crop; blur and resolution are
relative to the eye distance. The covers are plain cloths, unlike the occluders of the training data.

Inputs: a frame [H, W, 3] RGB, five points [5, 2] px of its face, an amount. Returns: the corrupted frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_transform

Image = NDArray[np.uint8]
Points = NDArray[np.floating]
Random = np.random.Generator
LEVELS: Final = (1, 2, 3)
"""Mild, medium, strong; 0 is the clean frame."""
BOXES: Final = {
    "mouth": (34.0, 78.0, 78.0, 110.0),
    "eyes": (20.0, 38.0, 92.0, 64.0),
    "half": (8.0, 8.0, 56.0, 112.0),
}
"""Parts of an aligned crop (align.TEMPLATE) as x0, y0, x1, y1 in px; half is the left half of the picture."""


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt a picture."""

    amounts: tuple[float, float, float]
    """Amounts at the three levels."""
    unit: str
    """Unit of the amounts, for tables."""
    apply: Callable[[Image, Points, float, Random], Image]
    """Function from frame, points, amount and generator to the corrupted frame."""


def corrupt(image: Image, points: Points, kind: str, level: int, seed: int = 0) -> Image:
    """Corrupt a frame by `kind` at a level of 0 to 3. seed: seed of the random numbers."""
    if level == 0:
        return image
    corruption = CORRUPTIONS[kind]
    return corruption.apply(image, points, corruption.amounts[level - 1], np.random.default_rng(seed))


def cover(part: str) -> Callable[[Image, Points, float, Random], Image]:
    """Return a function that covers a share of a part's width and height with a cloth."""
    x0, y0, x1, y1 = BOXES[part]
    middle, half = np.array([x0 + x1, y0 + y1]) / 2, np.array([x1 - x0, y1 - y0]) / 2

    def apply(image: Image, points: Points, share: float, rng: Random) -> Image:
        low, high = (np.round(middle + sign * share * half).astype(int).tolist() for sign in (-1, 1))
        alpha = cv2.rectangle(np.zeros((SIDE, SIDE), np.float32), low, high, 1.0, -1)
        folds = cv2.resize(rng.normal(0, 12, (14, 14, 1)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cloth = (rng.uniform(30, 220, 3) + folds[..., None]).astype(np.float32)
        back = cv2.invertAffineTransform(crop_transform(points))
        size = (image.shape[1], image.shape[0])
        over = cv2.warpAffine(cloth, back, size, borderMode=cv2.BORDER_REPLICATE)
        share_of = cv2.warpAffine(alpha, back, size)[..., None]
        return np.clip(image * (1 - share_of) + over * share_of, 0, 255).astype(np.uint8)

    return apply


def blur(image: Image, points: Points, amount: float, rng: Random) -> Image:
    """Blur. amount: standard deviation over the eye distance."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), amount * eye_distance(points)), np.uint8)


def darken(image: Image, points: Points, gain: float, rng: Random) -> Image:
    """Reduce light by a gain and add noise, in 8 bits."""
    noise = rng.normal(0, 2, image.shape).astype(np.float32)
    return np.clip(image * np.float32(gain) + noise, 0, 255).round().astype(np.uint8)


def add_noise(image: Image, points: Points, amount: float, rng: Random) -> Image:
    """Add noise. amount: standard deviation, of 255."""
    noise = amount * rng.standard_normal(image.shape, np.float32)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def reduce_resolution(image: Image, points: Points, amount: float, rng: Random) -> Image:
    """Reduce the resolution and enlarge again; amount: eye distance in px of the reduced frame."""
    factor = amount / eye_distance(points)
    if factor >= 1:
        return image
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def compress(image: Image, points: Points, quality: float, rng: Random) -> Image:
    """Compress each picture as JPEG."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def eye_distance(points: Points) -> float:
    """Return the eye distance, px."""
    return float(np.linalg.norm(points[1] - points[0]))


CORRUPTIONS: Final = {
    "mouth covered": Corruption((0.6, 0.8, 1.0), "of its width and height", cover("mouth")),
    "eyes covered": Corruption((0.6, 0.8, 1.0), "of their width and height", cover("eyes")),
    "half covered": Corruption((0.6, 0.8, 1.0), "of its width and height", cover("half")),
    "blur": Corruption((0.03, 0.06, 0.12), "eye distances", blur),
    "darkness": Corruption((0.3, 0.1, 0.06), "of the light", darken),
    "noise": Corruption((10, 25, 50), "of 255", add_noise),
    "resolution": Corruption((16, 10, 6), "px between the eyes", reduce_resolution),
    "compression": Corruption((25, 10, 6), "JPEG quality", compress),
}
