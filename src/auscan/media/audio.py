"""Read the audio of a file as 16 kHz mono on the same clock as its frames, and detect voice activity.

Gaps in the timestamps of the stream become zeros and overlaps are dropped, so that the time of sample k is
start_s + k / 16000 in all chunks. Audio is read in chunks, so memory does not grow with the length.

Voice activity is detected by signal processing, 50 times a second. Speech is louder than the background,
harmonic in its voiced parts, and its spectrum changes from syllable to syllable. These features are
measured for every step while the audio is read. Steps are classified at the end, because the noise floor is
estimated from the seconds before and after. docs/events.md lists what is wrongly detected as speech, above
all singing.

Inputs: a path; or the audio in contiguous chunks.
Returns: float32 [M] at 16 kHz with the time of sample 0, or None without an audio stream; for each step of
20 ms its level, and whether there is speech.
See also: container.py (opening and decoding), encoders/audio.py (audio tokens), results/events.py
(storage).
"""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.environment import chunk_slices
from auscan.core.errors import MediaError
from auscan.media.clock import LONGEST_PAUSE_S
from auscan.media.container import check_file, decode, open_media, re_encode_hint
from auscan.media.discover import is_image

JITTER_S = 0.02
"""Smaller differences between timestamps are jitter, not gaps: recorders jitter by some milliseconds."""

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


def decode_sound(path: Path) -> Iterator[Any]:
    """Yield the PyAV frames of the first audio stream, with times of the repaired clock."""
    with open_media(path) as container:
        if container.streams.audio:
            yield from decode(container, container.streams.audio[0], path)


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


STEP: Final[int] = 320
"""Samples per step."""
STEP_S: Final[float] = STEP / SAMPLE_RATE_HZ
"""Length of a step in seconds."""
SILENCE_DB: Final[float] = -90.0
"""Level of digital silence in dB of full scale; 16-bit audio cannot be much quieter."""

_WINDOW, _FFT = 2 * STEP, 1024  # 40 ms around the step: three periods of a low voice; FFT length
_VOICE_BAND_HZ = 100.0, 4000.0  # frequency range of voices
_PITCH_HZ = 70.0, 400.0  # fundamental frequency of voices
_BAND_COUNT = 16  # bands of the spectral shape
_CHANGE_LAG = 5  # steps between the compared spectra: half a syllable
_BATCH_STEPS = 500  # steps measured at once

# Criteria of speech, chosen on clips: see docs/events.md.
_ABOVE_FLOOR_DB = 12.0  # level in the voice band above the noise floor
_MIN_BAND_DB = -65.0  # level in the voice band; quieter is inaudible
_MIN_HARMONICITY = 0.5  # highest autocorrelation at the pitch of voices; 1: strictly periodic
_MIN_CHANGE_DB = 5.0  # mean change of the spectral shape within a tenth of a second, over half a second
_MIN_VOICED_S = 0.06  # shorter voiced parts are ignored
_VOICED_REACH_S = 0.2  # audible steps this near to a voiced step are speech: consonants are not harmonic
_MAX_PAUSE_S = 0.2  # shorter pauses are part of speech
_MIN_SPEECH_S = 0.15  # shorter parts are not speech


