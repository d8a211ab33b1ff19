"""Read an input: a file or a part of it, or frames in memory.

A recording yields frames that are numbered from 0, and audio on the same clock. A part of a file is
processed as if the file were cut there; times stay those of the file, and `first_frame` is the number of its
first frame within the file.

Inputs: a path with the seconds to process, or arrays. Returns: frames and audio.
See also: video.py, audio.py (reading files), pipeline/detect.py (processes a recording).
"""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import InputError, MediaError
from auscan.media.audio import Waveform, read_waveform
from auscan.media.clock import ClockLog
from auscan.media.video import Frame, probe, read_frames, read_segment


@dataclass
class FileRecording:
    """A video, a picture or a folder of numbered pictures, or the part of it from `start_s` to `end_s`.

    Raises InputError if the part is empty.
    """

    path: Path
    """Path of the input."""
    folder_rate_hz: float | None = None
    """Pictures per second of a folder."""
    start_s: float | None = None
    """First time to process, seconds on the clock of the file; None: from the first frame on."""
    end_s: float | None = None
    """Time before which the part ends, seconds; None: to the last frame."""
    first_frame: int = 0
    """Number of the first frame within the file; known once it was read."""
    clock: ClockLog = field(default_factory=ClockLog)
    """Repairs of the clock in the frames read last."""

    def __post_init__(self) -> None:
        start_s, end_s = self._bounds_s
        if math.isnan(start_s) or math.isnan(end_s) or start_s >= end_s:
            raise InputError(f"start={self.start_s} should be less than end={self.end_s}, in seconds.")

    @property
    def name(self) -> str:
        """Name of the input, as written to results."""
        return self.path.name

    @property
    def command(self) -> str:
        """Command line that processes the input, or the Python call that processes the part."""
        if not self._is_part:
            return shlex.join(["auscan", "detect", str(self.path)])
        return f"auscan.detect({str(self.path)!r}, start={self.start_s!r}, end={self.end_s!r})"

    def expected_frames(self) -> int | None:
        """Return the approximate number of frames; None if unknown, and for a part of a file.

        Raises MediaError if the file cannot be read.
        """
        return None if self._is_part else probe(self.path, self.folder_rate_hz).frames

    def frames(self) -> Iterator[Frame]:
        """Yield the frames. Raises MediaError if they cannot be read, or if the part has none."""
        self.clock = ClockLog()
        if not self._is_part:
            yield from read_frames(self.path, self.folder_rate_hz, log=self.clock)
            return
        count = 0
        for frame in read_segment(self.path, *self._bounds_s, self.folder_rate_hz, self.clock):
            self.first_frame = frame.index - count
            yield replace(frame, index=count)
            count += 1
        if not count:
            raise MediaError(
                f"{self.path} has no frame from start={self.start_s} to end={self.end_s}. Times are in "
                "seconds on the clock of the file, as in the column timestamp."
            )

    def audio(self) -> Iterator[Waveform] | None:
        """Return the audio as contiguous chunks; None if there is none. Raises MediaError as `frames`."""
        chunks = read_waveform(self.path)
        if chunks is None or not self._is_part:
            return chunks
        part = cut_audio(chunks, *self._bounds_s)
        first = next(part, None)
        return None if first is None else chain([first], part)

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each kind of repair that the frames read last needed."""
        return self.clock.warnings(self.name)

    @property
    def _is_part(self) -> bool:
        return self.start_s is not None or self.end_s is not None

    @property
    def _bounds_s(self) -> tuple[float, float]:
        return (
            -math.inf if self.start_s is None else self.start_s,
            math.inf if self.end_s is None else self.end_s,
        )


@dataclass
class ArrayRecording:
    """Frames in memory with their times, and optionally their sound. Raises InputError if they do not fit."""

    images: NDArray[np.uint8]
    """[T, H, W, 3] RGB, upright."""
    times_s: ArrayLike
    """[T] seconds; they do not decrease."""
    sound: Waveform | None = None
    """Audio on the same clock."""
    first_frame: int = 0
    """Number of the first frame."""
    name: str = "frames"
    """Name of the input, as written to results."""
    command: str = "auscan.detect(frames, times_s=times_s)"
    """Python call that processes the frames."""

    def __post_init__(self) -> None:
        check_images(self.images, ("T", "H", "W", "3"))
        try:
            times_s = np.asarray(self.times_s, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"times_s should be a time in seconds for each frame: {error}.") from error
        if times_s.shape != self.images.shape[:1]:
            raise InputError(
                f"times_s should have {len(self.images)} times, one for each frame, got the shape "
                f"{list(times_s.shape)}."
            )
        previous_s = -math.inf
        for time_s in times_s.tolist():
            previous_s = check_time(time_s, previous_s)
        self.times_s = times_s
        if self.sound is not None:
            check_sound(self.sound)

    def expected_frames(self) -> int:
        """Return the number of frames."""
        return len(self.images)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames."""
        times_s = np.asarray(self.times_s).tolist()
        for index, (image, time_s) in enumerate(zip(self.images, times_s, strict=True)):
            yield Frame(index, time_s, image)

    def audio(self) -> Iterator[Waveform] | None:
        """Return the audio as one chunk; None if there is none."""
        return None if self.sound is None or not len(self.sound.samples) else iter([self.sound])

    def warnings(self) -> tuple[str, ...]:
        """Return no sentence, because frames in memory need no repair."""
        return ()


