"""Compute the logit and the intensity of each AU from its token and the temporal state.

`ActionUnitHead` detects: is the AU active? `IntensityHead` estimates how strong it is, on the scale of
`to_intensity`. It is a regression rather than an ordinal model, because the intensities that it learns from
are continuous; only coded data sets have levels. Its logit is

    slope * detection logit + shift + own term,    slope > 0, |own term| <= OWN_LIMIT

so intensity rises with the probability of the AU, and differs from a function of it by a bounded amount. An
AU that is detected cannot have an intensity near 0, nor the reverse, unless the two are so in training.

Inputs: temporal state [..., d], AU tokens [..., A, da]. Returns: logits [..., A], before the sigmoid.
See also: alignment.py (AU tokens), mamba.py (temporal state), network.py (`HeadOutput`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import MAX_INTENSITY

FIRST_SLOPE = 0.5
"""Slope of the intensity logit over the detection logit at the start of training."""
OWN_LIMIT = 1.0
"""Limit of the own term of the intensity logit; it changes an intensity of 2.5 to 1.3 or 3.7 at most."""


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


class IntensityHead(nn.Module):
    """Intensity logit of each AU: affine in its detection logit, plus a bounded own term."""

    def __init__(self, width: int, au_width: int, au_count: int) -> None:
        super().__init__()
        self.context = nn.Linear(width, au_count * au_width)
        self.weight = nn.Parameter(torch.zeros(au_count, au_width))  # no own term at first
        self.raw_slope = nn.Parameter(torch.full((au_count,), math.log(math.expm1(FIRST_SLOPE))))
        self.shift = nn.Parameter(torch.zeros(au_count))

    def forward(self, state: Tensor, au_tokens: Tensor, logits: Tensor) -> Tensor:
        """Return intensity logits [..., A].

        state: [..., d]    au_tokens: [..., A, da]    logits: [..., A] of the detection, with those of the
        audio; they get no gradient, so that the detection is trained by its own loss alone
        """
        context = self.context(state).unflatten(-1, au_tokens.shape[-2:])  # [..., A, da]
        own = OWN_LIMIT * torch.tanh((F.gelu(au_tokens + context) * self.weight).sum(-1))
        return F.softplus(self.raw_slope) * logits.detach() + self.shift + own


def to_intensity(intensity_logits: Tensor) -> Tensor:
    """Return intensities from 0 to MAX_INTENSITY of intensity logits, any shape."""
    return MAX_INTENSITY * torch.sigmoid(intensity_logits)
