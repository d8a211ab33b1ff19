"""What an epoch consists of: windows in an order, each without what it loses, and who reads which.

The order follows from the seed and the number of the epoch alone. What a window loses to modality dropout,
and how its crops are spoilt, follows from its place in that order, whatever batch it comes in. That is what
makes a run resume exactly, and several processes do what one would.

In: windows, a seed, the number of an epoch.  Out: batches.
Not here: cutting windows (windows.py), how crops are augmented (encoder.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from auscan.training.config import DropoutConfig
from auscan.training.encoder import augment_crops
from auscan.training.windows import Batch, WindowBatches, collate


class EpochOrder:
    """Which windows an epoch consists of, and in which order."""

    def __init__(self, sources: Sequence[str], balance: float, seed: int) -> None:
        """sources: the source video of each window; balance: see DataConfig."""
        names = sorted(set(sources))
        source_number = {name: number for number, name in enumerate(names)}
        self._windows: list[list[int]] = [[] for _ in names]
        for window, source in enumerate(sources):
            self._windows[source_number[source]].append(window)
        self._balance, self._seed, self._count = balance, seed, len(sources)

    def epoch(self, number: int) -> list[int]:
        """As many windows as there are, by number; the same ones whenever it is asked."""
        rng = np.random.default_rng([self._seed, 2, number])
        weights = np.array([len(windows) for windows in self._windows], np.float64) ** self._balance
        shares = self._count * weights / weights.sum()
        quotas = np.floor(shares + 1e-9).astype(int)
        # What rounding left over goes to sources by chance, so that over epochs each gets its share.
        remainders = (shares - quotas).clip(0)
        missing = self._count - int(quotas.sum())
        if missing:
            quotas[rng.choice(len(quotas), missing, replace=False, p=remainders / remainders.sum())] += 1
        order: list[int] = []
        for windows, quota in zip(self._windows, quotas.tolist(), strict=True):
            while quota > 0:  # every window once before any comes twice
                order += rng.permutation(windows)[:quota].tolist()
                quota -= len(windows)
        return [order[position] for position in rng.permutation(len(order))]


@dataclass(frozen=True)
class EpochBatches(Dataset[Batch]):
    """Batches of an epoch by the places of their windows in its order."""

    windows: WindowBatches
    order: Sequence[int]
    """Numbers of windows."""
    dropout: DropoutConfig
    augment: bool
    """Whether crops are spoilt."""
    seed: tuple[int, ...]
    """Of the run and the epoch."""

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        return collate([self._augmented_window(position) for position in positions])

    def _augmented_window(self, position: int) -> Batch:
        """The window at a place, spoilt, as a batch of one; it may be given the sound of the one before."""
        seed = [*self.seed, position]
        window = drop_modalities(
            self.windows.window(self.order[position]),
            lambda: self.windows.window(self.order[position - 1]),
            self.dropout,
            np.random.default_rng(seed),
        )
        return augment_crops(window, np.random.default_rng([*seed, 1])) if self.augment else window


def process_batches(process: int, processes: int, positions: int, batch: int) -> list[range]:
    """The batches of one process: the first `batch` places are the first one's, the next the second's..."""
    return [range(at, at + batch) for at in range(process * batch, positions, processes * batch)]


def drop_modalities(
    window: Batch, other: Callable[[], Batch], config: DropoutConfig, rng: np.random.Generator
) -> Batch:
    """Take, by chance, sound or a stretch of the face from a batch of one window.

    other: gives the window whose sound may take the place of its own, moved to its own time
    """
    draw = rng.random()
    if draw < config.no_sound:
        window = replace(window, audio_valid=torch.zeros_like(window.audio_valid))
    elif draw < config.no_sound + config.other_sound:
        window = _with_audio_of(window, other())
    if rng.random() >= config.no_face:
        return window
    first, frames = _window_extent(window)
    length = int(rng.integers(1, max(2, int(config.no_face_length * frames) + 1)))
    start = first + int(rng.integers(0, max(1, frames - length + 1)))
    has_face = window.has_face.clone()
    has_face[0, start : start + length] = False
    return replace(window, has_face=has_face)


def _with_audio_of(window: Batch, other: Batch) -> Batch:
    offset_s = window.times_s[0, 0] - other.times_s[0, 0]
    return replace(
        window,
        audio=other.audio,
        audio_times_s=other.audio_times_s + offset_s,
        audio_valid=other.audio_valid,
    )


def _window_extent(window: Batch) -> tuple[int, int]:
    """Where a window begins in its row, after its margin, and how many frames it has."""
    if window.in_window is None:
        return 0, window.has_face.shape[1]
    in_window = window.in_window[0].nonzero()
    return int(in_window[0]), len(in_window)
