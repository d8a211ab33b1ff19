"""Align the global face token with the active patches (hierarchical granularity alignment).

Each frame has three granularities: the face (global token), the AU region (12 learned queries) and the patch.
A hand before the mouth, a shadow or the background carry no action unit. So each region selects its own k
active patches and attends to them alone. A gate for each AU weighs the local features against the whole face:
it says how far the local evidence can be trusted, and training teaches it with known covers.
Patch weights, attention and gates are returned as attributions.

Yu et al. 2026 (arXiv 2603.11306) name the module in their abstract; its inside is our design.

Inputs: global tokens [B, T, Dv], patches [B, T, N, Dv].
Returns: frame embedding [B, T, d], AU tokens [B, T, A, da].
See also: encoders/visual.py (tokens), mamba.py (long-range temporal model), training/losses.py (contrast and
cover loss). This module uses no frame but the current and the previous one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import AlignmentConfig

MAX_CONTRAST_SCALE = 30.0
"""Upper limit of the learned scale of the cosines in the contrast."""
FIRST_CONTRAST_SCALE = 10.0
"""Scale of the cosines at the start of training."""


@dataclass(frozen=True, slots=True)
class AlignmentOutput:
    """Output of the alignment for T frames."""

    embedding: Tensor
    """Frame embedding [B, T, d]."""
    au_tokens: Tensor
    """AU tokens [B, T, A, da]: global features plus gated local features of each AU."""
    patch_weights: Tensor
    """Patch weights [B, T, N] in 0..1, times the share of AUs that have selected the patch."""
    gate_logits: Tensor
    """Gates before the sigmoid [B, T, A]."""
    attention: Tensor
    """Attention [B, T, A, H, N] of each head of each AU query; sums to 1 over its active patches."""
    face: Tensor
    """Projected global token [B, T, d]; one side of the contrast."""
    local: Tensor
    """Local features of each AU [B, T, A, da]; the other side of the contrast."""

    @property
    def gates(self) -> Tensor:
        """Gates [B, T, A] in 0..1: weight of the local features of each AU."""
        return torch.sigmoid(self.gate_logits)


class GranularityAlignment(nn.Module):
    """Combine global token and patches into one frame embedding and A AU tokens."""

    def __init__(self, token_width: int, patch_count: int, config: AlignmentConfig, au_count: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.au_width = config.au_width
        self.active = config.active_count(patch_count)
        """Number of active patches k of each AU; training starts with all N (`anneal_selection`)."""
        d = config.width
        self.face = nn.Linear(token_width, d)
        self.patch = nn.Linear(token_width, d)
        self.position = nn.Parameter(torch.randn(patch_count, d) * 0.02)
        self.change = nn.Linear(token_width, d // 4)
        self.score = PatchScore(d, d // 4)
        self.queries = nn.Parameter(torch.randn(au_count, config.heads, d) * d**-0.5)
        # Weight of an AU's own response in its selection; 0 in format 1, where all AUs select the same.
        self.register_buffer("own_response", torch.ones(au_count))
        self.own_response: Tensor
        self.values = nn.Linear(d, config.heads * config.au_width)
        self.local = nn.Linear(config.heads * config.au_width, config.au_width)
        self.norm_local = nn.LayerNorm(config.au_width)
        self.gate = RegionGate(d, config.au_width, au_count)
        self.contrast = RegionContrast(d, config.au_width, au_count)
        self.expect = nn.Linear(d, au_count * config.au_width)
        self.merge = nn.Linear(au_count * config.au_width, d)
        self.norm = nn.LayerNorm(d)

    def forward(self, face: Tensor, patches: Tensor, previous: Tensor | None = None) -> AlignmentOutput:
        """Align T consecutive frames of each face.

        face: global tokens [B, T, Dv]    patches: [B, T, N, Dv]
        previous: patches [B, N, Dv] of the frame before the first one; None if the face has just appeared
        """
        g = self.face(face)  # [B, T, d]
        p = self.patch(patches) + self.position  # [B, T, N, d]
        score = self.score(p, g.unsqueeze(2), self.change(patch_change(patches, previous))).squeeze(-1)
        local, attention, active = self.attend_regions(p, score)
        weights = torch.sigmoid(score) * active.to(score.dtype).mean(2)  # [B, T, N]
        gate_logits = self.gate(g, local)  # [B, T, A]
        expected = self.expect(g).unflatten(-1, (-1, self.au_width))  # [B, T, A, da]
        au_tokens = expected + torch.sigmoid(gate_logits).unsqueeze(-1) * local
        embedding = self.norm(g + self.merge(au_tokens.flatten(-2)))  # [B, T, d]
        return AlignmentOutput(embedding, au_tokens, weights, gate_logits, attention, g, local)

    def attend_regions(self, p: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select and pool the patches of each AU.

        p: [B, T, N, d]    score: [B, T, N]
        Returns the local features [B, T, A, da], the attention [B, T, A, H, N] and the active patches
        [B, T, A, N] bool.

        The selection is hard. The weights of the selected patches are soft, so gradients reach the score. An
        AU selects by the shared score plus its own response, because patches that matter to a brow do not
        matter to the mouth, and one selection for all would have to keep both.
        """
        responses = torch.einsum("btnd,ahd->btahn", p, self.queries)  # [B, T, A, H, N]
        own = self.own_response[:, None] * responses.mean(3)  # [B, T, A, N]
        best = (score.unsqueeze(2) + own).topk(self.active, dim=-1).indices  # [B, T, A, k]
        active = torch.zeros_like(own).scatter(-1, best, 1.0) > 0  # k of them even if scores tie
        # Multiplying the attention by the patch weight equals adding its logarithm to the responses. It is
        # the logarithm of a sigmoid in one function, because in half precision a small weight is 0. The
        # lowest finite number, since -inf could produce NaN.
        log_weights = F.logsigmoid(score).unsqueeze(2)  # [B, T, 1, N]
        log_weights = torch.where(active, log_weights, torch.finfo(log_weights.dtype).min)  # [B, T, A, N]
        attention = torch.softmax(responses + log_weights.unsqueeze(3), dim=-1)  # [B, T, A, H, N]
        values = self.values(p).unflatten(-1, (self.heads, self.au_width))  # [B, T, N, H, da]
        pooled = torch.einsum("btahn,btnhe->btahe", attention, values)  # [B, T, A, H, da]
        return self.norm_local(self.local(pooled.flatten(-2))), attention, active

    def anneal_selection(self, final: int, progress: float, end: float = 0.3) -> None:
        """Set k for a point of the training: from all N patches at the start down to `final`.

        progress, end: shares of the training done, and at which k becomes `final`
        A hard selection from the first step on would starve the patches that are not selected of gradient.
        """
        total, share = self.position.shape[0], min(progress / end, 1.0)
        self.active = round(total + (final - total) * share)


