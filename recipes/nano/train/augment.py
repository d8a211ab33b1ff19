"""Augment face crops: light, occlusion, blur, resolution, noise, compression, jitter of the points.

Inputs: a grey crop [S, S] uint8 or five points [5, 2] px, and a numpy generator.
Returns: the changed crop or points.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from recipes.nano.render.occluders import draw_random_occluder, paste

MIRRORED = (1, 0, 2, 4, 3)
"""Order of the five points after mirroring the image."""


def jitter_points(points: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """Jitter five points [5, 2] as a detector on moving video does.

    Each point moves by about 3 % of the eye distance; the whole set is rotated, scaled and shifted.
    """
    eyes = float(np.linalg.norm(points[1] - points[0])) + 1e-6
    centre = points.mean(axis=0)
    angle, scale = rng.normal(0, np.deg2rad(5)), np.exp(rng.normal(0, 0.05))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (points - centre) @ turn.T + centre + rng.normal(0, 0.04 * eyes, 2)
    return (moved + rng.normal(0, 0.03 * eyes, points.shape)).astype(np.float32)


def augment_crop(
    crop: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Apply lighting, occlusion, blur, low resolution, noise and compression, each with some probability.

    Return the crop and its occlusion mask [S, S].
    """
    image = relight(crop.astype(np.float32), rng)
    covered = np.zeros(crop.shape, dtype=np.bool_)
    if rng.random() < 0.3:
        image, covered = occlude(image, rng)
    if rng.random() < 0.12:
        image = darken(image, rng)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.12:
        image = motion_blur(image, rng)
    if rng.random() < 0.2:
        image = reduce_resolution(image, rng)
    if rng.random() < 0.4:
        image += rng.normal(0, rng.uniform(1, 12), image.shape).astype(np.float32)
    out = np.clip(image, 0, 255).astype(np.uint8)
    chance = rng.random()
    if chance < 0.2:
        out = jpeg(out, int(rng.integers(15, 80)))
    elif chance < 0.35:
        out = compress(out, rng)
    return out, covered


def fill_border(
    crop: NDArray[np.uint8], inside: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Fill the area beyond the edges of a picture with random shades in place of black.

    crop: [S, S]    inside: [S, S], 255 where the picture is and 0 beyond it
    """
    coarse = rng.uniform(0, 255) + rng.normal(0, rng.uniform(0, 60), (7, 7))
    background = cv2.resize(coarse.astype(np.float32), crop.shape[::-1], interpolation=cv2.INTER_CUBIC)
    share = inside.astype(np.float32) / 255.0
    return np.clip(crop * share + background * (1 - share), 0, 255).astype(np.uint8)


def relight(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change gamma, gain and the direction of light."""
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
    """Paste a random occluder. Return the picture and the occlusion mask [S, S]."""
    occluder, shift = draw_random_occluder(rng)
    out, covered = paste(np.clip(image, 0, 255).astype(np.uint8), occluder, shift)
    return out.astype(np.float32), covered


def darken(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Simulate low light: shot noise amplified by the camera's gain, and few grey levels."""
    light, gain = np.exp(rng.uniform(np.log(0.04), np.log(0.4))), rng.uniform(0.3, 1.0)
    few = np.clip(image, 0, 255) * light
    noisy = few + rng.normal(0, 1, image.shape) * np.sqrt(rng.uniform(0.02, 0.25) * few + rng.uniform(0, 3))
    return (np.clip(np.round(noisy), 0, 255) * light**-gain).astype(np.float32)


def motion_blur(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur along a line of 3 to 13 px."""
    length, angle = int(rng.integers(3, 14)), rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    middle, reach = (length - 1) / 2, (length - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    a, b = ((np.full(2, middle) + sign * reach).round().astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, a, b, 1.0, 1)
    smeared = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smeared, dtype=np.float32)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Encode as JPEG and decode."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.uint8)


def compress(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Imitate video compression at a low bit rate: coarse blocks of random size, smoothed edges."""
    side, size = image.shape[0], int(rng.uniform(0.5, 1.6) * image.shape[0])
    shift = rng.integers(0, 8, 2)  # shift of the block grid on the face
    padded = cv2.copyMakeBorder(
        cv2.resize(image, (size, size)), *shift.repeat(2).tolist(), cv2.BORDER_REPLICATE
    )
    coded = jpeg(padded, int(rng.integers(6, 30)))[shift[0] :, shift[1] :][:size, :size]
    return np.asarray(cv2.resize(cv2.medianBlur(coded, 3), (side, side)), dtype=np.uint8)


def reduce_resolution(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Reduce the crop to 25 to 70 % of its size (28 to 78 of 112 px) and enlarge it again."""
    side = image.shape[0]
    small = int(rng.uniform(0.25, 0.7) * side)
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
