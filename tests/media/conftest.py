"""Write small videos of every kind with PyAV, for the tests of the media layer."""

import heapq
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

VIDEO_CLOCK = Fraction(1, 90_000)


def frame_picture(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return an image [H, W, 3] with a light top left quarter and a grey level that depends on the index."""
    image = np.full((height, width, 3), 40 + 10 * (index % 10), np.uint8)
    image[: height // 2, : width // 2] += 100
    return image


def tone(seconds: float, rate_hz: int, channels: int = 1, pitch_hz: float = 440.0) -> NDArray[np.float32]:
    """Return a sine of amplitude 0.5, float32 [channels, samples]."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.5 * np.sin(2 * np.pi * pitch_hz * time_s)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def write_video_file(
    path: Path,
    times_s: Sequence[float] = (),
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation_deg: float = 0.0,
    mirrored: bool = False,
    sound: NDArray[np.float32] | None = None,
    sound_rate_hz: int = 16_000,
    sound_codec: str = "aac",
    sound_start_s: float = 0.0,
    sound_gap: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video with frames at `times_s`; `sound` [C, M] starts at `sound_start_s`.

    sound_gap: (at_s, by_s) shifts the timestamps of the audio after `at_s` by `by_s`.
    """
    with av.open(str(path), "w", options=options or {}) as out:
        pictures, sounds = [], []
        if len(times_s):
            video = out.add_stream(codec, rate=25, options={"bf": "0"} if codec == "mpeg4" else {})
            video.width, video.height, video.pix_fmt = *size, pix_fmt
            video.time_base = video.codec_context.time_base = (
                Fraction(1, 25) if path.suffix == ".avi" else VIDEO_CLOCK
            )
            if rotation_deg or mirrored:
                video.set_display_rotation(rotation_deg, hflip=mirrored)
        if sound is not None:
            audio = out.add_stream(
                sound_codec, rate=sound_rate_hz, layout="mono" if len(sound) == 1 else "stereo"
            )
        if len(times_s):
            for index, time_s in enumerate(times_s):
                frame = av.VideoFrame.from_ndarray(frame_picture(index, *size), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.time_base = video.codec_context.time_base
                frame.pts = round(time_s / frame.time_base)
                pictures += video.encode(frame)
            pictures += video.encode(None)
        if sound is not None:
            step = 1024
            for start in range(0, sound.shape[1], step):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[:, start : start + step]),
                    format="fltp",
                    layout="mono" if len(sound) == 1 else "stereo",
                )
                block.sample_rate = sound_rate_hz
                block.time_base = Fraction(1, sound_rate_hz)
                block.pts = start + round(sound_start_s * sound_rate_hz)
                if sound_gap and start >= sound_gap[0] * sound_rate_hz:
                    block.pts += round(sound_gap[1] * sound_rate_hz)
                sounds += audio.encode(block)
            sounds += audio.encode(None)
        # Interleaved by time, as in files of cameras and recorders.
        for packet in heapq.merge(pictures, sounds, key=lambda p: float((p.dts or 0) * p.time_base)):
            out.mux(packet)
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video into the folder of the test: make_video(name, times_s, **kinds) -> path."""
    return lambda name, *args, **kinds: write_video_file(tmp_path / name, *args, **kinds)
