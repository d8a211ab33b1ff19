"""Set up the optimiser: learning-rate schedule, weight decay, moving average of the weights, memory settings.

A training step on a CPU allocates and frees the same large tensors again and again. By default glibc returns
their pages to the system each time and receives them zeroed, which takes a tenth of the time of a step.
`keep_freed_memory` changes that setting for this process, which then keeps its peak of memory until it ends.

Inputs: numbers, and the weights of a network. Returns: factors, and parameter groups for the optimiser.
See also: loop.py (the optimiser and its steps).
"""

import ctypes
import math
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, lerp, nn

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the settings of mallopt in malloc.h."""
MAX_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; the largest threshold that glibc accepts."""


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate at a step: linear up to 1, then down to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def ema_update(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the update of the moving average of the weights, which is faster during the first steps."""

    def update(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        updates = float(count)
        return lerp(mean, new, 1.0 - min(decay, (1.0 + updates) / (10.0 + updates)) if decay else 1.0)

    return update


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters: matrices with weight decay; biases, norms, gates and decays without."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def with_separate_rate(groups: list[dict[str, Any]], module: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Split the weights of `module` off into groups of their own with their own learning rate."""
    in_module = {id(weight) for weight in module.parameters()}

    def select(group: dict[str, Any], inside: bool) -> dict[str, Any]:
        weights = [weight for weight in group["params"] if (id(weight) in in_module) == inside]
        return {**group, "params": weights}

    return [
        *(select(group, False) for group in groups),
        *({**select(group, True), "lr": rate} for group in groups),
    ]


def keep_freed_memory() -> None:
    """Make this process reuse freed memory instead of returning it to the system (glibc only)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, -1)  # never
