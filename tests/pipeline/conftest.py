"""Fixtures: short videos of one smiling face, for tests of the whole pipeline."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Samples = NDArray[np.float32]  # [M] at 16 kHz

VIDEO_TIME_BASE = Fraction(1, 90_000)
AUDIO_TIME_BASE = Fraction(1, 16_000)


def _write_clip(
    path: Path, images: Sequence[Image], times_s: Sequence[float], samples: Samples | None = None
) -> Path:
    """Write an .mp4 with each image at its time; the audio begins at time 0."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = VIDEO_TIME_BASE
        audio = None if samples is None else container.add_stream("aac", rate=16_000, layout="mono")
        packets = []
        for image, time_s in zip(images, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base, frame.pts = VIDEO_TIME_BASE, round(time_s / VIDEO_TIME_BASE)
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio is not None and samples is not None:
            for start in range(0, len(samples), 1024):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples[None, start : start + 1024]), format="fltp", layout="mono"
                )
                block.sample_rate, block.time_base, block.pts = 16_000, AUDIO_TIME_BASE, start
                packets += audio.encode(block)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            container.mux(packet)
    return path


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """Return write_clip(path, images, times_s, samples=None) -> path."""
    return _write_clip


def _face_images(portrait: Image, count: int) -> list[Image]:
    """Render a face that moves while its brightness and a bar in front of it change: [192, 192, 3] each."""
    images = []
    for t in range(count):
        turn = 2 * np.pi * t / 25
        x = 130 + round(6 * np.sin(turn))
        image = portrait[24:216, x : x + 192] * (0.75 + 0.25 * np.cos(3 * turn))
        top = 90 + round(30 * np.sin(2 * turn))
        image[top : top + 12, 50:140] = 60 + 10 * (t % 7)
        images.append(image.astype(np.uint8))
    return images


@pytest.fixture(scope="session")
def face_images(portrait: Image) -> Callable[[int], list[Image]]:
    """Return face_images(count) -> `count` different pictures of one face."""
    return lambda count: _face_images(portrait, count)
