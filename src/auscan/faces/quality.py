"""Measure the image quality of a face: size, sharpness, brightness and contrast.

All but the size are measured on the aligned face of SIDE x SIDE px, in a window from the brows to the chin
that excludes hair, background and pixels outside the image.

Inputs: an aligned face and its transform. Returns: four numbers.
See also: results/quality.py (limits of the quality check). The visual encoder predicts head pose and
occlusion.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import TEMPLATE

TEMPLATE_EYE_DISTANCE_PX = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
"""Distance between the eyes in the template, px."""
MEASURED_REGION = (slice(34, 106), slice(22, 90))
"""Rows and columns of the window in the aligned face."""
SCALES_PX = (1.5, 3.0, 6.0)
"""Standard deviations of the Gaussian filters that separate the bands of detail, px; finer detail is mostly
noise and compression artefacts."""


def measure_quality(aligned: NDArray[np.uint8], transform: NDArray[np.floating]) -> NDArray[np.float32]:
    """Measure size, sharpness, brightness and contrast of a face: float32 [4].

    aligned: [SIDE, SIDE, 3] RGB    transform: [2, 3] frame px -> px of `aligned`
    size: distance between the eyes of a frontal face at this scale, px of the frame
    sharpness: see `sharpness`
    brightness, contrast: mean and standard deviation of luminance, 0 to 1
    """
    size = TEMPLATE_EYE_DISTANCE_PX / float(np.hypot(transform[0, 0], transform[1, 0]))
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[MEASURED_REGION].astype(np.float32)
    mean, deviation = cv2.meanStdDev(grey)
    brightness_contrast = mean[0, 0] / 255, deviation[0, 0] / 255
    return np.array([size, sharpness(grey), *brightness_contrast], np.float32)


def sharpness(grey: NDArray[np.float32]) -> float:
    """Return the gradient of fine detail relative to detail twice as coarse, in the least sharp direction.

    grey: [h, w].  The ratio cancels lighting and contrast. The minimum over directions detects motion blur,
    which affects one direction.
    """
    halved = cv2.resize(
        grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    )  # detail of 1 px is not needed
    fine, middle, coarse = (cv2.GaussianBlur(halved, (0, 0), scale / 2) for scale in SCALES_PX)
    coarse_tensor = structure_tensor(middle - coarse) + np.eye(2)  # so that uniform patches are not sharp
    ratios = np.linalg.eigvals(np.linalg.solve(coarse_tensor, structure_tensor(fine - middle)))
    return float(np.sqrt(max(ratios.real.min(), 0.0)))


def structure_tensor(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the structure tensor S [2, 2]: x' S x is the sum of squared gradients in direction x."""
    gradient_x = (image[1:-1, 2:] - image[1:-1, :-2]).ravel()
    gradient_y = (image[2:, 1:-1] - image[:-2, 1:-1]).ravel()
    gradients = np.stack([gradient_x, gradient_y]).astype(np.float64)
    product: NDArray[np.float64] = gradients @ gradients.T
    return product
