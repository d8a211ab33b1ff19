"""Write tiny data sets in the formats of the real ones, with videos that encode their own frame times."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

HEADER = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
TEMPLATE_HEADER = f"image_location,{HEADER}"
BITS = 12
SOUND_RATE_HZ = 16_000


def number_picture(number: int) -> NDArray[np.uint8]:
    """Return a picture [48, 96, 3] that encodes `number` in twelve binary stripes, highest digit first."""
    bits = np.array([number >> (BITS - 1 - j) & 1 for j in range(BITS)], np.uint8)
    return np.broadcast_to(40 + 180 * bits.repeat(8)[None, :, None], (48, 96, 3)).astype(np.uint8)


def read_number(image: NDArray[np.uint8]) -> int:
    """Decode the number in a picture [48, 96, 3]."""
    stripes = image.reshape(48, BITS, 8, 3)[:, :, 2:6].mean(axis=(0, 2, 3))
    return int("".join("1" if level > 127 else "0" for level in stripes), 2)


def rising_tone(start_s: float, end_s: float) -> NDArray[np.float32]:
    """Return a sweep [M] at 16 kHz from `start_s` to `end_s`; its pitch is 400 Hz + 600 Hz/s x time."""
    time_s = np.arange(round(start_s * SOUND_RATE_HZ), round(end_s * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    return (0.5 * np.sin(2 * np.pi * (400 * time_s + 300 * time_s**2))).astype(np.float32)


def tone_time_s(samples: NDArray[np.float32], middle: int) -> float:
    """Decode the time in seconds from the pitch of a rising tone around sample `middle`."""
    piece = samples[middle - 400 : middle + 400]
    power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 16))
    return (power.argmax() * SOUND_RATE_HZ / (1 << 16) - 400) / 600


def write_numbered_video(
    path: Path,
    times_s: Sequence[float],
    *,
    sound: NDArray[np.float32] | None = None,
    sound_start_s: float = 0.0,
) -> Path:
    """Write a video whose n-th frame, from 1, encodes the number n and has the time times_s[n - 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_avi = path.suffix == ".avi"
    with av.open(str(path), "w") as out:
        codec, options = ("mpeg4", {"bf": "0"}) if is_avi else ("libx264", {})
        video = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 96, 48, "yuv420p"
        clock = Fraction(1, 25) if is_avi else Fraction(1, 90_000)
        video.time_base = video.codec_context.time_base = clock
        pictures, sounds = [], []
        if sound is not None:
            # AVI gets uncompressed sound, because it cannot store the delay of a compressed stream.
            audio = out.add_stream("pcm_s16le" if is_avi else "aac", rate=SOUND_RATE_HZ, layout="mono")
        for number, time_s in enumerate(times_s, start=1):
            frame = av.VideoFrame.from_ndarray(number_picture(number), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.time_base, frame.pts = clock, round(time_s / clock)
            pictures += video.encode(frame)
        pictures += video.encode(None)
        if sound is not None:
            for block in _blocks(sound, sound_start_s, "s16" if is_avi else "fltp"):
                sounds += audio.encode(block)
            sounds += audio.encode(None)
        for packet in heapq.merge(pictures, sounds, key=lambda p: float((p.dts or 0) * p.time_base)):
            out.mux(packet)
    return path


def _blocks(sound: NDArray[np.float32], start_s: float, form: str) -> Iterator[av.AudioFrame]:
    if form == "s16":
        sound = (32_000 * sound).astype(np.int16)
    for start in range(0, len(sound), 1024):
        block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024].copy(), form, "mono")
        block.sample_rate, block.time_base = SOUND_RATE_HZ, Fraction(1, SOUND_RATE_HZ)
        block.pts = start + round(start_s * SOUND_RATE_HZ)
        yield block


def write_pictures(folder: Path, numbers: Iterable[int], digits: int = 5) -> Path:
    """Write a folder of aligned crops; picture n encodes the number n."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        data = cv2.imencode(".jpg", np.ascontiguousarray(number_picture(number)))[1].tobytes()
        (folder / f"{number:0{digits}d}.jpg").write_bytes(data)
    return folder


def touch_pictures(folder: Path, numbers: Iterable[int]) -> Path:
    """Write placeholder files with the names of pictures, for tests that do not decode them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:05d}.jpg").write_bytes(b"x")
    return folder


def label_line(number: int) -> str:
    """Return a line of twelve labels, the binary digits of `number`, highest first."""
    return ",".join(str(number >> (BITS - 1 - j) & 1) for j in range(BITS))


def write_labels(path: Path, lines: Sequence[str]) -> Path:
    """Write an annotation file with its header."""
    return write_text(path, "\n".join([HEADER, *lines]) + "\n")


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def numbered_video(tmp_path: Path) -> Callable[..., Path]:
    """Return numbered_video(name, times_s, sound=...), a function that writes into the test's folder."""
    return lambda name, *args, **kinds: write_numbered_video(tmp_path / name, *args, **kinds)
