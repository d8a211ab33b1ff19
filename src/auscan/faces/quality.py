"""How well a face can be read, as far as pixels tell: its size, sharpness, brightness and contrast.

All but the size are measured on the aligned face of SIDE x SIDE px, in a window from the brows to the chin,
so that hair, background and what lies beyond the picture do not count, and no figure depends on the size of
the checkpoint's crops.

In: a frame and the five points of a face.  Out: four numbers.
Not here: head pose and cover, which the visual stage tells; what is good enough (results/quality.py).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import SIDE, TEMPLATE, crop_face, crop_transform

EYES_PX = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
"""Distance of the eyes in the template, px."""
WINDOW = (slice(34, 106), slice(22, 90))
"""Rows and columns of the aligned face that are looked at."""
SCALES_PX = (1.0, 2.0, 4.0)
"""Standard deviations of the smoothings between which detail is measured: below lie noise and compression."""
LEAST_DETAIL = 0.1
"""Of 255; less is no detail, and an even patch is not sharp."""


def measure(
    image: NDArray[np.uint8], points: NDArray[np.floating], crop: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Size, sharpness, brightness and contrast of a face: [4].

    image: [H, W, 3] RGB    points: [5, 2] px    crop: [S, S, 3] the face cut out of it
    size: distance of the eyes of a face of this scale seen from the front, px of the frame
    brightness, contrast: mean and standard deviation of luminance, 0 to 1
    """
    aligned = crop if len(crop) == SIDE else crop_face(image, points)
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[WINDOW].astype(np.float32)
    turn = crop_transform(points)
    size = EYES_PX / float(np.hypot(turn[0, 0], turn[1, 0]))
    return np.array([size, sharpness(grey), grey.mean() / 255, grey.std() / 255], np.float32)


def sharpness(grey: NDArray[np.float32]) -> float:
    """Fine detail of a face [h, w] over that twice as coarse: a ratio, so that light and contrast cancel."""
    fine, middle, coarse = (cv2.GaussianBlur(grey, (0, 0), scale) for scale in SCALES_PX)
    return float(np.std(fine - middle) / max(float(np.std(middle - coarse)), LEAST_DETAIL))
