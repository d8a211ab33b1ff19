"""Test the alignment: selection of active patches, attention of AU queries, gates and the contrast."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from auscan.core.config import AlignmentConfig
from auscan.model.alignment import (
    MAX_CONTRAST_SCALE,
    AlignmentOutput,
    GranularityAlignment,
    contrast_loss,
    patch_change,
    unit_vectors,
)

BATCH, FRAMES, PATCHES, TOKEN_WIDTH, AU_COUNT = 2, 7, 9, 10, 12
CONFIG = AlignmentConfig(width=16, au_width=4, heads=2, active_patches=4)


class FixedScore(nn.Module):
    """Constant patch scores, so that a test determines the active patches."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, seen: Tensor, *others: Tensor) -> Tensor:
        return self.scores.to(seen.dtype).expand(seen.shape[:-1])[..., None]


@pytest.fixture
def alignment() -> GranularityAlignment:
    torch.manual_seed(0)
    module = GranularityAlignment(TOKEN_WIDTH, PATCHES, CONFIG, 12)
    for weight in (module.gate.agreement, module.gate.evidence, module.gate.bias):
        weight.data = torch.randn(weight.shape)
    return module.double()


def tokens(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random global tokens [B, T, Dv] and patches [B, T, N, Dv]."""
    random = torch.Generator().manual_seed(seed)
    face = torch.randn(BATCH, FRAMES, TOKEN_WIDTH, generator=random, dtype=torch.float64)
    patches = torch.randn(BATCH, FRAMES, PATCHES, TOKEN_WIDTH, generator=random, dtype=torch.float64)
    return face, patches


def test_all_outputs_have_their_documented_shapes(alignment: GranularityAlignment) -> None:
    out = alignment(*tokens())
    d, da = CONFIG.width, CONFIG.au_width
    assert out.embedding.shape == out.face.shape == (BATCH, FRAMES, d)
    assert out.au_tokens.shape == out.local.shape == (BATCH, FRAMES, AU_COUNT, da)
    assert out.patch_weights.shape == (BATCH, FRAMES, PATCHES)
    assert out.gates.shape == (BATCH, FRAMES, AU_COUNT)
    assert ((out.gates > 0) & (out.gates < 1)).all()
    assert out.attention.shape == (BATCH, FRAMES, AU_COUNT, CONFIG.heads, PATCHES)
    faces, regions = alignment.contrast(out.face, out.local)
    assert faces.shape == regions.shape == (BATCH, FRAMES, AU_COUNT, d)
    assert_close(regions.norm(dim=-1), torch.ones(BATCH, FRAMES, AU_COUNT, dtype=torch.float64))
    assert_close(faces.norm(dim=-1), torch.full((BATCH, FRAMES, AU_COUNT), 10.0, dtype=torch.float64))


def test_each_au_keeps_the_k_patches_with_the_highest_shared_score_plus_own_response(
    alignment: GranularityAlignment,
) -> None:
    face, patches = tokens()
    p, score = project_patches(alignment, face, patches)
    own = torch.einsum("btnd,ahd->btahn", p, alignment.queries).mean(3)  # [B, T, A, N]
    chosen = (score[:, :, None] + own).topk(CONFIG.active_patches, dim=-1).indices.sort(-1).values
    out = alignment(face, patches)
    attended = out.attention.sum(3) > 0  # [B, T, A, N]
    assert (attended.sum(-1) == CONFIG.active_patches).all()
    assert torch.equal(attended.nonzero()[:, -1].reshape(chosen.shape), chosen)
    assert len({tuple(row) for row in chosen[0, 0].tolist()}) > 1, "the AUs select differently"
    assert_close(out.patch_weights, torch.sigmoid(score) * attended.double().mean(2))


def test_selection_starts_with_all_patches_and_ends_with_k(alignment: GranularityAlignment) -> None:
    counts = []
    for progress in (0.0, 0.15, 0.3, 1.0):
        alignment.anneal_selection(CONFIG.active_patches, progress)
        counts.append(int((alignment(*tokens()).attention[0, 0, 0, 0] > 0).sum()))
    assert counts == [PATCHES, 6, CONFIG.active_patches, CONFIG.active_patches]


@pytest.mark.parametrize("strength", [1.0, 1e4])
def test_a_dropped_patch_changes_nothing(alignment: GranularityAlignment, strength: float) -> None:
    """A hand before the mouth may match a query better than the lips; it has no effect if inactive."""
    alignment.score = FixedScore(torch.tensor([3.0, -1.0, 2.0, -2.0, 1.0, -3.0, 0.5, -4.0, -5.0]))
    alignment.own_response.zero_()  # so that all AUs select by the shared score alone
    face, patches = tokens()
    before = alignment(face, patches)
    assert before.patch_weights[0, 0].nonzero().flatten().tolist() == [0, 2, 4, 6]
    changed = patches.clone()
    changed[:, :, [1, 3, 5, 7, 8]] += strength * torch.randn(
        BATCH, FRAMES, 5, TOKEN_WIDTH, dtype=patches.dtype
    )
    after = alignment(face, changed)
    for name in ("au_tokens", "embedding", "gates", "local"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    changed[:, :, 0] += 1.0
    assert not torch.allclose(alignment(face, changed).au_tokens, before.au_tokens)


def test_attention_pools_the_regions(alignment: GranularityAlignment) -> None:
    """The attention covers only active patches, and pooling with it reproduces the local features."""
    face, patches = tokens()
    out = alignment(face, patches)
    assert_close(
        out.attention.sum(-1), torch.ones(BATCH, FRAMES, AU_COUNT, CONFIG.heads, dtype=torch.float64)
    )
    away = (out.patch_weights == 0)[:, :, None, None].expand_as(out.attention)
    assert (out.attention[away] == 0).all()
    p, score = project_patches(alignment, face, patches)
    values = alignment.values(p).unflatten(-1, (CONFIG.heads, CONFIG.au_width))  # [B, T, N, H, da]
    by_hand = (out.attention[..., None] * values.transpose(2, 3)[:, :, None]).sum(-2)  # [B, T, A, H, da]
    local = alignment.norm_local(alignment.local(by_hand.flatten(-2)))
    assert_close(local, alignment.attend_regions(p, score)[0])


def test_a_lower_patch_weight_lowers_its_attention(alignment: GranularityAlignment) -> None:
    """The selection is hard and the weights are soft: a patch with a low score has little influence."""
    face, patches = tokens()
    moved = patches.clone()
    moved[:, :, 0] += 1.0
    shifts = []
    alignment.own_response.zero_()
    for score in (4.0, 0.0, -4.0, -8.0):
        alignment.score = FixedScore(torch.tensor([score, 3.0, 3.0, 3.0, *[-9.0] * 5]))
        shifts.append(
            (
                alignment.attend_regions(*project_patches(alignment, face, moved))[0]
                - alignment.attend_regions(*project_patches(alignment, face, patches))[0]
            )
            .norm()
            .item()
        )
    assert shifts == sorted(shifts, reverse=True)
    assert shifts[-1] < 0.05 * shifts[0]


def project_patches(alignment: GranularityAlignment, face: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs of `attend_regions`: projected patches [B, T, N, d] and their scores [B, T, N]."""
    p = alignment.patch(patches) + alignment.position
    change = alignment.change(patch_change(patches, None))
    return p, alignment.score(p, alignment.face(face).unsqueeze(2), change).squeeze(-1)


def test_all_patches_are_active_if_there_are_fewer_than_the_limit() -> None:
    module = GranularityAlignment(TOKEN_WIDTH, 3, CONFIG, 12).double()
    face, patches = tokens()
    assert (module(face, patches[:, :, :3]).patch_weights > 0).all()


def test_very_low_scores_give_no_nan(alignment: GranularityAlignment) -> None:
    """In float32 the sigmoid below -104 is 0 for every patch; a softmax over no patch would be NaN."""
    module = alignment.float()
    module.score = FixedScore(torch.linspace(-300, -200, PATCHES))
    face, patches = tokens()
    out = module(face.float(), patches.float())
    assert out.embedding.isfinite().all()
    assert out.au_tokens.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dropped_patches_and_low_scores_have_finite_gradients_in_every_precision(
    alignment: GranularityAlignment, dtype: torch.dtype
) -> None:
    """In float16 a sigmoid below -17 is 0, and so is 1e-30: the logarithm of a weight would be infinite."""
    module = alignment.to(dtype)
    for bias in (0.0, -30.0, -100.0):
        module.score[2].bias.data.fill_(bias)
        module.zero_grad()
        face, patches = (each.to(dtype) for each in tokens())
        out = module(face, patches)
        attended = out.attention.sum(3) > 0  # [B, T, A, N]
        assert (attended.sum(-1) == CONFIG.active_patches).all(), "also if rounded scores tie"
        assert not out.patch_weights[~attended.any(2)].any()
        loss = out.embedding.float().square().sum() + out.au_tokens.float().square().sum()
        loss = loss + contrast_of(module, out)
        loss.backward()
        for name, weight in module.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_vector_of_zeros_has_no_direction_and_no_nan(dtype: torch.dtype) -> None:
    zeros = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    vectors = unit_vectors(zeros)
    vectors.sum().backward()
    assert vectors.dtype == dtype
    assert not vectors.any()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


def test_gradients_reach_the_score_and_every_other_weight(alignment: GranularityAlignment) -> None:
    face, patches = tokens()
    out = alignment(face, patches)
    random = torch.Generator().manual_seed(3)
    parts = (out.embedding, out.au_tokens, *alignment.contrast(out.face, out.local))
    loss = sum((part * torch.randn(part.shape, generator=random, dtype=part.dtype)).sum() for part in parts)
    assert isinstance(loss, Tensor)
    loss.backward()
    for name, weight in alignment.named_parameters():
        # The bias of the score shifts all scores equally, so its gradient is tiny but not 0.
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    assert alignment.score[0].weight.grad.abs().mean() > 1e-4
    assert alignment.change.weight.grad.abs().mean() > 1e-4


def contrast_of(module: GranularityAlignment, out: AlignmentOutput) -> Tensor:
    """Return the contrast of the first frames of all clips, none of them excluded."""
    faces, regions = module.contrast(out.face[:, 0], out.local[:, 0])
    return contrast_loss(faces, regions, torch.zeros(BATCH, BATCH, AU_COUNT, dtype=torch.bool))


def test_the_contrast_alone_trains_the_score_but_no_gate(alignment: GranularityAlignment) -> None:
    """The gate has projections of its own: the contrast must not raise the cosine that opens it."""
    contrast_of(alignment, alignment(*tokens())).backward()
    assert alignment.score[0].weight.grad is not None
    assert alignment.score[0].weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in alignment.gate.parameters())


