"""Read the twelve logits off what is known about the frame in time and about each AU in space.

In: temporal state [..., d], AU tokens [..., A, da].  Out: logits [..., A], before the sigmoid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AU_COUNT


class ActionUnitHead(nn.Module):
    """One small reader an AU: its own token, moved by what the temporal state says about it."""

    def __init__(self, width: int, au_width: int) -> None:
        super().__init__()
        self.context = nn.Linear(width, AU_COUNT * au_width)
        self.weight = nn.Parameter(torch.randn(AU_COUNT, au_width) * au_width**-0.5)
        self.bias = nn.Parameter(torch.zeros(AU_COUNT))

    def forward(self, state: Tensor, au_tokens: Tensor) -> Tensor:
        """[..., d], [..., A, da] -> [..., A]."""
        context = self.context(state).unflatten(-1, au_tokens.shape[-2:])  # [..., A, da]
        return (F.gelu(au_tokens + context) * self.weight).sum(-1) + self.bias
