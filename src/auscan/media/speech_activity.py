"""Detect voice activity by signal processing, 50 times a second.

Speech is louder than the background, harmonic in its voiced parts, and its spectrum changes from syllable to
syllable. These features are measured for every step while the audio is read. Steps are classified at the end,
because the noise floor is estimated from the seconds before and after. No model and no dependency.
docs/events.md lists what is wrongly detected as speech, above all singing.

Inputs: the audio in contiguous chunks. Returns: for each step of 20 ms its level, and whether there is
speech.
See also: audio.py (reads audio), results/speech.py (stores the result).
"""

from collections.abc import Generator, Iterable
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from auscan.core.chunking import chunk_slices
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform

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
