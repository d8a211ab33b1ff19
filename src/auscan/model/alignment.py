"""Align the whole face with its few telling patches: hierarchical granularity alignment.

Three granularities meet in every frame: the face (global token), the AU region (12 learned queries) and
the patch. A hand before the mouth, a shadow or the background carry no action unit, so patches are
scored first and only the active ones are read; how far what was read locally is trusted against the
whole is a gate for each AU. Scores and gates are kept: they are the explanation shown to users.

In: global [B, T, Dv], patches [B, T, N, Dv].  Out: frame embedding [B, T, d], AU tokens [B, T, A, da].
After Yu et al. 2026 (arXiv 2603.11306), whose abstract names the module; the inside is our reading.
Not here: the encoders that make the tokens, anything over more than two neighbouring frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AU_COUNT
from auscan.core.config import AlignmentConfig


@dataclass(frozen=True, slots=True)
class AlignmentOutput:
    """What alignment makes of a stretch of frames."""

    embedding: Tensor
    """[B, T, d] the frame embedding."""
    au_tokens: Tensor
    """[B, T, A, da] global and gated local evidence for each AU."""
    patch_weights: Tensor
    """[B, T, N] in 0..1; exactly 0 for a patch that fell away."""
    gates: Tensor
    """[B, T, A] in 0..1; how far the local evidence of each AU is trusted."""
    attention: Tensor
    """[B, T, A, H, N] where each head of each AU's query looked; sums to 1 over the active patches."""
    global_view: Tensor
    """[B, T, d] the face in the shared space; one side of the alignment loss."""
    local_view: Tensor
    """[B, T, d] the pooled active regions in the shared space; the other side."""


