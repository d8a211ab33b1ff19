"""Read pictures, alone or as a folder of numbered ones.

In: a path.  Out: uint8 [H, W, 3] RGB, turned upright by the picture's EXIF data.
Not here: giving pictures a time (video.py).
"""

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.media.container import check_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def is_image(path: Path) -> bool:
    """Does the file's name end as a picture's does?"""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3] RGB; deeper, grey and transparent ones are brought to that form."""
    check_file(path)
    # From bytes, because cv2.imread cannot open every unicode path on every system.
    data = np.fromfile(path, np.uint8)
    # OpenCV reports broken pictures on stderr; the MediaError below says it once.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise MediaError(f"{path} cannot be read as a picture; it may be cut off. Copy or export it again.")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def numbered_images(folder: Path) -> list[Path]:
    """The pictures of a folder that carry a number in their name, in the order of the numbers: 2 before 10.

    Raises MediaError if there is none.
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
    """Sort key under which numbers inside names count as numbers."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name
