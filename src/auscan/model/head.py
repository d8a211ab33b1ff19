"""Compute the logit of each AU from its token and the temporal state.

Inputs: temporal state [..., d], AU tokens [..., A, da]. Returns: logits [..., A], before the sigmoid.
See also: alignment.py (AU tokens), mamba.py (temporal state).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ActionUnitHead(nn.Module):
    """One linear classifier per AU over GELU(AU token + projected temporal state)."""

    def __init__(self, width: int, au_width: int, au_count: int) -> None:
        super().__init__()
        self.context = nn.Linear(width, au_count * au_width)
        self.weight = nn.Parameter(torch.randn(au_count, au_width) * au_width**-0.5)
        self.bias = nn.Parameter(torch.zeros(au_count))

    def forward(self, state: Tensor, au_tokens: Tensor) -> Tensor:
        """Return logits [..., A] for state [..., d] and au_tokens [..., A, da]."""
        context = self.context(state).unflatten(-1, au_tokens.shape[-2:])  # [..., A, da]
        return (F.gelu(au_tokens + context) * self.weight).sum(-1) + self.bias
