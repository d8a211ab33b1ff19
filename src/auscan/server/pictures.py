"""JPEG pictures from a stranger: how large they are is read before they are unpacked.

A few kilobytes can claim 65,535 x 65,535 pixels, 13 GB once unpacked.
In: bytes.  Out: a picture, or InputError.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import InputError

MAX_PIXELS: Final[int] = 4096 * 2304
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers that the size follows: SOF0 to SOF15 without DHT, JPG and DAC."""


def read_jpeg(data: bytes) -> NDArray[np.uint8]:
    """The picture, [H, W, 3] RGB.  Raises InputError where it is none or has too many pixels."""
    height, width = jpeg_size(data)
    if height * width > MAX_PIXELS:
        raise InputError(f"A picture of {width} x {height} px is too large.")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError("The picture is damaged.")
    return np.asarray(image, np.uint8)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width as the header says.  Raises InputError where there is no such header."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAME_HEADERS:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + max(length, 2)
    raise InputError("This is no JPEG picture.")
