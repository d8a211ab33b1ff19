"""Make training crops look like what the tracker cuts out of real video.

Everything here works on one grey crop [S, S] uint8 or on the five points that the crop is cut by, with a
numpy generator as the only source of chance.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

MIRRORED = (1, 0, 2, 4, 3)
"""Order of the five points after mirroring the image."""


def shake_points(points: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Five points [5, 2] as a detector on moving video would have placed them.

    Each point wanders by about 3 % of the eye distance; the whole set is turned, scaled and shifted.
    """
    eyes = float(np.linalg.norm(points[1] - points[0])) + 1e-6
    centre = points.mean(axis=0)
    angle, scale = rng.normal(0, np.deg2rad(5)), np.exp(rng.normal(0, 0.05))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (points - centre) @ turn.T + centre + rng.normal(0, 0.04 * eyes, 2)
    return (moved + rng.normal(0, 0.03 * eyes, points.shape)).astype(np.float32)


def spoil(crop: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Light, occluders, blur, low resolution, noise and compression, each some of the time.

    Returns the crop and where an occluder lies on it, [S, S].
    """
    image = crop.astype(np.float32)
    image = relight(image, rng)
    covered = np.zeros(crop.shape, dtype=np.bool_)
    if rng.random() < 0.3:
        image, covered = occlude(image, rng)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.2:
        image = coarsen(image, rng)
    if rng.random() < 0.4:
        image += rng.normal(0, rng.uniform(1, 12), image.shape).astype(np.float32)
    out = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))])
        out = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.uint8)
    return out, covered


def covered_share(covered: NDArray[np.bool_], landmarks: NDArray[np.floating]) -> float:
    """How much of a face an occluder hides, 0 to 1; nan where the face lies outside the crop.

    covered: [S, S]    landmarks: [L, 2] crop px; the face is their convex hull
    """
    hull = cv2.convexHull(landmarks.astype(np.float32)).round().astype(np.int32)
    face = cv2.fillConvexPoly(np.zeros(covered.shape, np.uint8), hull, 1).astype(np.bool_)
    return float(covered[face].mean()) if face.any() else float("nan")


def surround(
    crop: NDArray[np.uint8], inside: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Something other than black beyond the edges of a picture, as in video.

    crop: [S, S]    inside: [S, S], 255 where the picture is and 0 beyond it
    """
    coarse = rng.uniform(0, 255) + rng.normal(0, rng.uniform(0, 60), (7, 7))
    scene = cv2.resize(coarse.astype(np.float32), crop.shape[::-1], interpolation=cv2.INTER_CUBIC)
    share = inside.astype(np.float32) / 255.0
    return np.clip(crop * share + scene * (1 - share), 0, 255).astype(np.uint8)


def relight(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Gamma, gain and a light from one side."""
    gamma = np.exp(rng.normal(0, 0.3))
    image = 255.0 * (image / 255.0) ** gamma * np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.4:
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
        ramp = np.linspace(-1, 1, image.shape[0], dtype=np.float32)
        image = image * (1 + strength * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]))
    return image.astype(np.float32)


def occlude(
    image: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A rounded thing of one shade, hand- to finger-sized, lies over part of the face; and where, [S, S]."""
    side = image.shape[0]
    shape = np.zeros_like(image)
    centre = tuple(int(v) for v in rng.uniform(0, side, 2))
    axes = tuple(int(v) for v in rng.uniform(0.06 * side, 0.32 * side, 2))
    cv2.ellipse(shape, centre, axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
    texture = rng.uniform(0, 255) + rng.normal(0, rng.uniform(0, 25), image.shape)
    texture = cv2.GaussianBlur(texture.astype(np.float32), (0, 0), rng.uniform(0.5, 3))
    return (image * (1 - shape) + texture * shape).astype(np.float32), shape > 0.5


def coarsen(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """As if the face had been only 28 to 80 pixels wide."""
    side = image.shape[0]
    small = int(rng.uniform(0.25, 0.7) * side)
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
