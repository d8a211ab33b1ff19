"""Order the windows of an epoch, augment each one and assign them to processes.

The order depends on the seed and the number of the epoch only. Modality dropout and augmentation of a window
depend on its position in that order, not on its batch. A run therefore resumes exactly, and several processes
compute what one process would.

Inputs: windows, a seed, the number of an epoch. Returns: batches.
See also: windows.py (cutting tracks into windows), encoder.py (augmentation of crops).
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
    """Selection and order of the windows of each epoch."""

    def __init__(self, sources: Sequence[str], balance: float, seed: int) -> None:
        """sources: source video of each window; balance: see DataConfig."""
        names = sorted(set(sources))
        source_number = {name: number for number, name in enumerate(names)}
        self._windows: list[list[int]] = [[] for _ in names]
        for window, source in enumerate(sources):
            self._windows[source_number[source]].append(window)
        self._balance, self._seed, self._count = balance, seed, len(sources)

    def epoch(self, number: int) -> list[int]:
        """Return the window numbers of epoch `number`, as many as there are windows. Deterministic."""
        rng = np.random.default_rng([self._seed, 2, number])
        weights = np.array([len(windows) for windows in self._windows], np.float64) ** self._balance
        shares = self._count * weights / weights.sum()
        quotas = np.floor(shares + 1e-9).astype(int)
        # Assign the remainders of rounding at random, so that over epochs each source gets its share.
        remainders = (shares - quotas).clip(0)
        missing = self._count - int(quotas.sum())
        if missing:
            quotas[rng.choice(len(quotas), missing, replace=False, p=remainders / remainders.sum())] += 1
        order: list[int] = []
        for windows, quota in zip(self._windows, quotas.tolist(), strict=True):
            while quota > 0:  # use every window once before repeating any
                order += rng.permutation(windows)[:quota].tolist()
                quota -= len(windows)
        return [order[position] for position in rng.permutation(len(order))]


@dataclass(frozen=True)
class EpochBatches(Dataset[Batch]):
    """Data set of the batches of an epoch, indexed by the positions of their windows in its order."""

    windows: WindowBatches
    order: Sequence[int]
    """Window numbers."""
    dropout: DropoutConfig
    augment: bool
    """Whether crops are augmented."""
    seed: tuple[int, ...]
    """Seed of the run and of the epoch."""

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        return collate([self._augmented_window(position) for position in positions])

    def _augmented_window(self, position: int) -> Batch:
        """Return the augmented window at a position as a batch of one. Its audio may be that of the window
        before it.
        """
        seed = [*self.seed, position]
        window = drop_modalities(
            self.windows.window(self.order[position]),
            lambda: self.windows.window(self.order[position - 1]),
            self.dropout,
            np.random.default_rng(seed),
        )
        return augment_crops(window, np.random.default_rng([*seed, 1])) if self.augment else window


def process_batches(process: int, processes: int, positions: int, batch: int) -> list[range]:
    """Return the positions of each batch of one process; blocks of `batch` positions are assigned to the
    processes in turn.
    """
    return [range(at, at + batch) for at in range(process * batch, positions, processes * batch)]


def drop_modalities(
    window: Batch, other: Callable[[], Batch], config: DropoutConfig, rng: np.random.Generator
) -> Batch:
    """Remove audio or a range of face frames from a batch of one window, at random.

    other: returns the window whose audio may replace this one's, shifted to this window's time
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
        own_audio=torch.zeros_like(window.own_audio),
    )


def _window_extent(window: Batch) -> tuple[int, int]:
    """Return the first row of a window after its margin, and its number of frames."""
    if window.in_window is None:
        return 0, window.has_face.shape[1]
    in_window = window.in_window[0].nonzero()
    return int(in_window[0]), len(in_window)
