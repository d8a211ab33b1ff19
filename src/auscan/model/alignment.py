"""Align the global face token with the active patches (hierarchical granularity alignment).

Each frame has three granularities: the face (global token), the AU region (12 learned queries) and the patch.
A hand before the mouth, a shadow or the background carry no action unit. So patches are scored first, and
only the k active ones are attended to. A gate for each AU weighs the local features against the whole face.
Patch weights, attention and gates are returned as attributions.

Yu et al. 2026 (arXiv 2603.11306) name the module in their abstract; its inside is our design.

Inputs: global tokens [B, T, Dv], patches [B, T, N, Dv].
Returns: frame embedding [B, T, d], AU tokens [B, T, A, da].
See also: encoders/visual.py (tokens), mamba.py (long-range temporal model). This module uses no frame but the
current and the previous one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AU_COUNT
from auscan.core.config import AlignmentConfig


@dataclass(frozen=True, slots=True)
class AlignmentOutput:
    """Output of the alignment for T frames."""

    embedding: Tensor
    """Frame embedding [B, T, d]."""
    au_tokens: Tensor
    """AU tokens [B, T, A, da]: global features plus gated local features of each AU."""
    patch_weights: Tensor
    """Patch weights [B, T, N] in 0..1; exactly 0 for an inactive patch."""
    gates: Tensor
    """Gates [B, T, A] in 0..1: weight of the local features of each AU."""
    attention: Tensor
    """Attention [B, T, A, H, N] of each head of each AU query; sums to 1 over the active patches."""
    global_view: Tensor
    """Face in the shared space [B, T, d], unit vectors; one side of the alignment loss."""
    local_view: Tensor
    """Pooled active regions in the shared space [B, T, d], unit vectors; the other side."""


class GranularityAlignment(nn.Module):
    """Combine global token and patches into one frame embedding and 12 AU tokens."""

    def __init__(self, token_width: int, patch_count: int, config: AlignmentConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.au_width = config.au_width
        self.active = config.active_count(patch_count)
        """Number of active patches k."""
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
        """Align T consecutive frames of each face.

        face: global tokens [B, T, Dv]    patches: [B, T, N, Dv]
        previous: patches [B, N, Dv] of the frame before the first one; None if the face has just appeared
        """
        g = self.face(face)  # [B, T, d]
        p = self.patch(patches) + self.position  # [B, T, N, d]
        weights, log_weights = self.patch_weights(g, p, patch_change(patches, previous))  # [B, T, N] each
        local, attention = self.attend_regions(p, log_weights)  # [B, T, A, da], [B, T, A, H, N]

        shared_global = unit_vectors(self.share_global(g))  # [B, T, d]
        shared_local = unit_vectors(self.share_local(local))  # [B, T, A, d]
        agreement = shared_global.unsqueeze(2) * shared_local  # [B, T, A, d], sums to the cosine
        # The cosine of two random unit vectors shrinks with d ** -0.5. Without this scale the gate would
        # hardly move.
        scale = g.shape[-1] ** 0.5
        gates = torch.sigmoid(scale * (agreement * (1.0 + self.gate_weight)).sum(-1) + self.gate_bias)

        expected = self.expect(g).unflatten(-1, (AU_COUNT, self.au_width))  # [B, T, A, da]
        au_tokens = expected + gates.unsqueeze(-1) * local
        embedding = self.norm(g + self.merge(au_tokens.flatten(-2)))  # [B, T, d]
        local_view = unit_vectors((gates.unsqueeze(-1) * shared_local).sum(2))  # [B, T, d]
        return AlignmentOutput(embedding, au_tokens, weights, gates, attention, shared_global, local_view)

    def patch_weights(self, g: Tensor, p: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return soft weights [B, T, N] of the k patches with the highest score, and their logarithms.

        g: [B, T, d]    p: [B, T, N, d]    change: [B, T, N, Dv]
        The weight of any other patch is exactly 0, and its logarithm the lowest finite number; -inf could
        produce NaN. The selection is hard. The weights of the selected patches are soft, so gradients reach
        the score. The logarithm is that of a sigmoid in one function: in half precision a small weight is 0.
        """
        score = self.score(p, g.unsqueeze(2), self.change(change)).squeeze(-1)  # [B, T, N]
        best = score.topk(self.active, dim=-1).indices  # [B, T, k]
        active = torch.zeros_like(score).scatter(-1, best, 1.0) > 0  # [B, T, N]; k of them even if scores tie
        log_weights = F.logsigmoid(score)
        log_weights = log_weights.masked_fill(~active, torch.finfo(log_weights.dtype).min)
        return torch.sigmoid(score) * active, log_weights

    def attend_regions(self, p: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the active patches by attention, one set of queries per AU.

        p: [B, T, N, d]    log_weights: [B, T, N]
        Returns the local features [B, T, A, da] and the attention [B, T, A, H, N].
        """
        logits = torch.einsum("btnd,ahd->btahn", p, self.queries)  # [B, T, A, H, N]
        # Multiplying the attention by the patch weight equals adding its logarithm to the logits.
        attention = torch.softmax(logits + log_weights[:, :, None, None], dim=-1)  # [B, T, A, H, N]
        values = self.values(p).unflatten(-1, (self.heads, self.au_width))  # [B, T, N, H, da]
        pooled = torch.einsum("btahn,btnhe->btahe", attention, values)  # [B, T, A, H, da]
        out: Tensor = self.norm_local(self.local(pooled.flatten(-2)))
        return out, attention


class PatchScore(nn.ModuleList):
    """Score of a patch: an MLP over the concatenated patch, face and change features."""

    def __init__(self, width: int, change_width: int) -> None:
        mixing = nn.Linear(2 * width + change_width, width // 2)
        super().__init__([mixing, nn.GELU(), nn.Linear(width // 2, 1)])

    def forward(self, p: Tensor, g: Tensor, change: Tensor) -> Tensor:
        """Score patches: p [B, T, N, d], g [B, T, 1, d], change [B, T, N, d / 4] -> [B, T, N, 1].

        Each input is multiplied by its own columns of the first layer. So the face is multiplied once for all
        patches, and no concatenation is copied.
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
    """Return the change [B, T, N, Dv] of each patch since the previous frame; 0 if there is none.

    patches: [B, T, N, Dv]    previous: [B, N, Dv], patches before the first frame, or None
    """
    first = patches[:, 0] if previous is None else previous
    return patches - torch.cat([first.unsqueeze(1), patches[:, :-1]], dim=1)


def unit_vectors(x: Tensor) -> Tensor:
    """Scale vectors [..., d] to length 1, in float32 at least; vectors shorter than 1e-4 are scaled by 1e4.

    With the default limit of `F.normalize`, 1e-12, the gradient of a short vector would overflow float16.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.normalize(wide, dim=-1, eps=1e-4).to(x.dtype)


def alignment_loss(global_view: Tensor, local_view: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute the symmetric InfoNCE loss (van den Oord et al. 2018) between global and local views.

    global_view, local_view: [F, d] unit vectors of F different faces or well separated frames
    The positive pair is the two views of one frame; the negatives are the views of the other frames.
    Returns a scalar, computed in float32 at least; 0 for a single frame.
    """
    dtype = torch.promote_types(global_view.dtype, torch.float32)
    global_view, local_view = global_view.to(dtype), local_view.to(dtype)
    logits = global_view @ local_view.T / temperature  # [F, F]
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
