"""Read the audio of a file as 16 kHz mono on the same clock as its frames.

Gaps in the timestamps of the stream become zeros and overlaps are dropped, so that the time of sample k is
start_s + k / 16000 in all chunks. Audio is read in chunks, so memory does not grow with the length.

Inputs: a path. Returns: float32 [M] at 16 kHz with the time of sample 0, or None without an audio stream.
See also: container.py (opening and decoding), encoders/audio.py (audio tokens).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import MediaError
from auscan.media.container import check_file, decode, open_media, re_encode_hint
from auscan.media.images import is_image

JITTER_S = 0.02
"""Smaller differences between timestamps are jitter, not gaps: recorders jitter by some milliseconds."""

LONGEST_PAUSE_S = 12 * 3600.0
"""Longer gaps, all of a file together, are broken timestamps. Filled with zeros, they would take hours or
years to process."""

LONGEST_PAUSE_AFTER_VIDEO_S = 60.0
"""A gap longer than this that ends more than this after the last frame is a broken timestamp, too."""

LOWEST_RATE_HZ = 1000
"""A lower sample rate is a broken header: resampled to 16 kHz, a second of audio could become hours."""

MAX_AMPLITUDE = 10.0
"""Samples are clipped to this, ten times full scale. Lossy decoders exceed full scale only slightly."""


@dataclass(frozen=True)
class Waveform:
    """A chunk of audio."""

    samples: NDArray[np.float32]
    """[M] mono at 16 kHz, within about -1 to 1."""
    start_s: float
    """Time of sample 0 in seconds on the clock of the container, as `Frame.time_s`."""


def read_waveform(path: Path | str, chunk_s: float = 30.0) -> Iterator[Waveform] | None:
    """Return the audio of a file as contiguous chunks of `chunk_s` seconds.

    Reads the first audio stream and mixes its channels to mono. Returns None if there is no audio stream, if
    it is empty, and for pictures and folders.

    Raises MediaError, immediately or while iterating, if the file cannot be read or its audio cannot be
    decoded.
    """
    path = Path(path)
    if path.is_dir() or is_image(path):
        return None
    check_file(path)
    pieces = _make_contiguous(_resampled_pieces(path))
    # Read the first piece now: callers need to know whether there is audio before they read chunks.
    first = next(pieces, None)
    return (
        None if first is None else _split_into_chunks(chain([first], pieces), round(chunk_s * SAMPLE_RATE_HZ))
    )


def _resampled_pieces(path: Path) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    """Yield the pieces of the resampled audio of a file, as `MonoResampler` does."""
    with open_media(path) as container:
        if not container.streams.audio:
            return
        resampler, video_end_s = MonoResampler(), _video_end_s(container)
        read_until_s: float | None = None
        paused_s = 0.0
        for frame in decode(container, container.streams.audio[0], path):
            check_rate(path, frame.sample_rate)
            for time_s, samples in resampler.push(frame):
                if time_s is not None:
                    end_s = time_s if read_until_s is None else read_until_s
                    check_pause(path, end_s, time_s, video_end_s, paused_s)
                    paused_s += max(0.0, time_s - end_s)
                read_until_s = (read_until_s or 0.0) if time_s is None else time_s
                read_until_s += len(samples) / SAMPLE_RATE_HZ
                yield time_s, samples
        yield from resampler.finish()


def _video_end_s(container: Any) -> float:
    """Return the end of the video in seconds as the container declares it, or infinity if it does not."""
    for stream in container.streams.video:
        if stream.duration:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return math.inf


def check_rate(path: Path, rate_hz: int) -> None:
    """Raise MediaError if the sample rate is below `LOWEST_RATE_HZ`."""
    if rate_hz < LOWEST_RATE_HZ:
        raise MediaError(
            f"{path}: the audio has a sample rate of {rate_hz} Hz, below {LOWEST_RATE_HZ} Hz, so its header "
            f"is broken. {re_encode_hint(path)}"
        )


def check_pause(
    path: Path, end_s: float, next_s: float, video_end_s: float = math.inf, paused_s: float = 0.0
) -> None:
    """Raise MediaError if a gap in the audio is so long that a timestamp must be broken.

    end_s, next_s: end of the audio so far and start of the next piece, in seconds
    video_end_s: end of the video in seconds
    paused_s: total length of all gaps before this one, in seconds
    """
    is_after = next_s > video_end_s + LONGEST_PAUSE_AFTER_VIDEO_S
    if next_s - end_s > (LONGEST_PAUSE_AFTER_VIDEO_S if is_after else LONGEST_PAUSE_S - paused_s):
        raise MediaError(
            f"{path}: the audio has a gap of {(next_s - end_s) / 3600:.1f} h at {end_s:.2f} s, so its "
            f"timestamps are broken. {re_encode_hint(path)}"
        )


class MonoResampler:
    """Resampler of PyAV's audio frames to 16 kHz mono.

    A run is a sequence of frames with contiguous timestamps and one format; the resampler keeps its state
    within a run. Pieces are pairs of time and samples [M]; the time in seconds is None except at the start of
    a run.
    """

    def __init__(self) -> None:
        self._resampler: Any = None
        self._format: tuple[int, str, str] | None = None
        self._expected_s, self._start_s, self._samples_read = 0.0, 0.0, 0

    def push(self, frame: Any) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
        """Resample one more frame; yield its pieces."""
        time_s = frame.time if frame.time is not None else self._expected_s
        format_ = (frame.sample_rate, frame.format.name, frame.layout.name)
        is_new = format_ != self._format or abs(time_s - self._expected_s) > JITTER_S
        if is_new:
            yield from self.finish()
            self._resampler = _new_resampler()
            self._format, self._start_s, self._samples_read = format_, time_s, 0
        yield time_s if is_new else None, _resample(self._resampler, frame)
        self._samples_read += frame.samples
        # Counted from the start of the run, so that rounding errors of timestamps do not accumulate.
        self._expected_s = self._start_s + self._samples_read / frame.sample_rate

    def finish(self) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
        """Yield the samples left in the buffer of the resampler."""
        if self._resampler is not None:
            yield None, _resample(self._resampler, None)
            self._resampler = None


def _new_resampler() -> Any:
    # rematrix_maxval=1 mixes two channels to their mean; FFmpeg's default for floats is 1.4 times the mean.
    return av.AudioResampler(
        format="fltp", layout="mono", rate=SAMPLE_RATE_HZ, options={"rematrix_maxval": "1.0"}
    )


def _resample(resampler: Any, frame: Any | None) -> NDArray[np.float32]:
    """Resample one PyAV frame, or flush the resampler if `frame` is None.  -> [M]"""
    # Flushing an unused resampler returns [None].
    out = [piece.to_ndarray()[0] for piece in resampler.resample(frame) if piece is not None]
    return _sanitize(np.concatenate(out)) if out else np.zeros(0, np.float32)


def _sanitize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace NaN by 0 and clip to `MAX_AMPLITUDE`: one bad sample would make all model outputs NaN."""
    return np.clip(np.nan_to_num(samples, nan=0.0), -MAX_AMPLITUDE, MAX_AMPLITUDE)


