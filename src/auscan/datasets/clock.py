"""Give each frame of a track its time: that of the video's own frame, never number over promised rate.

Frame n, counted from 1, is the n-th frame of the video. The same clock runs the sound (media/audio.py), so a
late start of either stream needs no further thought.

In: a video file, frame numbers.  Out: times in seconds, and what the video is like.
Not here: decoding (media/video.py), which video belongs to a track (affwild2.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.media.video import VideoInfo, frame_times, probe

ASSUMED_RATE_HZ: Final[float] = 30.0
"""For tracks without a readable video whose name tells no rate: most of Aff-Wild2 runs at about 30."""

LENGTH_SLACK: Final[int] = 2
"""Rows and frames of the video differ by one or so in many tracks; more is worth a warning."""

UNEVEN_STEP: Final[float] = 1.5
"""A video whose longest step is this many times its median step has a variable frame rate."""

CONTAINER, CONTAINER_RATE, NAME, ASSUMED = "container", "container rate", "name", "assumed"
"""Where times come from, best first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameClock:
    """The times of one video."""

    times_s: NDArray[np.float64]
    """[F] presentation times of the frames; empty where they cannot be read."""
    rate_hz: float
    """Measured over the whole video; where that is not possible, the rate that the times are made from."""
    source: str
    """CONTAINER, CONTAINER_RATE, NAME or ASSUMED."""
    info: VideoInfo | None = None
    warnings: tuple[str, ...] = ()

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Times [N] s of frames by number [N], from 1; beyond the last frame they go on at its pace."""
        if not len(self.times_s):
            return np.asarray((numbers - 1) / self.rate_hz, np.float64)
        last = len(self.times_s) - 1
        index = np.clip(numbers - 1, 0, last)
        step_s = _median_step(self.times_s) or 1.0 / self.rate_hz
        return np.asarray(self.times_s[index] + (numbers - 1 - index) * step_s, np.float64)

    def surplus(self, numbers: NDArray[np.int64]) -> int | None:
        """By how many frames rows [N] outlast the video; below 0: the video is longer; None: no telling.

        Rows that leave frames out may end before the video does.
        """
        if not len(self.times_s) or not len(numbers):
            return None
        surplus = int(numbers.max()) - len(self.times_s)
        return surplus if len(numbers) == numbers.max() else max(0, surplus)

    @property
    def is_uneven(self) -> bool:
        """Is the frame rate variable?"""
        if len(self.times_s) < 3:
            return False
        return bool(np.diff(self.times_s).max() > UNEVEN_STEP * _median_step(self.times_s))


def read_clock(video: Path | None, named_rate_hz: float | None) -> FrameClock:
    """The clock of a video. A missing or broken one gives made-up even times, and a warning that says so."""
    if video is None:
        return _assumed_clock(named_rate_hz, "no video, so no sound and no times of its own")
    try:
        info = probe(video)
    except MediaError as error:
        return _assumed_clock(named_rate_hz, f"its video cannot be used: {error}")
    try:
        times_s = frame_times(video)
    except MediaError as error:
        rate_hz, source = _best_rate(info.rate_hz, named_rate_hz)
        warning = f"the times of its video cannot be read, even ones at {rate_hz:g} Hz are used: {error}"
        return FrameClock(times_s=np.empty(0), rate_hz=rate_hz, source=source, info=info, warnings=(warning,))
    span_s = float(times_s[-1] - times_s[0])
    rate_hz = (len(times_s) - 1) / span_s if span_s > 0 else _best_rate(info.rate_hz, named_rate_hz)[0]
    return FrameClock(times_s=times_s, rate_hz=rate_hz, source=CONTAINER, info=info)


def _assumed_clock(named_rate_hz: float | None, reason: str) -> FrameClock:
    rate_hz, source = _best_rate(None, named_rate_hz)
    warning = f"{reason}; even times at {rate_hz:g} Hz are used"
    return FrameClock(times_s=np.empty(0), rate_hz=rate_hz, source=source, warnings=(warning,))


def _best_rate(container_hz: float | None, named_hz: float | None) -> tuple[float, str]:
    if container_hz:
        return container_hz, CONTAINER_RATE
    return (named_hz, NAME) if named_hz else (ASSUMED_RATE_HZ, ASSUMED)


def _median_step(times_s: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
