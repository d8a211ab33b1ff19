"""Write a video with sound, each frame at its own time: H.264 and AAC in .mp4, MPEG-4 and PCM in .avi.

In: frames with times, a waveform.  Out: a file.
Not here: reading one (media/).
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ

Image = NDArray[np.uint8]

_TICKS: Final[Fraction] = Fraction(1, 90_000)  # s
_BLOCK: Final[int] = 1024  # samples


class VideoFile:
    """A file being written; use it as a context manager and add frames in order of time."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate_hz: float,
        wave: NDArray[np.float32] | None,
        quality: int = 24,
        sound_from_s: float = 0.0,
    ) -> None:
        """size: width, height in px.  wave: [M] from 0 s, or None for a video without a sound stream.

        quality: x264's crf, or the quantiser of MPEG-4 plus 18; larger is worse.
        sound_from_s: sound before it is left out, so that its stream starts late.
        An .avi has no times of its own: its frames are even, whatever their times.
        """
        self._is_avi = path.suffix == ".avi"
        self._container = av.open(str(path), "w")
        rate = Fraction(rate_hz).limit_denominator(1001)
        self._clock = 1 / rate if self._is_avi else _TICKS
        video: Any = self._container.add_stream("mpeg4" if self._is_avi else "libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = self._clock
        # One thread: the same bytes on any machine.
        video.codec_context.thread_count = 1
        if self._is_avi:
            video.codec_context.qmin = video.codec_context.qmax = max(2, quality - 18)
        else:
            video.options = {"preset": "ultrafast", "crf": str(quality)}
        self._video, self._frames = video, 0
        self._wave, self._heard = wave, round(sound_from_s * SAMPLE_RATE_HZ)
        if wave is not None:
            codec = "pcm_s16le" if self._is_avi else "aac"
            self._audio: Any = self._container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono")

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._add_sound(None)
            self._container.mux(self._video.encode(None))
            if self._wave is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()

    def add(self, image: Image, time_s: float) -> None:
        """Append a frame [H, W, 3] RGB to be shown from `time_s` on, and the sound up to there."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.time_base = self._clock
        frame.pts = self._frames if self._is_avi else round(time_s / _TICKS)
        self._frames += 1
        self._container.mux(self._video.encode(frame))
        self._add_sound(time_s)

    def _add_sound(self, until_s: float | None) -> None:
        if self._wave is None:
            return
        end = len(self._wave) if until_s is None else min(len(self._wave), int(until_s * SAMPLE_RATE_HZ))
        while self._heard < end and (until_s is None or self._heard + _BLOCK <= end):
            block = self._wave[None, self._heard : min(end, self._heard + _BLOCK)]
            form = "s16" if self._is_avi else "fltp"
            samples = (
                np.round(block * 32767).astype(np.int16) if self._is_avi else np.ascontiguousarray(block)
            )
            frame = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._heard
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._heard += block.shape[1]
            self._container.mux(self._audio.encode(frame))