def test_a_closed_gate_leaves_only_the_global_token(alignment: GranularityAlignment) -> None:
    alignment.gate.bias.data[:] = 1e6
    alignment.gate.bias.data[3] = -1e6
    face, patches = tokens()
    one, other = alignment(face, patches), alignment(face, tokens(seed=1)[1])
    assert (one.gates[..., 3] == 0).all()
    assert torch.equal(one.au_tokens[:, :, 3], other.au_tokens[:, :, 3])
    apart = (one.au_tokens - other.au_tokens).norm(dim=-1)
    assert (apart[:, :, [0, 1, 2, *range(4, 12)]] > 1e-3).all()


def test_an_untrained_gate_is_the_sigmoid_of_the_scaled_cosine(alignment: GranularityAlignment) -> None:
    """With zero weights its logit is the cosine of face and region times the root of the width."""
    for weight in (alignment.gate.agreement, alignment.gate.evidence, alignment.gate.bias):
        weight.data.zero_()
    out = alignment(*tokens())
    face = F.normalize(alignment.gate.face(out.face), dim=-1)
    region = F.normalize(alignment.gate.local(out.local), dim=-1)
    cosine = torch.einsum("btd,btad->bta", face, region)
    assert_close(out.gates, torch.sigmoid(math.sqrt(CONFIG.width) * cosine))


