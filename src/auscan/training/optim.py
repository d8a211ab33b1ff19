"""Let the C library keep what was freed.

A step of training on a CPU makes and drops the same large tensors again and again. glibc gives their pages
back to the system each time and has them filled with zeros anew, which is a tenth of the time of a step.

In: nothing.  Out: a setting of this process, which then keeps its peak of memory until it ends.
Not here: how much memory a step needs.

How the weights are moved: the rate over the steps, which weights decay, the running mean.

In: numbers, and a network's weights.  Out: factors, groups for the optimiser.
Not here: the optimiser and the steps themselves (loop.py).
"""

import ctypes
import math
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, lerp, nn

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The names of mallopt's settings in malloc.h."""
MAX_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; glibc refuses to hold larger pieces than this in its own store."""


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """The rate's factor at a step: up to 1 in a straight line, then down to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def ema_update(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How the running mean of the weights takes in new ones; quicker at first, when it knows little."""

    def update(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        updates = float(count)
        return lerp(mean, new, 1.0 - min(decay, (1.0 + updates) / (10.0 + updates)) if decay else 1.0)

    return update


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; biases, norms, gates and decays without."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def with_separate_rate(groups: list[dict[str, Any]], module: nn.Module, rate: float) -> list[dict[str, Any]]:
    """The groups without the weights of `module`, and then the same groups of those, at their own rate."""
    in_module = {id(weight) for weight in module.parameters()}

    def select(group: dict[str, Any], inside: bool) -> dict[str, Any]:
        weights = [weight for weight in group["params"] if (id(weight) in in_module) == inside]
        return {**group, "params": weights}

    return [
        *(select(group, False) for group in groups),
        *({**select(group, True), "lr": rate} for group in groups),
    ]


def keep_freed_memory() -> None:
    """From now on, what this process frees is kept for its next allocation; without glibc nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, -1)  # never