class VoiceActivityDetector:
    """Streaming voice activity detector; stores four numbers per step."""

    def __init__(self) -> None:
        self.start_s = 0.0
        """Time of the first sample, in seconds."""
        self._buffer: NDArray[np.float32] | None = None
        self._previous_shapes: NDArray[np.float32] = np.zeros((_CHANGE_LAG, _BAND_COUNT), np.float32)
        self._features: list[NDArray[np.float32]] = []

    def observe(self, chunks: Iterable[Waveform]) -> Generator[Waveform]:
        """Push each chunk, then yield it unchanged."""
        for chunk in chunks:
            self.push(chunk)
            yield chunk

    def push(self, chunk: Waveform) -> None:
        """Process the next chunk of contiguous audio, of any length."""
        if self._buffer is None:
            self.start_s = chunk.start_s
            self._buffer = np.zeros(STEP // 2, np.float32)  # the first window begins before the audio
        self._buffer = np.concatenate([self._buffer, chunk.samples])
        self._measure_steps(max(0, (len(self._buffer) - STEP) // STEP))

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the level [L] in dB of full scale and whether there is speech [L], in steps from `start_s`.

        The last step is included if at least half of it is present.
        """
        if self._buffer is not None:
            steps = len(self._buffer) // STEP  # the buffer begins half a step early
            self._buffer = np.concatenate([self._buffer, np.zeros(2 * STEP, np.float32)])
            self._measure_steps(steps)
        measured = np.concatenate([np.empty((0, 4), np.float32), *self._features])
        return measured[:, 0], _classify_steps(measured)

    def _measure_steps(self, steps: int) -> None:
        assert self._buffer is not None
        for batch in chunk_slices(steps, _BATCH_STEPS):
            samples = self._buffer[batch.start * STEP : (batch.stop + 1) * STEP]
            windows = sliding_window_view(samples, _WINDOW)[::STEP]
            measured, self._previous_shapes = _measure(windows, self._previous_shapes)
            self._features.append(measured)
        self._buffer = self._buffer[steps * STEP :]


def _measure(
    windows: NDArray[np.float32], previous_shapes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure windows [n, 640] -> level dB, voice band level dB, harmonicity, spectral change dB: [n, 4].

    previous_shapes: spectral shapes [5, 16] of the last steps before these windows
    Returns also the spectral shapes [5, 16] of the last steps.
    Windows of zeros are not analyzed, so hours of silence, such as filled gaps, cost almost nothing.
    """
    nonzero = windows.any(axis=1)  # [n]
    silence = np.array([SILENCE_DB, SILENCE_DB, 0.0])
    levels, shapes = np.tile(silence, (len(windows), 1)), np.zeros((len(windows), _BAND_COUNT), np.float32)
    if nonzero.any():
        levels[nonzero], shapes[nonzero] = _analyze(windows[nonzero])
    all_shapes = np.concatenate([previous_shapes, shapes])
    change = np.abs(all_shapes[_CHANGE_LAG:] - all_shapes[:-_CHANGE_LAG]).mean(axis=1)
    return np.column_stack([levels, change]).astype(np.float32), all_shapes[-_CHANGE_LAG:]


def _analyze(windows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Measure windows [n, 640] -> level dB, level of the voice band dB, harmonicity: [n, 3].

    Returns also the spectral shapes [n, 16].
    """
    taper = np.hanning(_WINDOW + 1)[:-1]
    spectrum = np.square(np.abs(np.fft.rfft(windows * taper, _FFT)))  # [n, 513]
    hertz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)
    inside = (hertz >= _VOICE_BAND_HZ[0]) & (hertz <= _VOICE_BAND_HZ[1])
    level = _db(np.square(windows[:, STEP // 2 : -STEP // 2], dtype=np.float64).mean(axis=1))
    band = _db(spectrum[:, inside].sum(axis=1) * 2 / (_FFT * np.square(taper).sum()))
    return np.stack([level, band, _harmonicity(spectrum * inside, taper)], axis=1), _spectral_shapes(
        spectrum, hertz
    )


def _spectral_shapes(spectrum: NDArray[np.float64], hertz: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the spectral shape in 16 bands of logarithmic width, in dB relative to their mean: [n, 16]."""
    edges = np.geomspace(150, 7000, _BAND_COUNT + 1)
    starts = np.searchsorted(hertz, edges)
    power = np.add.reduceat(spectrum, starts, axis=1)[:, :_BAND_COUNT] / np.diff(starts)
    decibels = 10 * np.log10(power + 1e-4 * power.mean(axis=1, keepdims=True) + 1e-9)
    return np.asarray(decibels - decibels.mean(axis=1, keepdims=True), np.float32)


def _harmonicity(spectrum: NDArray[np.float64], taper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest autocorrelation [n] at the pitch of voices, corrected for the taper.

    Method: Boersma 1993.
    """
    low, high = (round(SAMPLE_RATE_HZ / hertz) for hertz in reversed(_PITCH_HZ))
    taper_autocorrelation = np.fft.irfft(np.square(np.abs(np.fft.rfft(taper, 2 * _FFT))))
    autocorrelation = np.fft.irfft(spectrum)  # [n, 1024]; only lags beyond 384 wrap around
    autocorrelation = autocorrelation[:, low : high + 1] / np.maximum(autocorrelation[:, :1], 1e-12)
    return np.asarray(
        (autocorrelation / (taper_autocorrelation[low : high + 1] / taper_autocorrelation[0])).max(axis=1)
    )


def _db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert power to dB, at least `SILENCE_DB`."""
    return np.asarray(np.maximum(10 * np.log10(np.maximum(power, 1e-12)), SILENCE_DB))


def _classify_steps(measured: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Classify steps by the features of `_measure`: [L, 4] -> speech [L]."""
    if not len(measured):
        return np.zeros(0, bool)
    _, band, harmonicity, change = measured.T.astype(np.float64)
    audible = (band > _noise_floor_db(band) + _ABOVE_FLOOR_DB) & (band > _MIN_BAND_DB)
    voiced = audible & (harmonicity > _MIN_HARMONICITY) & (_moving_mean(change, 12) > _MIN_CHANGE_DB)
    voiced = ~_fill_short_gaps(~voiced, round(_MIN_VOICED_S / STEP_S))
    near_voiced = _moving_mean(voiced, round(_VOICED_REACH_S / STEP_S)) > 0
    speech = _fill_short_gaps(audible & near_voiced, round(_MAX_PAUSE_S / STEP_S))
    return ~_fill_short_gaps(~speech, round(_MIN_SPEECH_S / STEP_S))


def _noise_floor_db(band: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise floor [L] dB: lowest 10th percentile of a second among the nine around each step."""
    second = round(1 / STEP_S)
    count = -(-len(band) // second)
    padded = np.pad(band, (0, count * second - len(band)), mode="reflect" if len(band) > second else "edge")
    quiet = np.percentile(padded.reshape(count, second), 10, axis=1)
    around = sliding_window_view(np.pad(quiet, 4, mode="edge"), 9).min(axis=1)
    return np.asarray(np.interp(np.arange(len(band)), (np.arange(count) + 0.5) * second, around))


def _moving_mean(values: NDArray[np.float64] | NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """Return the mean over each step and `reach` steps on either side, [L]."""
    padded = np.pad(values.astype(np.float64), reach, mode="edge")
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    return np.asarray(sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)


def _fill_short_gaps(on: NDArray[np.bool_], min_gap_steps: int) -> NDArray[np.bool_]:
    """Set gaps of less than `min_gap_steps` steps to True, except at the start and the end."""
    change = np.flatnonzero(np.diff(on))
    filled = on.copy()
    for begin, end in zip(change[:-1] + 1, change[1:] + 1, strict=True):
        if not on[begin] and end - begin < min_gap_steps:
            filled[begin:end] = True
    return filled