def test_the_position_of_a_patch_matters(alignment: GranularityAlignment) -> None:
    """The same patches in another place must give another embedding."""
    face, patches = tokens()
    apart = alignment(face, patches).embedding - alignment(face, patches.flip(2)).embedding
    assert apart.abs().max() > 1e-4


def test_a_still_clip_does_not_change() -> None:
    still = tokens()[1][:, :1].expand(-1, FRAMES, -1, -1)
    assert (patch_change(still, None) == 0).all()
    assert (patch_change(still, still[:, 0]) == 0).all()


def test_change_is_the_difference_to_the_frame_before() -> None:
    patches = tokens()[1]
    previous = tokens(seed=1)[1][:, -1]
    change = patch_change(patches, previous)
    assert_close(change[:, 0], patches[:, 0] - previous)
    assert_close(change[:, 1:], patches[:, 1:] - patches[:, :-1])
    assert (patch_change(patches, None)[:, 0] == 0).all()


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_splitting_a_clip_and_passing_the_last_patches_changes_nothing(
    alignment: GranularityAlignment, cut: int
) -> None:
    face, patches = tokens()
    whole = alignment(face, patches)
    first = alignment(face[:, :cut], patches[:, :cut])
    second = alignment(face[:, cut:], patches[:, cut:], patches[:, cut - 1])
    for name in ("embedding", "au_tokens", "patch_weights", "gates", "face", "local"):
        joined = torch.cat([getattr(first, name), getattr(second, name)], dim=1)
        assert_close(joined, getattr(whole, name))
    without_previous = alignment(face[:, cut:], patches[:, cut:])
    assert not torch.allclose(without_previous.embedding[:, 0], whole.embedding[:, cut])


