"""Carry sound to the logits of each AU on a short path, and predict the opening of the mouth.

The temporal model reads sound through its state, where little of one frame's voice reaches one frame's
logit (docs/method.md). `LatePath` adds it: the product of a visual vector, which says how much of an AU is
to be heard rather than seen, and an audio vector. It adds exactly 0 without sound.

`OpeningHeads` predicts how open the mouth is, once from the picture and once from the sound.
inference/synchrony.py compares the two over time to tell whose voice it is.

Inputs: frame embeddings before the fusion [B, T, d], audio condition [B, T, Da], attended audio [B, T, d].
Returns: audio logits [B, T, A]; logits of the opening.
See also: fusion.py (attended audio, audio condition), network.py.
"""

import torch
from torch import Tensor, nn

RANK = 8
"""Length of the visual and of the audio vector of an AU in the late path."""
OPENING_WIDTH = 32
"""Hidden channels of the opening predicted from sound."""


class LatePath(nn.Module):
    """Audio logits: for each AU the product of a visual and an audio vector of length `RANK`."""

    def __init__(self, width: int, audio_width: int, au_count: int) -> None:
        super().__init__()
        self.visual = nn.Linear(width, au_count * RANK)
        nn.init.zeros_(self.visual.weight)  # an untrained path adds 0
        nn.init.zeros_(self.visual.bias)
        # No bias: without sound the result is exactly 0.
        self.audio = nn.Linear(audio_width + width, au_count * RANK, bias=False)

    def forward(self, embedding: Tensor, audio_condition: Tensor, attended: Tensor) -> Tensor:
        """Return audio logits [..., A].

        embedding: [..., d], before the fusion    audio_condition: [..., Da]    attended: [..., d]
        """
        reliance = self.visual(embedding).unflatten(-1, (-1, RANK))
        voice = self.audio(torch.cat([audio_condition, attended], dim=-1)).unflatten(-1, (-1, RANK))
        logits: Tensor = (reliance * voice).sum(-1) * RANK**-0.5
        return logits


class OpeningHeads(nn.Module):
    """Logits of an open mouth, from the picture and from the sound; trained on detached features."""

    def __init__(self, width: int, audio_width: int) -> None:
        super().__init__()
        self.picture = nn.Linear(width, 1)
        self.sound = nn.Sequential(
            nn.Linear(audio_width, OPENING_WIDTH), nn.GELU(), nn.Linear(OPENING_WIDTH, 1)
        )

    def forward(self, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, T] for frames [B, T, d], and [B, Ta] for standardised tokens [B, Ta, Da]."""
        return self.picture(embedding.detach()).squeeze(-1), self.sound(tokens.detach()).squeeze(-1)
