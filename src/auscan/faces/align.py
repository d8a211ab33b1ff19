"""Align a face to a five-point template, crop it, and measure its image quality.

Training and inference call the same `crop_face`. The template is the usual 112x112 five-point template,
which the cropped_aligned images of Aff-Wild2 follow, too.

Quality is size, sharpness, brightness and contrast. All but the size are measured on the aligned face of
SIDE x SIDE px, in a window from the brows to the chin that excludes hair, background and pixels outside the
image.

Inputs: an image and five points in its pixels.
Returns: an upright square crop; transforms to the crop and back; four quality features.
See also: detector.py (points), results/table.py (limits of the quality check). The visual encoder predicts
head pose and occlusion.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 112
"""Side of the square of the template, in pixels."""

TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)
"""[5, 2] left eye, right eye, nose tip, left and right mouth corner, in pixels of a SIDE x SIDE crop."""


def crop_transform(points: NDArray[np.floating], side: int = SIDE) -> NDArray[np.float32]:
    """Compute the least-squares similarity transform (rotation, scale, shift) to the template.

    points: [5, 2] frame px, in the order of TEMPLATE.  Returns [2, 3], frame px -> px of a side x side crop.
    Raises ValueError if the points are not finite or all coincide, because then no scale exists.

    With points as complex numbers x + iy, a similarity is w = a z + b; its least-squares solution needs two
    sums. It equals Umeyama's solution without reflection.
    """
    target = TEMPLATE.astype(np.float64) * (side / SIDE)
    z = points[:, 0].astype(np.float64) + 1j * points[:, 1]  # [5]
    w = target[:, 0] + 1j * target[:, 1]  # [5]
    spread = float(np.sum(np.abs(z - z.mean()) ** 2))
    if not np.isfinite(spread) or spread < 1e-6:
        raise ValueError(f"Five distinct, finite points are needed to align a face, got {points.tolist()}.")
    a = np.sum(np.conj(z - z.mean()) * (w - w.mean())) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], dtype=np.float32)


def to_crop(points: NDArray[np.floating], transform: NDArray[np.floating]) -> NDArray[np.float32]:
    """Convert points [..., 2] from frame px to crop px with a transform [2, 3]."""
    moved: NDArray[np.floating] = points @ transform[:, :2].T + transform[:, 2]
    return moved.astype(np.float32)


def to_frame(points_in_crop: NDArray[np.floating], transform: NDArray[np.floating]) -> NDArray[np.float32]:
    """Convert points [..., 2] from crop px to frame px with the inverse of a transform [2, 3]."""
    back = np.linalg.inv(transform[:, :2].astype(np.float64))
    return ((points_in_crop - transform[:, 2]) @ back.T).astype(np.float32)


def crop_face(image: NDArray[np.uint8], points: NDArray[np.floating], side: int = SIDE) -> NDArray[np.uint8]:
    """Crop the aligned face: image [H, W, 3] or [H, W], points [5, 2] px -> [side, side, 3] or [side, side].

    Pixels outside the image are black. A face at least twice as large as the crop is first downsampled by
    area averaging, because sampling one pixel in five would cause aliasing.
    """
    transform = crop_transform(points, side).astype(np.float64)
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale <= 0.5:
        image, transform = _shrink_around_face(image, transform, side, int(1 / scale))
    if image.size == 0:
        return np.zeros((side, side, *image.shape[2:]), dtype=np.uint8)
    crop: NDArray[np.uint8] = cv2.warpAffine(image, transform, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def _shrink_around_face(
    image: NDArray[np.uint8], transform: NDArray[np.float64], side: int, factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the image part under the crop, about `factor` times smaller, and its transform to the crop."""
    corners = to_frame(np.array([[0, 0], [side, 0], [0, side], [side, side]]), transform)  # [4, 2]
    size = np.array([image.shape[1], image.shape[0]])
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - factor, 0, size)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + factor, 0, size)
    part = image[y0:y1, x0:x1]
    if part.size == 0:
        return part, transform
    small = (max(1, round(part.shape[1] / factor)), max(1, round(part.shape[0] / factor)))  # width, height
    shrunk: NDArray[np.uint8] = cv2.resize(part, small, interpolation=cv2.INTER_AREA)

    # Pixel centres: x_frame = (x_small + 0.5) * step - 0.5 + x0; the same for y.
    step = np.array([part.shape[1] / small[0], part.shape[0] / small[1]])
    origin = np.array([x0, y0]) + 0.5 * step - 0.5
    shift = transform[:, :2] @ origin + transform[:, 2]  # [2]
    return shrunk, np.column_stack([transform[:, :2] * step, shift])


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