class GranularityAlignment(nn.Module):
    """Face, AU regions and patches, aligned in one frame embedding and 12 AU tokens."""

    def __init__(self, token_width: int, patch_count: int, config: AlignmentConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.au_width = config.au_width
        self.active = min(config.active_patches, patch_count)
        d = config.width
        self.face = nn.Linear(token_width, d)
        self.patch = nn.Linear(token_width, d)
        self.position = nn.Parameter(torch.randn(patch_count, d) * 0.02)
        self.change = nn.Linear(token_width, d // 4)
        self.score = PatchScore(d, d // 4)
        self.queries = nn.Parameter(torch.randn(AU_COUNT, config.heads, d) * d**-0.5)
        self.values = nn.Linear(d, config.heads * config.au_width)
        self.local = nn.Linear(config.heads * config.au_width, config.au_width)
        self.norm_local = nn.LayerNorm(config.au_width)
        self.share_local = nn.Linear(config.au_width, d)
        self.share_global = nn.Linear(d, d)
        self.gate_weight = nn.Parameter(torch.zeros(AU_COUNT, d))
        self.gate_bias = nn.Parameter(torch.zeros(AU_COUNT))
        self.expect = nn.Linear(d, AU_COUNT * config.au_width)
        self.merge = nn.Linear(AU_COUNT * config.au_width, d)
        self.norm = nn.LayerNorm(d)

    def forward(self, face: Tensor, patches: Tensor, previous: Tensor | None = None) -> AlignmentOutput:
        """Align a stretch of frames.

        face: [B, T, Dv]    patches: [B, T, N, Dv]
        previous: [B, N, Dv] patches of the frame before the stretch; None where the face just appeared
        """
        g = self.face(face)  # [B, T, d]
        p = self.patch(patches) + self.position  # [B, T, N, d]
        weights = self.patch_weights(g, p, patch_change(patches, previous))  # [B, T, N]
        local, attention = self.attend_regions(p, weights)  # [B, T, A, da], [B, T, A, H, N]

        shared_global = F.normalize(self.share_global(g), dim=-1)  # [B, T, d]
        shared_local = F.normalize(self.share_local(local), dim=-1)  # [B, T, A, d]
        agreement = shared_global.unsqueeze(2) * shared_local  # [B, T, A, d], sums to the cosine
        # The cosine of two random unit vectors shrinks like d ** -0.5; scaled back, the gate can move.
        scale = g.shape[-1] ** 0.5
        gates = torch.sigmoid(scale * (agreement * (1.0 + self.gate_weight)).sum(-1) + self.gate_bias)

        expected = self.expect(g).unflatten(-1, (AU_COUNT, self.au_width))  # [B, T, A, da]
        au_tokens = expected + gates.unsqueeze(-1) * local
        embedding = self.norm(g + self.merge(au_tokens.flatten(-2)))  # [B, T, d]
        local_view = F.normalize((gates.unsqueeze(-1) * shared_local).sum(2), dim=-1)  # [B, T, d]
        return AlignmentOutput(embedding, au_tokens, weights, gates, attention, shared_global, local_view)

    def patch_weights(self, g: Tensor, p: Tensor, change: Tensor) -> Tensor:
        """Soft weights of the k most telling patches, exactly 0 for the others: [B, T, N].

        The choice of k is hard, the weights of the chosen are soft, so gradients reach the score.
        """
        score = self.score(p, g.unsqueeze(2), self.change(change)).squeeze(-1)  # [B, T, N]
        threshold = score.topk(self.active, dim=-1).values[..., -1:]  # [B, T, 1]
        weights: Tensor = torch.sigmoid(score) * (score >= threshold)
        return weights

    def attend_regions(self, p: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each AU query attends over the active patches: [B, T, N, d], [B, T, N] -> [B, T, A, da].

        Also returns where it looked: [B, T, A, H, N].
        """
        logits = torch.einsum("btnd,ahd->btahn", p, self.queries)  # [B, T, A, H, N]
        # Multiplying the attention by the patch weight is adding its logarithm. A weight of 0 is never read,
        # however well the patch answers; the lowest number rather than -inf, so that nothing becomes NaN.
        lowest = torch.finfo(logits.dtype).min
        log_weights = torch.log(weights.clamp_min(1e-30)).masked_fill(weights == 0, lowest)  # [B, T, N]
        attention = torch.softmax(logits + log_weights[:, :, None, None], dim=-1)  # [B, T, A, H, N]
        values = self.values(p).unflatten(-1, (self.heads, self.au_width))  # [B, T, N, H, da]
        pooled = torch.einsum("btahn,btnhe->btahe", attention, values)  # [B, T, A, H, da]
        out: Tensor = self.norm_local(self.local(pooled.flatten(-2)))
        return out, attention


class PatchScore(nn.ModuleList):
    """How telling a patch is, from patch, face and change side by side."""

    def __init__(self, width: int, change_width: int) -> None:
        mixing = nn.Linear(2 * width + change_width, width // 2)
        super().__init__([mixing, nn.GELU(), nn.Linear(width // 2, 1)])

    def forward(self, p: Tensor, g: Tensor, change: Tensor) -> Tensor:
        """[B, T, N, d], [B, T, 1, d], [B, T, N, d / 4] -> [B, T, N, 1].

        Each meets its own columns of the first layer: so the face is multiplied once for all its patches, and
        nothing is copied side by side.
        """
        mixing, gelu, out = self
        assert isinstance(mixing, nn.Linear)
        patch_weight, face_weight, change_weight = mixing.weight.split(
            [each.shape[-1] for each in (p, g, change)], dim=1
        )
        mixed = (
            F.linear(p, patch_weight, mixing.bias)
            + F.linear(g, face_weight)
            + F.linear(change, change_weight)
        )
        score: Tensor = out(gelu(mixed))
        return score


def patch_change(patches: Tensor, previous: Tensor | None) -> Tensor:
    """How each patch moved since the frame before; 0 where there was none: [B, T, N, Dv]."""
    first = patches[:, 0] if previous is None else previous
    return patches - torch.cat([first.unsqueeze(1), patches[:, :-1]], dim=1)


def alignment_loss(global_view: Tensor, local_view: Tensor, temperature: float = 0.1) -> Tensor:
    """A frame's whole face should find its own pooled regions among those of the other frames.

    global_view, local_view: [F, d] unit vectors of F different faces or well separated frames.
    Symmetric InfoNCE (van den Oord et al. 2018). Returns a scalar; 0 for a single frame.
    """
    logits = global_view @ local_view.T / temperature  # [F, F]
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
