"""What an epoch consists of: windows in an order, each without what it loses, and who reads which.

The order follows from the seed and the number of the epoch alone. What a window loses to modality dropout,
and how its crops are spoilt, follows from its place in that order, whatever batch it comes in. That is what
makes a run resume exactly, and several processes do what one would.

In: windows, a seed, the number of an epoch.  Out: batches.
Not here: cutting windows (windows.py), how crops are spoilt (augment.py).
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
        place = {name: number for number, name in enumerate(names)}
        self._windows: list[list[int]] = [[] for _ in names]
        for window, source in enumerate(sources):
            self._windows[place[source]].append(window)
        self._balance, self._seed, self._count = balance, seed, len(sources)

    def epoch(self, number: int) -> list[int]:
        """As many windows as there are, by number; the same ones whenever it is asked."""
        rng = np.random.default_rng([self._seed, 2, number])
        weights = np.array([len(windows) for windows in self._windows], np.float64) ** self._balance
        shares = self._count * weights / weights.sum()
        quotas = np.floor(shares + 1e-9).astype(int)
        # What rounding left over goes to sources by chance, so that over epochs each gets its share.
        rest = shares - quotas
        left = self._count - int(quotas.sum())
        if left:
            quotas[rng.choice(len(quotas), left, replace=False, p=rest.clip(0) / rest.clip(0).sum())] += 1
        order: list[int] = []
        for windows, quota in zip(self._windows, quotas.tolist(), strict=True):
            while quota > 0:  # every window once before any comes twice
                order += rng.permutation(windows)[:quota].tolist()
                quota -= len(windows)
        return [order[place] for place in rng.permutation(len(order))]


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

    def __getitem__(self, places: Sequence[int]) -> Batch:
        return collate([self._turn(place) for place in places])

    def _turn(self, place: int) -> Batch:
        """The window at a place, spoilt, as a batch of one; it may be given the sound of the one before."""
        seed = [*self.seed, place]
        window = drop_modalities(
            self.windows.window(self.order[place]),
            lambda: self.windows.window(self.order[place - 1]),
            self.dropout,
            np.random.default_rng(seed),
        )
        return augment_crops(window, np.random.default_rng([*seed, 1])) if self.augment else window


def places_of(process: int, processes: int, places: int, batch: int) -> list[range]:
    """The batches of one process: the first `batch` places are the first one's, the next the second's..."""
    return [range(at, at + batch) for at in range(process * batch, places, processes * batch)]


def drop_modalities(
    window: Batch, other: Callable[[], Batch], config: DropoutConfig, rng: np.random.Generator
) -> Batch:
    """Take, by chance, sound or a stretch of the face from a batch of one window.

    other: gives the window whose sound may take the place of its own, moved to its own time
    """
    chance = rng.random()
    if chance < config.no_sound:
        window = replace(window, audio_valid=torch.zeros_like(window.audio_valid))
    elif chance < config.no_sound + config.other_sound:
        window = _with_sound_of(window, other())
    if rng.random() >= config.no_face:
        return window
    first, frames = _extent(window)
    length = int(rng.integers(1, max(2, int(config.no_face_length * frames) + 1)))
    start = first + int(rng.integers(0, max(1, frames - length + 1)))
    seen = window.seen.clone()
    seen[0, start : start + length] = False
    return replace(window, seen=seen)


def _with_sound_of(window: Batch, other: Batch) -> Batch:
    away_s = window.times_s[0, 0] - other.times_s[0, 0]
    return replace(
        window,
        audio=other.audio,
        audio_times_s=other.audio_times_s + away_s,
        audio_valid=other.audio_valid,
    )


def _extent(window: Batch) -> tuple[int, int]:
    """Where a window begins in its row, after its margin, and how many frames it has."""
    if window.inside is None:
        return 0, window.seen.shape[1]
    inside = window.inside[0].nonzero()
    return int(inside[0]), len(inside)
