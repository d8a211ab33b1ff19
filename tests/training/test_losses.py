"""Losses count each known label, ignore missing ones, and are never NaN."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auscan.training.config import LossConfig
from auscan.training.losses import Criterion, asymmetric, bce, positive_weights, soft_f1

EVERY = LossConfig(bce=1, asymmetric=1, soft_f1=1, alignment=1)
ONES = torch.ones(12)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    """Labels of 1, 0 and -1."""
    return torch.randint(-1, 2, (2, 5, 12), generator=torch.Generator().manual_seed(1)).to(torch.int8)


def test_a_window_without_a_label_has_zero_loss_and_zero_gradient(logits: Tensor) -> None:
    """With -1 as a target, cross-entropy is negative and then NaN (pitfalls 3 and 12 of the protocol)."""
    views = (torch.zeros(0, 4), torch.zeros(0, 4))
    losses = Criterion(EVERY, ONES)(logits, torch.full((2, 5, 12), -1, dtype=torch.int8), views)
    losses.total.backward()
    assert losses.total.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_logits_without_a_label_have_no_gradient(logits: Tensor, labels: Tensor) -> None:
    Criterion(EVERY, ONES)(logits, labels, None).total.backward()
    assert logits.grad is not None
    assert not logits.grad[labels < 0].any()
    assert logits.grad[labels >= 0].all()


def test_bce_is_torchs_over_the_known_labels(logits: Tensor, labels: Tensor) -> None:
    known = labels >= 0
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    torch.testing.assert_close(bce(logits, labels, ONES), expected)


def test_only_positives_are_weighted(logits: Tensor, labels: Tensor) -> None:
    """As the first argument of torch's loss the weight would scale both classes, an error in two challenge
    entries.
    """
    plain, weighed = bce(logits, labels, ONES), bce(logits, labels, 3 * ONES)
    positive = labels == 1
    extra = 2 * -F.logsigmoid(logits[positive]).sum() / (labels >= 0).sum()
    torch.testing.assert_close(weighed, plain + extra)


def test_the_asymmetric_loss_with_exponents_of_0_is_bce(logits: Tensor, labels: Tensor) -> None:
    torch.testing.assert_close(asymmetric(logits, labels, 0.0, 0.0, 0.0), bce(logits, labels, ONES))


def test_the_asymmetric_loss_agrees_with_its_formula() -> None:
    logit, p = torch.tensor([[0.3]]), torch.sigmoid(torch.tensor(0.3))
    positive = asymmetric(logit, torch.tensor([[1]]), 1.0, 4.0, 0.05)
    torch.testing.assert_close(positive, -(1 - p) * torch.log(p))
    negative = asymmetric(logit, torch.tensor([[0]]), 1.0, 4.0, 0.05)
    torch.testing.assert_close(negative, -((p - 0.05) ** 4) * torch.log(1 - p + 0.05))


def test_easy_negatives_have_no_loss_and_stay_finite() -> None:
    logit = torch.tensor([[-9.0, -99.0, 99.0]], requires_grad=True)
    loss = asymmetric(logit, torch.tensor([[0, 0, 0]]), 0.0, 4.0, 0.05)
    loss.backward()
    assert logit.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logit.grad).all()
    assert logit.grad[0, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_have_the_losses_of_float32(dtype: torch.dtype) -> None:
    """Sums over 100,000 frames exceed float16, and its 1e-8 is 0."""
    logits = 20 * torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = (torch.rand(100_000, 2, generator=torch.Generator().manual_seed(1)) < 0.5).to(torch.int8)
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: bce(x, labels, torch.ones(2)),
        lambda x: asymmetric(x, labels, 0.5, 0.5, 0.05),
        lambda x: soft_f1(x, labels),
    ]
    for loss_of in losses:
        half, wide = logits.clone().requires_grad_(), logits.float().requires_grad_()
        value, expected = loss_of(half), loss_of(wide)
        torch.testing.assert_close(value, expected)
        value.backward()
        assert half.grad is not None
        assert half.grad.isfinite().all()


def test_soft_f1_of_certain_predictions_is_f1() -> None:
    """AU 0: one true positive, one false positive, one miss: F1 0.5. AU 1 has no positive."""
    labels = torch.tensor([[1, 0], [0, 0], [1, 0], [-1, -1]])
    logits = torch.tensor([[99.0, 99.0], [99.0, 0.0], [-99.0, 0.0], [99.0, 99.0]])
    torch.testing.assert_close(soft_f1(logits, labels), torch.tensor(0.5))


def test_weights_of_positives_are_capped_both_ways() -> None:
    positives, negatives = torch.tensor([10, 1, 0, 90]), torch.tensor([30, 900, 50, 1])
    assert positive_weights(positives, negatives, 5.0).tolist() == pytest.approx([3.0, 5.0, 5.0, 0.2])


def test_the_weights_of_the_losses_are_those_of_the_config(logits: Tensor, labels: Tensor) -> None:
    views = (F.normalize(torch.randn(6, 4), dim=-1), F.normalize(torch.randn(6, 4), dim=-1))
    config = LossConfig(bce=2.0, asymmetric=0.0, soft_f1=0.5, alignment=0.1)
    losses = Criterion(config, ONES)(logits, labels, views)
    terms = losses.terms
    assert set(terms) == {"bce", "soft_f1", "alignment"}
    mixed = 2.0 * terms["bce"] + 0.5 * terms["soft_f1"] + 0.1 * terms["alignment"]
    torch.testing.assert_close(losses.total, mixed)
    assert set(Criterion(config, ONES)(logits, labels, None).terms) == {"bce", "soft_f1"}


def test_without_any_face_the_views_still_have_a_gradient(logits: Tensor, labels: Tensor) -> None:
    """The gradient is 0; without one the other processes would wait for it."""
    empty = torch.zeros(0, 4, requires_grad=True)
    losses = Criterion(LossConfig(alignment=0.1), ONES)(logits, labels, (empty, empty))
    assert losses.terms["alignment"].item() == 0
    losses.total.backward()
    assert empty.grad is not None
