"""Read a picture, or list the numbered pictures of a folder.

Inputs: a path. Returns: uint8 [H, W, 3] RGB, rotated upright by the EXIF orientation.
See also: video.py (times of pictures).
"""

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.media.container import check_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
"""Suffixes of pictures, in lower case."""


def is_image(path: Path) -> bool:
    """Return whether the file has the suffix of a picture."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as uint8 [H, W, 3] RGB; convert other bit depths, grey levels and transparency.

    Raises MediaError if the file cannot be read or decoded.
    """
    check_file(path)
    # From bytes, because cv2.imread cannot open every Unicode path on every system.
    data = np.fromfile(path, np.uint8)
    # OpenCV also reports broken pictures on stderr; the MediaError below is enough.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise MediaError(f"{path} cannot be read as a picture; it may be truncated. Copy or export it again.")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def numbered_images(folder: Path) -> list[Path]:
    """Return the pictures of a folder with a number in their name, in the order of the numbers: 2 before 10.

    Raises MediaError if there are none.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder of pictures. Check the path.")
    images = [p for p in folder.iterdir() if is_image(p) and re.search(r"\d", p.stem) and p.name[0] != "."]
    if not images:
        raise MediaError(
            f"{folder} has no numbered pictures to read as a video. Name them like 0001.jpg, 0002.jpg, "
            f"or leave --as-video out."
        )
    return sorted(images, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key that compares the numbers in names by value."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name
