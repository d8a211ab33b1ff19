"""Write pictures and sound as an MP4 that browsers play.

H.264 in yuv420p with AAC, index at the front. Each picture is shown at its own time, so a variable frame rate
is kept.

Inputs: pictures with their times, and decoded frames of sound on the same clock.
Writes: an .mp4 file.
See also: overlay.py (content of the pictures), media/audio.py (decoding the sound).
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from auscan.results.table import frame_durations_s

_TIME_BASE: Final[Fraction] = Fraction(1, 90_000)  # s, fine enough for any frame rate
_SOUND_RATE_HZ: Final[int] = 48_000
_SOUND_BLOCK: Final[int] = 1024  # samples of one AAC frame


class Mp4Writer:
    """Writer of an MP4 with one video stream and at most one audio stream, both relative to the first frame.

    Sound before the first frame is dropped and gaps are silent. Both streams therefore begin at 0, and
    players keep them in sync without edit lists.
    """

    def __init__(self, path: Path, times_s: NDArray[np.float64], sound: Iterable[Any] | None) -> None:
        """times_s: times of all pictures    sound: decoded PyAV frames; None for none."""
        self._path = path
        median_s = float(np.median(frame_durations_s(times_s))) if len(times_s) > 1 else 0.04
        self._rate = Fraction(1 / max(median_s, 1e-3)).limit_denominator(1001)
        self._decoded = sound
        self._first_s: float | None = None
        self._last_pts = -1
        self._sound: Iterator[Any] | None = None
        self._sound_at = 0  # samples written so far

    def __enter__(self) -> "Mp4Writer":
        # faststart moves the index to the front, so browsers play before the whole file is loaded.
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._first_s is not None:
            self._add_sound(until_s=None)
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture [H, W, 3] shown from `time_s` on, and the sound up to that time."""
        if self._first_s is None:
            self._start(image, time_s)
        after_s = time_s - (self._first_s or 0.0)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.time_base = _TIME_BASE
        # Some videos have two frames at one time; players need different times.
        self._last_pts = frame.pts = max(round(after_s / _TIME_BASE), self._last_pts + 1)
        self._container.mux(self._video.encode(frame))
        self._add_sound(until_s=after_s)

    def _start(self, image: NDArray[np.uint8], first_s: float) -> None:
        self._first_s = first_s
        self._video = self._container.add_stream("libx264", rate=self._rate)
        self._video.height, self._video.width = image.shape[:2]
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = _TIME_BASE
        self._video.options = {"preset": "veryfast", "crf": "21"}
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        if self._decoded is not None:
            blocks = _sound_blocks(self._decoded, first_s)
            block = next(blocks, None)  # a stream without packets makes an invalid file
            if block is not None:
                self._sound = chain([block], blocks)
                self._audio = self._container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="stereo")
                self._audio.bit_rate = 160_000

    def _add_sound(self, until_s: float | None) -> None:
        """Encode sound up to `until_s` after the first frame; None: to the end."""
        while self._sound is not None and (until_s is None or self._sound_at < until_s * _SOUND_RATE_HZ):
            block = next(self._sound, None)
            if block is None:
                return
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = _SOUND_RATE_HZ, self._sound_at
            frame.time_base = Fraction(1, _SOUND_RATE_HZ)
            self._sound_at += block.shape[1]
            self._container.mux(self._audio.encode(frame))


def _sound_blocks(sound: Iterable[Any], start_s: float) -> Iterator[Any]:
    """Yield the sound from `start_s` on, float32 stereo [2, 1024] at 48 kHz; gaps are silent."""
    pending = np.zeros((2, 0), np.float32)
    for samples in _without_gaps(sound, start_s):
        pending = np.concatenate([pending, samples], axis=1)
        whole = pending.shape[1] // _SOUND_BLOCK * _SOUND_BLOCK
        for at in range(0, whole, _SOUND_BLOCK):
            yield np.ascontiguousarray(pending[:, at : at + _SOUND_BLOCK])
        pending = pending[:, whole:]
    if pending.shape[1]:
        yield np.ascontiguousarray(pending)


def _without_gaps(sound: Iterable[Any], start_s: float) -> Iterator[Any]:
    """Yield consecutive pieces of sound [2, n] without gaps or overlaps, the first at `start_s`."""
    samples_written = 0
    for time_s, samples in _resampled(sound):
        gap = round((time_s - start_s) * _SOUND_RATE_HZ) - samples_written
        if abs(gap) < _SOUND_RATE_HZ // 50:  # a difference below 20 ms is rounding of times
            gap = 0
        for at in range(0, gap, _SOUND_RATE_HZ):  # in pieces, because a gap may last for hours
            yield np.zeros((2, min(_SOUND_RATE_HZ, gap - at)), np.float32)
        kept = samples[:, max(0, -gap) :]
        yield kept
        samples_written += max(0, gap) + kept.shape[1]


def _resampled(sound: Iterable[Any]) -> Iterator[tuple[float, Any]]:
    """Yield time in s and samples [2, n] float32 at 48 kHz of decoded audio frames."""
    resampler: Any = None
    audio_format, time_s = None, 0.0
    for decoded in sound:
        if audio_format != (audio_format := (decoded.sample_rate, decoded.format.name, decoded.layout.name)):
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_SOUND_RATE_HZ)
        for frame in resampler.resample(decoded):
            time_s = float(frame.time) if frame.time is not None else time_s
            # The AAC encoder refuses NaN, and samples beyond full scale cannot be played.
            yield time_s, np.clip(np.nan_to_num(frame.to_ndarray()), -1.0, 1.0)
            time_s += frame.samples / _SOUND_RATE_HZ
