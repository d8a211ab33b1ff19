"""Spoil crops a little, so that an encoder that learns does not learn the pictures by heart.

All frames of a window are spoilt alike, but for noise: a face that jumps from frame to frame would teach the
memory movements that no face makes. Chance comes from the generator alone, so a resumed run sees the same.

In: a batch with crops (windows.py).  Out: the same with other crops.
Not here: losing sound or the face for a while (windows.py).
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from auscan.training.windows import Batch

SHIFT: Final = 0.04
"""Standard deviation of the shift, as a share of the side: a detector's points wander as much."""
SCALE: Final = 0.06
"""Of the logarithm of the scale."""
TURN_DEG: Final = 6.0
LIGHT: Final = 0.25
"""Of the logarithms of contrast and of gamma."""
BLUR_SHARE, NOISE_SHARE, COVER_SHARE = 0.25, 0.4, 0.3
"""How many windows are blurred, noisy, and have a part of the face covered."""


def augment_crops(batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch with the crops of each window moved, mirrored, relit, covered, blurred and made noisy."""
    if batch.crops is None:
        return batch
    crops = batch.crops.numpy().copy()  # [B, T, S, S, 3]
    for window, seen in zip(crops, batch.seen.numpy(), strict=True):
        _spoil(window, np.flatnonzero(seen), rng)
    return replace(batch, crops=torch.from_numpy(crops))


def _spoil(window: NDArray[np.uint8], rows: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Spoil some rows of [T, S, S, 3] in place."""
    side = window.shape[1]
    move, light = _movement(side, rng), _light(rng)
    covered = _cover(side, rng) if rng.random() < COVER_SHARE else None
    blur = rng.uniform(0.4, 1.5) * side / 112 if rng.random() < BLUR_SHARE else 0.0
    noise = rng.uniform(1, 10) if rng.random() < NOISE_SHARE else 0.0
    for row in rows:
        image = cv2.warpAffine(window[row], move, (side, side), borderMode=cv2.BORDER_REPLICATE)
        if covered is not None:
            place, colour = covered
            image[place] = colour
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        image = cv2.LUT(image, light)
        if noise:  # the same in all three channels, as faces are read in grey by nano
            grain = noise * rng.standard_normal((side, side, 1), np.float32)
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        window[row] = image


def _movement(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Turned and scaled about the middle, shifted, and every other time mirrored: [2, 3]."""
    middle = (side - 1) / 2
    move = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, TURN_DEG), np.exp(rng.normal(0, SCALE)))
    move[:, 2] += rng.normal(0, SHIFT * side, 2)
    if rng.random() < 0.5:  # no action unit knows left from right
        move = np.array([[-1.0, 0.0, side - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([move, [0.0, 0.0, 1.0]])
    return np.asarray(move)


def _light(rng: np.random.Generator) -> NDArray[np.uint8]:
    """What becomes of each of the 256 shades: brightness, contrast and gamma."""
    gamma, contrast = np.exp(rng.normal(0, LIGHT, 2))
    shades = 255 * np.linspace(0, 1, 256) ** gamma
    shades = (shades - 128) * contrast + 128 + rng.normal(0, 20)
    return np.asarray(np.clip(shades, 0, 255), np.uint8)


def _cover(side: int, rng: np.random.Generator) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """A rectangle somewhere, up to 40 % of the side long, and its colour."""
    height, width = rng.integers(max(1, side // 10), max(2, side * 2 // 5), 2)
    top, left = (int(rng.integers(0, side - length + 1)) for length in (height, width))
    return np.s_[top : top + height, left : left + width], rng.integers(0, 256, 3).astype(np.uint8)
