"""Render a short demo clip: a smiling face, moved, tilted, darkened and covered for a moment.

The portrait of Eileen Collins (NASA, public domain) is part of the package, so nothing is downloaded. The
right answer is known: she smiles (AU06, AU12, AU25 active; AU04, AU15 inactive) unless a hand covers her
face.

Inputs: a path. Returns: a 10 s clip of 512 x 512 px at 25 frames a second with a soft tone.
See also: cli/demo.py (`auscan demo`), doctor.py (detects the portrait).
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.environment import atomic_path
from auscan.core.errors import AuscanError
from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector

PORTRAIT: Final = Path(__file__).with_name("astronaut.png")
"""Portrait, copied here by hatch_build.py when the package is built."""

FRAMES: Final[int] = 250
"""Frames of the clip."""
RATE_HZ: Final[int] = 25
"""Frames a second."""
SIDE: Final[int] = 512
"""Height and width of the clip, px."""

OCCLUDED_FRAMES: Final[range] = range(150, 200)
"""Frames in which the hand is in the picture."""

_DARK_FRAMES: Final[range] = range(60, 120)
_FACE_CENTRE: Final[tuple[float, float]] = (226.0, 122.0)  # x, y px in the portrait
_SKIN: Final[tuple[int, int, int]] = (205, 150, 120)  # RGB
_SOUND_RATE_HZ: Final[int] = 44_100

Image = NDArray[np.uint8]  # [H, W, 3] RGB


def read_portrait() -> Image:
    """Return the portrait [512, 512, 3] RGB. Raise AuscanError if the package lacks it."""
    stored: Any = cv2.imread(str(PORTRAIT), cv2.IMREAD_COLOR_RGB) if PORTRAIT.exists() else None
    if stored is None:
        raise AuscanError(f"The demo's portrait {PORTRAIT} is missing. Install auscan again with pip.")
    return np.asarray(stored, dtype=np.uint8)


def make_demo_clip(path: str | Path) -> None:
    """Write the clip to `path` (.mp4)."""
    portrait = read_portrait()
    with atomic_path(Path(path)) as temporary, av.open(str(temporary), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE_HZ)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "18", "preset": "veryfast"}
        audio: Any = container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono")
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(demo_frame(portrait, index), format="rgb24")
            container.mux(video.encode(frame))
            container.mux(audio.encode(_tone(index)))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def demo_frame(portrait: Image, index: int) -> Image:
    """Render frame `index` of the clip [512, 512, 3] from the portrait [512, 512, 3]."""
    image = _move(portrait, index / FRAMES)
    if index in OCCLUDED_FRAMES:
        share = (index - OCCLUDED_FRAMES.start) / (len(OCCLUDED_FRAMES) - 1)
        image = _cover(image, centre_x=-130 + share * (SIDE + 260))
    if index in _DARK_FRAMES:
        share = (index - _DARK_FRAMES.start) / len(_DARK_FRAMES)
        image = cv2.convertScaleAbs(image, alpha=1 - 0.6 * np.sin(np.pi * share) ** 2)
    return image


def demo_crops(side: int, count: int = 64) -> NDArray[np.uint8]:
    """Return crops [n, S, S, 3] RGB of the face from all over the clip, for checks that need a real face."""
    portrait = read_portrait()
    detector = FaceDetector()
    crops = []
    for index in np.linspace(0, FRAMES - 1, count).round().astype(int):
        image = demo_frame(portrait, int(index))
        crops += [crop_face(image, found.points, side) for found in detector(image)[:1]]
    return np.stack(crops)


def _move(portrait: Image, share: float) -> Image:
    """Pan, zoom and tilt as at `share` (0 to 1) of the clip; the face stays whole and about 200 px high."""
    turn = 2 * np.pi * share
    zoom = 2.0 + 0.3 * np.sin(1.5 * turn)
    x = _FACE_CENTRE[0] + 20 * np.sin(turn)
    y = max(_FACE_CENTRE[1], SIDE / 2 / zoom)  # the portrait ends a little above her hair
    transform = cv2.getRotationMatrix2D((x, y), 9 * np.sin(2 * turn), zoom)  # tilt in degrees
    transform[:, 2] += SIDE / 2 - x, SIDE / 2 - y
    moved: Image = cv2.warpAffine(
        portrait, transform, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return moved


def _cover(image: Image, centre_x: float) -> Image:
    """Draw a hand with its forearm over the picture, its palm at mouth height and at `centre_x` px."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = round(centre_x), 300
    cv2.ellipse(mask, (x, y), (62, 74), 0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA)
    for shift, reach in ((-46, 118), (-16, 140), (15, 134), (44, 108)):  # four fingers
        cv2.line(mask, (x + shift, y - 30), (x + round(1.15 * shift), y - reach), 255, 27, cv2.LINE_AA)
    cv2.line(mask, (x + 40, y + 20), (x + 92, y - 40), 255, 30, cv2.LINE_AA)  # thumb
    cv2.line(mask, (x, y + 60), (x - 10, SIDE + 60), 255, 84, cv2.LINE_AA)  # forearm
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.2)[..., None] / 255.0  # [H, W, 1]
    # Brightness grows with the distance from the outline, so that the fingers look round.
    depth = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), 2)[..., None]
    hand = np.asarray(_SKIN) * (0.72 + 0.28 * np.minimum(depth / 14, 1))
    return np.asarray(image * (1 - alpha) + hand * alpha).round().astype(np.uint8)


def _tone(index: int) -> Any:
    """Synthesise the audio of one frame: a soft fifth whose volume rises and falls every 5 s."""
    count = _SOUND_RATE_HZ // RATE_HZ
    at_s = (index * count + np.arange(count)) / _SOUND_RATE_HZ
    swell = 0.04 * (1 - np.cos(2 * np.pi * at_s / 5))
    wave = swell * (np.sin(2 * np.pi * 220 * at_s) + 0.5 * np.sin(2 * np.pi * 330 * at_s))
    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = _SOUND_RATE_HZ, index * count
    frame.time_base = Fraction(1, _SOUND_RATE_HZ)
    return frame
