"""Read the sound of a file as 16 kHz mono on the same clock as its frames.

Pauses in the stream's timestamps become zeros and overlaps are dropped, so that sample k is heard at
start_s + k / 16000 from the first chunk to the last. Chunks keep the memory bounded whatever the length.

In: a path.  Out: float32 [M] at 16 kHz with the time of sample 0, or None without an audio stream.
Not here: opening and decoding (container.py), audio tokens (encoders/audio.py).
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
"""Timestamps off by less are taken as rounded, not as a pause: recorders jitter by some milliseconds."""

LONGEST_PAUSE_S = 12 * 3600.0
"""Longer pauses, all of a file together, are broken timestamps: filled with zeros, they would be listened to
for hours or for ever."""

LONGEST_PAUSE_AFTER_VIDEO_S = 60.0
"""So is a pause as long as this that ends as long after the last picture: nobody needs to hear that."""

LOWEST_RATE_HZ = 1000
"""Fewer samples a second are a broken header: brought to 16 kHz, they would make a second of sound hours."""

MAX_AMPLITUDE = 10.0
"""Ten times full scale; decoders of lossy sound overshoot it a little, nothing whole goes near."""


@dataclass(frozen=True)
class Waveform:
    """A stretch of sound."""

    samples: NDArray[np.float32]
    """[M] mono at 16 kHz, within about -1 to 1."""
    start_s: float
    """Time of sample 0 in the container's clock, the one of `Frame.time_s`."""


def read_waveform(path: Path | str, chunk_s: float = 30.0) -> Iterator[Waveform] | None:
    """The sound of a file in chunks of `chunk_s` seconds, each beginning where the one before ended.

    None if there is no audio stream, or nothing in it; pictures and folders of pictures have none.
    The first audio stream counts; its channels are mixed to one.

    Raises MediaError, at once or while iterating, if the file cannot be read or its sound not be decoded.
    """
    path = Path(path)
    if path.is_dir() or is_image(path):
        return None
    check_file(path)
    pieces = _make_contiguous(_resampled_pieces(path))
    # Looked at now: whether there is any sound is asked before the chunks are.
    first = next(pieces, None)
    return (
        None if first is None else _split_into_chunks(chain([first], pieces), round(chunk_s * SAMPLE_RATE_HZ))
    )


def _resampled_pieces(path: Path) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    """The pieces that `MonoResampler` makes of a file's sound."""
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
    """When the last picture should be over; infinity where the container does not say."""
    for stream in container.streams.video:
        if stream.duration:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return math.inf


def check_rate(path: Path, rate_hz: int) -> None:
    """Raise MediaError for a sample rate that only a broken header has."""
    if rate_hz < LOWEST_RATE_HZ:
        raise MediaError(
            f"{path}: its sound says it has {rate_hz} samples a second, which nobody could hear. "
            f"{re_encode_hint(path)}"
        )


def check_pause(
    path: Path, end_s: float, next_s: float, video_end_s: float = math.inf, paused_s: float = 0.0
) -> None:
    """Raise MediaError where sound that ended goes on so much later that a timestamp must be broken.

    paused_s: all pauses before this one
    """
    is_after = next_s > video_end_s + LONGEST_PAUSE_AFTER_VIDEO_S
    if next_s - end_s > (LONGEST_PAUSE_AFTER_VIDEO_S if is_after else LONGEST_PAUSE_S - paused_s):
        raise MediaError(
            f"{path}: its sound has a pause of {(next_s - end_s) / 3600:.1f} h at {end_s:.2f} s, so its "
            f"timestamps are broken. {re_encode_hint(path)}"
        )


class MonoResampler:
    """Brings PyAV's audio frames to 16 kHz mono; a piece has its time if a new run begins with it, else None.

    Within a run the timestamps follow each other and the resampler carries its state across pieces.
    """

    def __init__(self) -> None:
        self._resampler: Any = None
        self._format: tuple[int, str, str] | None = None
        self._expected_s, self._start_s, self._samples_read = 0.0, 0.0, 0

    def push(self, frame: Any) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
        """The pieces [M] that one more frame gives."""
        time_s = frame.time if frame.time is not None else self._expected_s
        format_ = (frame.sample_rate, frame.format.name, frame.layout.name)
        is_new = format_ != self._format or abs(time_s - self._expected_s) > JITTER_S
        if is_new:
            yield from self.finish()
            self._resampler = _new_resampler()
            self._format, self._start_s, self._samples_read = format_, time_s, 0
        yield time_s if is_new else None, _resample(self._resampler, frame)
        self._samples_read += frame.samples
        # Counted from the start of the run, so that rounded stamps do not add up.
        self._expected_s = self._start_s + self._samples_read / frame.sample_rate

    def finish(self) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
        """What the resampler still holds back."""
        if self._resampler is not None:
            yield None, _resample(self._resampler, None)
            self._resampler = None


def _new_resampler() -> Any:
    # rematrix_maxval: two channels become their mean; FFmpeg's default for floats is 1.4 times that.
    return av.AudioResampler(
        format="fltp", layout="mono", rate=SAMPLE_RATE_HZ, options={"rematrix_maxval": "1.0"}
    )


def _resample(resampler: Any, frame: Any | None) -> NDArray[np.float32]:
    """What comes out after one PyAV frame, or, for None, what the resampler still held back.  -> [M]"""
    # A resampler with nothing to do hands None back when flushed.
    out = [piece.to_ndarray()[0] for piece in resampler.resample(frame) if piece is not None]
    return _sanitize(np.concatenate(out)) if out else np.zeros(0, np.float32)


def _sanitize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same samples, those that are no number as silence and far too loud ones cut: one such sample would
    make everything unknown that hears it."""
    return np.clip(np.nan_to_num(samples, nan=0.0), -MAX_AMPLITUDE, MAX_AMPLITUDE)


def _make_contiguous(
    pieces: Iterator[tuple[float | None, NDArray[np.float32]]],
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Join runs without a seam: zeros where sound is missing, later samples dropped where two overlap.

    Out: (time of the very first sample, samples [M]), M at most a second of zeros at a time.
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
    """Cut the stream into waveforms of `size` samples; the last one is what remains."""
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
