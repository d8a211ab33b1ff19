"""Set up the optimiser: learning-rate schedule, weight decay, moving average of the weights, memory settings.

A training step on a CPU allocates and frees the same large tensors again and again. By default glibc returns
their pages to the system each time and receives them zeroed, which takes a tenth of the time of a step.
`keep_freed_memory` changes that setting for this process, which then keeps its peak of memory until it ends.

Inputs: numbers, and the weights of a network. Returns: factors, and parameter groups for the optimiser.
See also: loop.py (the optimiser and its steps).
"""

import copy
import ctypes
import math
import sys
from typing import Any

import torch
from torch import Tensor, nn

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the settings of mallopt in malloc.h."""
MAX_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; the largest threshold that glibc accepts."""


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate at a step: linear up to 1, then down to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class WeightAverage(nn.Module):
    """Exponential moving average of the weights of a network, on its device.

    The number of updates is kept on the host: torch's `AveragedModel` reads it from the device for every
    weight, and each step then waits for the device.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float, device: torch.device) -> None:
        """decay: weight of the mean in an update; 0 keeps the last weights."""
        super().__init__()
        self.module = copy.deepcopy(network).to(device).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0))
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the mean towards the weights of `network`."""
        means: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(means, weights, average_share(self._decay, int(self.n_averaged)))
        self.n_averaged += 1


def average_share(decay: float, updates: int) -> float:
    """Weight of the new weights in the moving average after some updates; larger during the first steps."""
    return 1.0 - min(decay, (1.0 + updates) / (10.0 + updates)) if decay and updates else 1.0


def allow_tf32() -> None:
    """Let GPUs compute float32 matrix products in TF32: 10 bits of mantissa, several times as fast."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


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