Recording = FileRecording | ArrayRecording
"""Input of `pipeline.detect.detect`."""


def cut_audio(chunks: Iterator[Waveform], start_s: float, end_s: float) -> Iterator[Waveform]:
    """Yield the samples from `start_s` on and before `end_s` of contiguous audio; read no further."""
    for chunk in chunks:
        first, stop = (_samples_before(bound_s, chunk) for bound_s in (start_s, end_s))
        if first < stop:
            yield Waveform(chunk.samples[first:stop], chunk.start_s + first / SAMPLE_RATE_HZ)
        if stop < len(chunk.samples):
            return


def _samples_before(time_s: float, chunk: Waveform) -> int:
    """Return the number of samples of a chunk that lie before a time."""
    samples = min(max((time_s - chunk.start_s) * SAMPLE_RATE_HZ, 0.0), float(len(chunk.samples)))
    return math.ceil(samples - 1e-3)  # times of samples are rounded


def check_images(images: Any, shape: tuple[str, ...]) -> None:
    """Raise InputError unless `images` is a uint8 array of a shape such as ("H", "W", "3")."""
    expected = f"a uint8 array [{', '.join(shape)}] in RGB"
    if not isinstance(images, np.ndarray):
        raise InputError(f"The image should be {expected}, got {type(images).__name__}.")
    if images.ndim != len(shape) or images.shape[-1] != 3 or not images.size:
        raise InputError(f"The image should be {expected}, got the shape {list(images.shape)}.")
    if images.dtype != np.uint8:
        raise InputError(
            f"The image should be {expected}, got {images.dtype}. Convert it; an image from 0 to 1 times 255."
        )


def check_time(time_s: Any, previous_s: float) -> float:
    """Return the time of a frame; raise InputError unless it is finite and not before the previous one."""
    try:
        value = float(time_s)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"The time of a frame should be a number of seconds, got {time_s!r}.")
    if value < previous_s:
        raise InputError(
            f"The time of a frame, {value} s, is before that of the previous frame, {previous_s} s. Give "
            "frames in the order of their times."
        )
    return value


def check_sound(sound: Any) -> None:
    """Raise InputError unless `sound` is a Waveform of finite float32 samples [M] with a finite start."""
    if not isinstance(sound, Waveform):
        raise InputError(
            f"The sound should be auscan.Waveform(samples, start_s), got {type(sound).__name__}."
        )
    samples = sound.samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype != np.float32:
        got = (
            f"{samples.dtype} {list(samples.shape)}"
            if isinstance(samples, np.ndarray)
            else type(samples).__name__
        )
        raise InputError(
            f"The sound should be float32 samples [M] of one channel at {SAMPLE_RATE_HZ} Hz from -1 to 1, "
            f"got {got}. Divide int16 samples by 32768, and average channels."
        )
    if not np.isfinite(samples).all() or not math.isfinite(sound.start_s):
        raise InputError(f"The sound contains NaN or infinity, or its start does (start_s={sound.start_s}).")
