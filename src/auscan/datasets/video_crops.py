"""Cut the crops of a data set's tracks from the frames of the video, as `auscan detect` does.

The face of a track is the one that the data set's picture of that frame shows. Both are cut from the same
frame, so after registration (ECC, Evangelidis and Psarakis 2008) they are nearly equal; the faces of other
people are not. A track without pictures states its face: a face_id of `auscan detect`, or the largest.

Inputs: a video; a picture and the crops of all faces of its frame.
Returns: the crops of each frame; the crop that shows the picture, or None.
See also: features.py (uses them), pipeline/face_features.py (the same crops in `auscan detect`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from auscan.media.video import read_frames

LARGEST: Final = "largest"
"""Face of a track: the largest of each frame."""
MIN_SIMILARITY: Final = 0.98
"""Smallest correlation of a registered crop with the picture of its face. In 120 clips, with points moved by
8 % of the eye distance and JPEG of quality 85, it was at least 0.999, and at most 0.967 for other people."""
COMPARED_SIDE: Final = 112
"""Side at which crop and picture are compared, px."""
MARGIN: Final = COMPARED_SIDE // 8
"""Margin of the picture that is not compared, because the crop may not contain it, px."""
BLUR: Final = 5
"""Size of the filter against noise, px."""
_STOP: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)


@dataclass(frozen=True, eq=False)
class DetectedCrop:
    """Crop of one face of a frame."""

    face_id: int
    """Number of the face in `auscan detect`."""
    area: float
    """Area of the face's box, px."""
    pixels: NDArray[np.uint8]
    """Crop [S, S, 3] RGB."""


def detected_crops(video: Path, last: int, side: int) -> Iterator[tuple[int, list[DetectedCrop]]]:
    """Yield the index and the crops of all faces, `side` px, of the frames 0 to `last`.

    Raises MediaError as `read_frames` does.
    """
    for frame, faces in track_faces(read_frames(video, only=range(last + 1)), FaceDetector()):
        yield (
            frame.index,
            [
                DetectedCrop(face.face_id, float(face.box[2] * face.box[3]), crop)
                for face in faces
                for crop in [crop_face(frame.image, face.points, side)]
            ],
        )


def select_face(crops: Sequence[DetectedCrop], face: str) -> NDArray[np.uint8] | None:
    """Return the crop [S, S, 3] of a frame's face, 'largest' or a face_id; None if it is not in the frame."""
    chosen = crops if face == LARGEST else [crop for crop in crops if str(crop.face_id) == face]
    return max(chosen, key=lambda crop: crop.area).pixels if chosen else None


def find_shown(picture: NDArray[np.uint8], crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Return the crop [S, S, 3] that shows the face of the picture [H, W, 3], or None if none surely does."""
    similarities = [similarity(picture, crop) for crop in crops]
    best = int(np.argmax(similarities)) if similarities else -1
    return crops[best] if best >= 0 and similarities[best] >= MIN_SIMILARITY else None


def similarity(picture: NDArray[np.uint8], crop: NDArray[np.uint8]) -> float:
    """Return the correlation of a picture with a crop after registration by an affine map; -1 without one."""
    mask = np.zeros((COMPARED_SIDE, COMPARED_SIDE), np.uint8)
    mask[MARGIN:-MARGIN, MARGIN:-MARGIN] = 255
    start = np.eye(2, 3, dtype=np.float32)
    try:
        correlation, _ = cv2.findTransformECC(
            _grey(picture), _grey(crop), start, cv2.MOTION_AFFINE, _STOP, mask, BLUR
        )
    except cv2.error:  # the registration did not converge
        return -1.0
    return float(correlation)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance [COMPARED_SIDE, COMPARED_SIDE] of an image [H, W, 3]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    resized = cv2.resize(grey, (COMPARED_SIDE, COMPARED_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)
