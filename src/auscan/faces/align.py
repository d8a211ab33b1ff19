"""Cut a face out of a frame so that eyes, nose and mouth always land on the same pixels.

Training and inference call the same `crop_face`, so the network never meets a crop it was not trained on. The
target is the usual 112x112 five-point template that Aff-Wild2's cropped_aligned images follow too.

In: an image and five points in its pixels.  Out: an upright square crop, and the way back to the frame.
Not here: finding the points (detector.py).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 112
"""Side of the template's square, in pixels."""

TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)
"""Where left eye, right eye, nose tip, left and right mouth corner go, in pixels of a SIDE x SIDE crop."""


def crop_transform(points: NDArray[np.floating], side: int = SIDE) -> NDArray[np.float32]:
    """The similarity (turn, scale, shift) that brings five points nearest to the template.

    points: [5, 2] frame px, in the order of TEMPLATE.  Returns [2, 3], frame px -> px of a side x side crop.
    Raises ValueError if the points are not finite or all coincide: then no scale exists.

    Reading a point as the complex number x + iy turns a similarity into w = a z + b, whose least squares
    solution needs two sums. It equals Umeyama's answer, and it cannot mirror the face.
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
    """Points [..., 2] in frame px -> the same points in crop px, under a transform [2, 3]."""
    moved: NDArray[np.floating] = points @ transform[:, :2].T + transform[:, 2]
    return moved.astype(np.float32)


def to_frame(points_in_crop: NDArray[np.floating], transform: NDArray[np.floating]) -> NDArray[np.float32]:
    """Points [..., 2] in crop px -> the same points in frame px; undoes a transform [2, 3]."""
    back = np.linalg.inv(transform[:, :2].astype(np.float64))
    return ((points_in_crop - transform[:, 2]) @ back.T).astype(np.float32)


def crop_face(image: NDArray[np.uint8], points: NDArray[np.floating], side: int = SIDE) -> NDArray[np.uint8]:
    """The aligned face: image [H, W, 3] or [H, W], points [5, 2] px -> [side, side, 3] or [side, side].

    What lies outside the image is black. A face much larger than the crop is first averaged down, because
    sampling one pixel in five would turn skin and hair into noise.
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
    """The part of the image under the crop, made about `factor` times smaller, and the transform for it."""
    corners = to_frame(np.array([[0, 0], [side, 0], [0, side], [side, side]]), transform)  # [4, 2]
    size = np.array([image.shape[1], image.shape[0]])
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - factor, 0, size)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + factor, 0, size)
    part = image[y0:y1, x0:x1]
    if part.size == 0:
        return part, transform
    small = (max(1, round(part.shape[1] / factor)), max(1, round(part.shape[0] / factor)))  # width, height
    shrunk: NDArray[np.uint8] = cv2.resize(part, small, interpolation=cv2.INTER_AREA)

    # Pixel centres: x_frame = (x_small + 0.5) * step - 0.5 + x0, likewise for y.
    step = np.array([part.shape[1] / small[0], part.shape[0] / small[1]])
    origin = np.array([x0, y0]) + 0.5 * step - 0.5
    shift = transform[:, :2] @ origin + transform[:, 2]  # [2]
    return shrunk, np.column_stack([transform[:, :2] * step, shift])