def _make_contiguous(
    pieces: Iterator[tuple[float | None, NDArray[np.float32]]],
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Join runs: fill gaps with zeros, drop the later samples of overlaps.

    Yields the time of the first sample of all in seconds, and samples [M]; zeros are at most one second at a
    time.
    """
    start_s: float | None = None
    written, surplus = 0, 0
    for time_s, samples in pieces:
        start_s = time_s if start_s is None else start_s
        assert start_s is not None, "the first run has a time"
        if time_s is not None:
            missing = round((time_s - start_s) * SAMPLE_RATE_HZ) - written
            surplus = max(-missing, 0)
            while missing > 0:
                zeros = np.zeros(min(missing, SAMPLE_RATE_HZ), np.float32)
                yield start_s, zeros
                written, missing = written + len(zeros), missing - len(zeros)
        dropped = min(surplus, len(samples))
        surplus -= dropped
        if len(samples) > dropped:
            yield start_s, samples[dropped:]
            written += len(samples) - dropped


def _split_into_chunks(stream: Iterator[tuple[float, NDArray[np.float32]]], size: int) -> Iterator[Waveform]:
    """Split the audio into waveforms of `size` samples; the last one may be shorter."""
    pieces: list[NDArray[np.float32]] = []
    emitted, buffered, start_s = 0, 0, 0.0
    for start_s, samples in stream:
        pieces.append(samples)
        buffered += len(samples)
        while buffered >= size:
            joined = np.concatenate(pieces)
            yield Waveform(joined[:size].copy(), start_s + emitted / SAMPLE_RATE_HZ)
            emitted += size
            pieces, buffered = [joined[size:]], buffered - size
    if buffered:
        yield Waveform(np.concatenate(pieces), start_s + emitted / SAMPLE_RATE_HZ)
