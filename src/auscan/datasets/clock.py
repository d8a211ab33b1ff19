"""Read the presentation times of a video's frames and convert frame numbers to times.

Frame n, counted from 1, is the n-th frame of the video, and its time is read from the container. Times are
computed from a frame rate only if the video cannot be read, with a warning. Sound uses the same clock
(media/audio.py), so a late start of either stream needs no correction.

Inputs: a video file, frame numbers [N].  Returns: times [N] in seconds.
See also: media/video.py (decoding), track_assembly.py (which video belongs to a track).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.media.clock import ClockLog
from auscan.media.video import VideoInfo, frame_times, probe

ASSUMED_RATE_HZ: Final[float] = 30.0
"""Frame rate assumed without a readable video or a rate in the name; most of Aff-Wild2 has about 30 Hz."""

LENGTH_SLACK: Final[int] = 2
"""Largest difference between rows and frames of the video without a warning; many tracks differ by one."""

UNEVEN_STEP: Final[float] = 1.5
"""Ratio of longest to median frame interval above which the frame rate counts as variable."""

CONTAINER, CONTAINER_RATE, NAME, ASSUMED = "container", "container rate", "name", "assumed"
"""Sources of times, most reliable first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameClock:
    """Frame times of one video."""

    times_s: NDArray[np.float64]
    """Presentation times [F] of the frames, seconds; empty if they cannot be read."""
    rate_hz: float
    """Frame rate measured over the whole video, or the rate from which times are computed."""
    source: str
    """Source of the times: CONTAINER, CONTAINER_RATE, NAME or ASSUMED."""
    info: VideoInfo | None = None
    """Properties of the video; None without a readable one."""
    warnings: tuple[str, ...] = ()
    """Warnings about the video."""

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times [N] in seconds of frame numbers [N], counted from 1.

        Times beyond the last frame are extrapolated with the median frame interval.
        """
        if not len(self.times_s):
            return np.asarray((numbers - 1) / self.rate_hz, np.float64)
        last = len(self.times_s) - 1
        index = np.clip(numbers - 1, 0, last)
        step_s = _median_step(self.times_s) or 1.0 / self.rate_hz
        return np.asarray(self.times_s[index] + (numbers - 1 - index) * step_s, np.float64)

    def surplus(self, numbers: NDArray[np.int64]) -> int | None:
        """Return the last frame number minus the frame count of the video; below 0 the video is longer.

        Returns None if the frame count is unknown. Returns 0 instead of a negative value if the numbers [N]
        skip frames, because such rows may end before the video.
        """
        if not len(self.times_s) or not len(numbers):
            return None
        surplus = int(numbers.max()) - len(self.times_s)
        return surplus if len(numbers) == numbers.max() else max(0, surplus)

    @property
    def is_uneven(self) -> bool:
        """Whether the frame rate is variable."""
        if len(self.times_s) < 3:
            return False
        return bool(np.diff(self.times_s).max() > UNEVEN_STEP * _median_step(self.times_s))


def read_clock(video: Path | None, named_rate_hz: float | None) -> FrameClock:
    """Return the clock of a video; without a readable one, evenly spaced times and a warning.

    named_rate_hz: frame rate in the track's name, or None.
    """
    if video is None:
        return _assumed_clock(named_rate_hz, "no video, so no sound and no frame times")
    try:
        info = probe(video)
    except MediaError as error:
        return _assumed_clock(named_rate_hz, f"the video cannot be used: {error}")
    log = ClockLog()
    try:
        times_s = frame_times(video, log)
    except MediaError as error:
        rate_hz, source = _best_rate(info.rate_hz, named_rate_hz)
        warning = (
            "the frame times of the video cannot be read; "
            f"evenly spaced times at {rate_hz:g} Hz are used: {error}"
        )
        return FrameClock(times_s=np.empty(0), rate_hz=rate_hz, source=source, info=info, warnings=(warning,))
    span_s = float(times_s[-1] - times_s[0])
    rate_hz = (len(times_s) - 1) / span_s if span_s > 0 else _best_rate(info.rate_hz, named_rate_hz)[0]
    return FrameClock(
        times_s=times_s, rate_hz=rate_hz, source=CONTAINER, info=info, warnings=log.warnings(video.name)
    )


def _assumed_clock(named_rate_hz: float | None, reason: str) -> FrameClock:
    rate_hz, source = _best_rate(None, named_rate_hz)
    warning = f"{reason}; evenly spaced times at {rate_hz:g} Hz are used"
    return FrameClock(times_s=np.empty(0), rate_hz=rate_hz, source=source, warnings=(warning,))


def _best_rate(container_hz: float | None, named_hz: float | None) -> tuple[float, str]:
    if container_hz:
        return container_hz, CONTAINER_RATE
    return (named_hz, NAME) if named_hz else (ASSUMED_RATE_HZ, ASSUMED)


def _median_step(times_s: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