class RegionGate(nn.Module):
    """Gate of each AU: can its local features be trusted?

    A bilinear form of global and local features, each projected to a unit vector, plus a linear form of the
    local features. The projections are the gate's own: with those of the contrast, the contrast would raise
    the very cosine that the gate depends on, and no gate would close.
    """

    def __init__(self, width: int, au_width: int, au_count: int) -> None:
        super().__init__()
        self.local = nn.Linear(au_width, width)
        self.face = nn.Linear(width, width)
        self.agreement = nn.Parameter(torch.zeros(au_count, width))
        self.evidence = nn.Parameter(torch.zeros(au_count, au_width))
        self.bias = nn.Parameter(torch.zeros(au_count))

    def forward(self, g: Tensor, local: Tensor) -> Tensor:
        """Return gate logits [..., A] for the face g [..., d] and local features [..., A, da]."""
        face, region = unit_vectors(self.face(g)), unit_vectors(self.local(local))
        agreement = face.unsqueeze(-2) * region  # [..., A, d], sums to the cosine
        # The cosine of two random unit vectors shrinks with d ** -0.5. Without this scale the gate would
        # hardly move.
        scale = g.shape[-1] ** 0.5
        bilinear = scale * (agreement * (1.0 + self.agreement)).sum(-1) + self.bias
        logits: Tensor = bilinear + (local * self.evidence).sum(-1)
        return logits


class RegionContrast(nn.Module):
    """Views of the contrast between a face and its regions; used in training only."""

    def __init__(self, width: int, au_width: int, au_count: int) -> None:
        super().__init__()
        self.local = nn.Linear(au_width, width)
        self.face = nn.Linear(width, width)
        self.aspect = nn.Parameter(torch.ones(au_count, width))
        """Part of the face that a region is compared with."""
        ratio = FIRST_CONTRAST_SCALE / (MAX_CONTRAST_SCALE - FIRST_CONTRAST_SCALE)
        self.raw_scale = nn.Parameter(torch.tensor(math.log(ratio)))

    def forward(self, g: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors [..., A, d] of the face g [..., d] and of local features [..., A, da].

        The face's vectors are multiplied by the scale, so that products are the logits of the contrast.
        """
        scale = MAX_CONTRAST_SCALE * torch.sigmoid(self.raw_scale)
        face = unit_vectors(self.face(g).unsqueeze(-2) * self.aspect)
        return scale * face, unit_vectors(self.local(local))


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


def contrast_loss(faces: Tensor, regions: Tensor, excluded: Tensor) -> Tensor:
    """Compute the symmetric InfoNCE loss (van den Oord et al. 2018) of each AU region, and average it.

    faces, regions: [F, A, d], the views of `RegionContrast` for F frames
    excluded: [F, F, A] bool, symmetric; pairs of frames that are not negatives of each other, because they
    are nearly the same picture or show the same state of the AU

    The positive pair is the face and the region of one frame; the negatives are the regions, and the faces,
    of other frames. Frames without a negative have no loss. Returns a scalar, computed in float32 at least;
    0 if there is no negative.
    """
    dtype = torch.promote_types(faces.dtype, torch.float32)
    # Converted after the product too, which autocast computes in half precision.
    logits = torch.einsum("iad,jad->aij", faces.to(dtype), regions.to(dtype)).to(dtype)  # [A, F, F]
    itself = torch.eye(len(faces), dtype=torch.bool, device=faces.device)
    masked = (excluded & ~itself[..., None]).permute(2, 0, 1)  # [A, F, F]
    logits = logits.masked_fill(masked, torch.finfo(dtype).min)
    counted = ~(masked | itself).all(-1)  # [A, F], frames with a negative
    positive = logits.diagonal(dim1=1, dim2=2)  # [A, F]
    losses = (logits.logsumexp(2) + logits.logsumexp(1)) / 2 - positive  # [A, F]
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp_min(1)