def test_a_frame_depends_on_itself_and_the_previous_one_only(alignment: GranularityAlignment) -> None:
    face, patches = tokens()
    before = alignment(face, patches).embedding
    patches[:, 3] += 1.0
    moved = (alignment(face, patches).embedding - before).abs().amax(dim=(0, 2)) > 1e-9
    assert moved.nonzero().flatten().tolist() == [3, 4]


NONE_EXCLUDED = torch.zeros(12, 12, AU_COUNT, dtype=torch.bool)


def random_views(seed: int = 0) -> Tensor:
    """Return unit vectors of 12 frames [12, A, 16]."""
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(12, AU_COUNT, 16, generator=random, dtype=torch.float64), dim=-1)


def test_the_contrast_is_lower_for_matching_than_for_shuffled_pairs() -> None:
    face = 10 * random_views()
    near = F.normalize(random_views() + 0.5 * random_views(seed=1), dim=-1)
    matching, shuffled = (contrast_loss(face, each, NONE_EXCLUDED) for each in (near, near.roll(1, 0)))
    assert matching < 0.5 * math.log(12) < math.log(12) < shuffled


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_contrast_is_symmetric_infonce(scale: float) -> None:
    """For two opposite, perfectly matching faces it is -log(e^s / (e^s + e^-s))."""
    faces = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)[:, None].expand(-1, AU_COUNT, -1)
    loss = contrast_loss(scale * faces, faces, NONE_EXCLUDED[:2, :2])
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2 * scale)))
    one, other = random_views(), random_views(seed=1)
    assert_close(contrast_loss(one, other, NONE_EXCLUDED), contrast_loss(other, one, NONE_EXCLUDED))
    assert contrast_loss(one[:1], other[:1], NONE_EXCLUDED[:1, :1]).item() == 0


def test_excluded_pairs_are_no_negatives() -> None:
    """Two frames that are excluded from each other in all AUs leave the loss of the other frames alone."""
    one, other = random_views(), random_views(seed=1)
    excluded = NONE_EXCLUDED.clone()
    excluded[0, 1] = excluded[1, 0] = True
    expected = 0.0
    for row in range(12):
        negatives = [j for j in range(12) if j != row and {row, j} != {0, 1}]
        for a in range(AU_COUNT):
            for anchors, keys in ((one, other), (other, one)):
                logits = torch.stack([anchors[row, a] @ keys[j, a] for j in [row, *negatives]])
                expected += -logits.log_softmax(0)[0].item() / (2 * 12 * AU_COUNT)
    assert contrast_loss(one, other, excluded).item() == pytest.approx(expected)
    assert contrast_loss(one, other, torch.ones_like(excluded)).item() == 0, "without any negative"


def test_the_scale_of_the_contrast_is_bounded(alignment: GranularityAlignment) -> None:
    alignment.contrast.raw_scale.data.fill_(1e6)
    out = alignment(*tokens())
    faces, _ = alignment.contrast(out.face, out.local)
    assert faces.norm(dim=-1).max().item() == pytest.approx(MAX_CONTRAST_SCALE)
