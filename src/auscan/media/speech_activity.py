"""When somebody speaks: voice activity by plain signal processing, 50 times a second.

Speech is louder than the room, harmonic where it is voiced, and its spectrum changes from syllable to
syllable. Each of these is measured for every step as the sound comes; the verdict is given at the end, since
how loud the room is, is known only from what is around. No model, and no dependency. What fools it, singing
above all, stands in docs/events.md.

In: the sound in chunks, in order.  Out: for each step of 20 ms its level, and whether somebody speaks.
Not here: reading sound (audio.py), keeping the verdict (results/speech.py).
"""

from collections.abc import Generator, Iterable
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform

STEP: Final[int] = 320
"""Samples of a step."""
STEP_S: Final[float] = STEP / SAMPLE_RATE_HZ
SILENCE_DB: Final[float] = -90.0
"""Level of silence, whose logarithm does not exist; 16-bit sound cannot go much below."""

_WINDOW, _FFT = 2 * STEP, 1024  # 40 ms around the step: three periods of a low voice
_BAND_HZ = 100.0, 4000.0  # where voices are
_PITCH_HZ = 70.0, 400.0
_BANDS = 16
_APART = 5  # steps between spectra that are compared: half a syllable
_AT_ONCE = 500  # steps

# What counts as speech; chosen on clips, see docs/events.md.
_ABOVE_FLOOR_DB = 12.0  # in the band of voices, over the quietest tenth of the seconds around
_LEAST_DB = -65.0  # in that band; less cannot be heard
_HARMONIC = 0.5  # highest autocorrelation within the pitch of voices; 1: strictly periodic
_CHANGE_DB = 5.0  # mean change of the spectrum's shape within a tenth of a second, over half a second
_CHANCE_S = 0.06  # voiced for less is chance
_REACH_S = 0.2  # this near to a voiced step all that is heard counts: consonants are not harmonic
_PAUSE_S = 0.2  # shorter pauses are part of speaking
_SHORTEST_S = 0.15  # less is not speech


