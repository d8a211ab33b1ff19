"""Mix the tokens that frozen encoders computed: the first trained layers of the network.

An encoder may return several parts side by side: one for each of several encoders, and within a part the
means of groups of layers (encoders/audio.py). The mix learns

    weights of the layer groups    softmax over the groups of a part, equal at first (Yang et al. 2021)
    a projection of each part      layer norm and linear layer, with several parts only; then concatenation

With one part of one group, such as the tokens of nano, the tokens are returned unchanged.

Inputs: tokens [..., D] as cached. Returns: tokens [..., D'].
See also: core/config.py (`TokenPart`), datasets/cache.py (the cache), network.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auscan.core.config import TokenPart


class TokenMix(nn.Module):
    """Mix of the parts of a token."""

    def __init__(self, stored_width: int, parts: Sequence[TokenPart], projected_width: int) -> None:
        """Create the layers.

        stored_width: D    parts: parts of a token; empty for one part of one group
        projected_width: channels of each of several parts after its projection

        Raises ValueError if the parts do not add up to `stored_width`.
        """
        super().__init__()
        parts = tuple(parts) or (TokenPart(width=stored_width),)
        self.channels = [part.channels for part in parts]
        if sum(self.channels) != stored_width:
            raise ValueError(f"the parts of a token have {sum(self.channels)} channels, not {stored_width}")
        several = len(parts) > 1
        self.parts = nn.ModuleList(PartMix(part, projected_width if several else None) for part in parts)
        self.width = len(parts) * projected_width if several else parts[0].width
        """Channels D'."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens [..., D] into [..., D']."""
        mixed = [mix(part) for mix, part in zip(self.parts, tokens.split(self.channels, -1), strict=True)]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=-1)


class PartMix(nn.Module):
    """Weighted sum of the groups of one part and, if a width is given, its projection."""

    def __init__(self, part: TokenPart, projected_width: int | None) -> None:
        super().__init__()
        self.groups = part.groups
        if part.groups > 1:
            self.group_weights = nn.Parameter(torch.zeros(part.groups))
        self.projection: nn.Module = nn.Identity()
        if projected_width is not None:
            self.projection = nn.Sequential(nn.LayerNorm(part.width), nn.Linear(part.width, projected_width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix the channels [..., groups * width] of one part."""
        if self.groups > 1:
            weights = torch.softmax(self.group_weights, dim=0)
            tokens = (tokens.unflatten(-1, (self.groups, -1)) * weights[:, None]).sum(-2)
        mixed: Tensor = self.projection(tokens)
        return mixed


def token_parts(encoder: nn.Module) -> tuple[TokenPart, ...]:
    """Return the parts of an encoder's tokens; empty for one part of one group, which needs no mix."""
    parts = getattr(encoder, "parts", ())
    assert isinstance(parts, tuple)
    return parts if len(parts) > 1 or any(part.groups > 1 for part in parts) else ()
