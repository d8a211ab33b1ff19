"""Measure a training run between two lines of its log: mean losses, frames per second, and losses not finite.

Losses stay on the device until the log is written, so that a step does not wait for the one before it.

Inputs: the losses of each step. Returns: numbers for the log.
See also: loop.py (when they are read).
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class NotFinite:
    """First step whose loss is not finite."""

    step: int
    loss: float
    tracks: tuple[str, ...]
    """Tracks of the windows with logits that are not finite; all tracks of the step if there is none."""


class LossMeter:
    """Mean of each loss over the steps since the last line of the log."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._unchecked: list[tuple[int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, losses: dict[str, Tensor], tracks: tuple[str, ...], finite: Tensor) -> None:
        """Add a step; `loss` is the total.

        tracks: track of each window; finite: [windows] bool, whether its logits are finite
        """
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._unchecked.append((step, tracks, torch.cat([losses["loss"][None].float(), finite.float()])))

    def first_not_finite(self) -> NotFinite | None:
        """Return the first step since the last call whose loss is not finite; None if there is none."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked:
            return None
        values = torch.cat([each for _, _, each in unchecked]).tolist()  # one transfer for all steps
        for step, tracks, each in unchecked:
            loss, *finite = values[: len(each)]
            values = values[len(each) :]
            if not math.isfinite(loss):
                wrong = {track for track, is_finite in zip(tracks, finite, strict=True) if not is_finite}
                return NotFinite(step, loss, tuple(sorted(wrong or set(tracks))))
        return None

    def read(self) -> dict[str, float]:
        """Return the mean losses and restart."""
        names, steps = list(self._sums), max(1, self._steps)
        values = (torch.stack([self._sums[name] for name in names]) / steps).tolist() if names else []
        self._sums, self._steps = {}, 0
        return dict(zip(names, values, strict=True))

    def state(self) -> dict[str, Any]:
        """Return the sums, so that a run interrupted between two lines of the log logs the same means."""
        return {"steps": self._steps, "sums": {name: value.cpu() for name, value in self._sums.items()}}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from a state of `state()`."""
        self._steps = state["steps"]
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}


class Throughput:
    """Frames per second since the last call of `restart`."""

    def __init__(self) -> None:
        self._frames, self._since_s = 0, time.monotonic()

    def add(self, frames: int) -> None:
        """Count `frames` more frames."""
        self._frames += frames

    def restart(self) -> float:
        """Return the frames per second and restart the count."""
        now_s = time.monotonic()
        frames_per_s = self._frames / max(now_s - self._since_s, 1e-9)
        self._frames, self._since_s = 0, now_s
        return round(frames_per_s, 1)