class VoiceActivity:
    """Listens to a whole sound, chunk by chunk; keeps four numbers a step."""

    def __init__(self) -> None:
        self.start_s = 0.0
        """When the sound begins."""
        self._held: NDArray[np.float32] | None = None
        self._before: NDArray[np.float32] = np.zeros((_APART, _BANDS), np.float32)
        self._features: list[NDArray[np.float32]] = []

    def listen(self, chunks: Iterable[Waveform]) -> Generator[Waveform]:
        """Pass the chunks on, having heard them."""
        for chunk in chunks:
            self.push(chunk)
            yield chunk

    def push(self, chunk: Waveform) -> None:
        """Hear the next stretch of a contiguous sound, of any length."""
        if self._held is None:
            self.start_s = chunk.start_s
            self._held = np.zeros(STEP // 2, np.float32)  # the first window begins before the sound
        self._held = np.concatenate([self._held, chunk.samples])
        self._take(max(0, (len(self._held) - STEP) // STEP))

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Level [L] in dB of full scale, and whether somebody speaks [L], in steps from `start_s` on.

        The last step counts if at least half of it is there.
        """
        if self._held is not None:
            left = len(self._held) // STEP  # what is held begins half a step early
            self._held = np.concatenate([self._held, np.zeros(2 * STEP, np.float32)])
            self._take(left)
        measured = np.concatenate([np.empty((0, 4), np.float32), *self._features])
        return measured[:, 0], _is_speech(measured)

    def _take(self, steps: int) -> None:
        assert self._held is not None
        for first in range(0, steps, _AT_ONCE):
            count = min(_AT_ONCE, steps - first)
            part = self._held[first * STEP : (first + count + 1) * STEP]
            measured, self._before = _measure(sliding_window_view(part, _WINDOW)[::STEP], self._before)
            self._features.append(measured)
        self._held = self._held[steps * STEP :]


def _measure(
    windows: NDArray[np.float32], before: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows [n, 640] -> level dB, level of the band dB, harmonicity, change of the spectrum dB: [n, 4].

    before: the last spectra [5, 16] of the steps before; those after this come back.
    Silence is known without looking: hours of it, where a pause was filled with zeros, cost next to nothing.
    """
    sounding = windows.any(axis=1)  # [n]
    still = np.array([SILENCE_DB, SILENCE_DB, 0.0])
    sums, shapes = np.tile(still, (len(windows), 1)), np.zeros((len(windows), _BANDS), np.float32)
    if sounding.any():
        sums[sounding], shapes[sounding] = _look_into(windows[sounding])
    whole = np.concatenate([before, shapes])
    change = np.abs(whole[_APART:] - whole[:-_APART]).mean(axis=1)
    return np.column_stack([sums, change]).astype(np.float32), whole[-_APART:]


def _look_into(windows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Windows [n, 640] -> level dB, level of the band dB, harmonicity: [n, 3]; spectra' shapes [n, 16]."""
    taper = np.hanning(_WINDOW + 1)[:-1]
    spectrum = np.square(np.abs(np.fft.rfft(windows * taper, _FFT)))  # [n, 513]
    hertz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)
    inside = (hertz >= _BAND_HZ[0]) & (hertz <= _BAND_HZ[1])
    level = _db(np.square(windows[:, STEP // 2 : -STEP // 2], dtype=np.float64).mean(axis=1))
    band = _db(spectrum[:, inside].sum(axis=1) * 2 / (_FFT * np.square(taper).sum()))
    return np.stack([level, band, _harmonicity(spectrum * inside, taper)], axis=1), _shapes(spectrum, hertz)


def _shapes(spectrum: NDArray[np.float64], hertz: NDArray[np.floating]) -> NDArray[np.float32]:
    """The spectrum's shape in 16 bands as wide as hearing has them, dB about their mean: [n, 16]."""
    edges = np.geomspace(150, 7000, _BANDS + 1)
    starts = np.searchsorted(hertz, edges)
    power = np.add.reduceat(spectrum, starts, axis=1)[:, :_BANDS] / np.diff(starts)
    decibels = 10 * np.log10(power + 1e-4 * power.mean(axis=1, keepdims=True) + 1e-9)
    return np.asarray(decibels - decibels.mean(axis=1, keepdims=True), np.float32)


def _harmonicity(spectrum: NDArray[np.float64], taper: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest autocorrelation at lags of a voice, undone of the taper (Boersma 1993): [n]."""
    low, high = (round(SAMPLE_RATE_HZ / hertz) for hertz in reversed(_PITCH_HZ))
    own = np.fft.irfft(np.square(np.abs(np.fft.rfft(taper, 2 * _FFT))))
    found = np.fft.irfft(spectrum)  # [n, 1024]; lags beyond 384 wrap around, those of voices do not
    found = found[:, low : high + 1] / np.maximum(found[:, :1], 1e-12)
    return np.asarray((found / (own[low : high + 1] / own[0])).max(axis=1))


def _db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(10 * np.log10(np.maximum(power, 1e-12)), SILENCE_DB))


def _is_speech(measured: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[L, 4] -> [L]."""
    if not len(measured):
        return np.zeros(0, bool)
    _, band, harmonicity, change = measured.T.astype(np.float64)
    heard = (band > _floor(band) + _ABOVE_FLOOR_DB) & (band > _LEAST_DB)
    voiced = heard & (harmonicity > _HARMONIC) & (_mean(change, 12) > _CHANGE_DB)
    voiced = ~_filled(~voiced, round(_CHANCE_S / STEP_S))
    near = _mean(voiced, round(_REACH_S / STEP_S)) > 0
    spoken = _filled(heard & near, round(_PAUSE_S / STEP_S))
    return ~_filled(~spoken, round(_SHORTEST_S / STEP_S))


def _floor(band: NDArray[np.float64]) -> NDArray[np.float64]:
    """How loud the room is around each step: the lowest of the quiet tenths of the seconds nearby, [L]."""
    second = round(1 / STEP_S)
    count = -(-len(band) // second)
    padded = np.pad(band, (0, count * second - len(band)), mode="reflect" if len(band) > second else "edge")
    quiet = np.percentile(padded.reshape(count, second), 10, axis=1)
    around = sliding_window_view(np.pad(quiet, 4, mode="edge"), 9).min(axis=1)
    return np.asarray(np.interp(np.arange(len(band)), (np.arange(count) + 0.5) * second, around))


def _mean(values: NDArray[np.float64] | NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """Over each step and `reach` steps on either side, [L]."""
    padded = np.pad(values.astype(np.float64), reach, mode="edge")
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    return np.asarray(sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)


def _filled(on: NDArray[np.bool_], shorter: int) -> NDArray[np.bool_]:
    """With stretches of False of less than `shorter` steps made True, unless they begin or end the sound."""
    change = np.flatnonzero(np.diff(on))
    filled = on.copy()
    for begin, end in zip(change[:-1] + 1, change[1:] + 1, strict=True):
        if not on[begin] and end - begin < shorter:
            filled[begin:end] = True
    return filled
