"""Losses count each known label, ignore missing ones, and are never NaN."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auscan.core.aus import AFFWILD2_AUS
from auscan.training.config import LossConfig
from auscan.training.losses import (
    Criterion,
    Predictions,
    Views,
    asymmetric,
    bce,
    contrast,
    cover_loss,
    intensity_loss,
    opening_loss,
    positive_weights,
    soft_f1,
)

EVERY = LossConfig(bce=1, asymmetric=1, soft_f1=1, alignment=1)
ONES = torch.ones(12)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    """Labels of 1, 0 and -1."""
    return torch.randint(-1, 2, (2, 5, 12), generator=torch.Generator().manual_seed(1)).to(torch.int8)


def predictions(
    logits: Tensor, labels: Tensor, views: Views | None = None, covers: Tensor | None = None
) -> Predictions:
    """Return predictions with gates and openings of 0, without sound and without intensities."""
    shape, unknown = logits.shape, torch.full_like(labels, -1)
    return Predictions(
        logits=logits,
        labels=labels,
        gate_logits=torch.zeros(shape),
        covers=unknown if covers is None else covers,
        opening=torch.zeros(*shape[:-1], 2),
        own_audio=torch.zeros(shape[:-1], dtype=torch.bool),
        intensity_logits=None,
        intensities=torch.full(shape, torch.nan),
        views=views,
    )


def views_of(faces: Tensor, regions: Tensor) -> Views:
    """Return views of frames of different tracks without labels."""
    numbers = torch.arange(len(faces))
    unknown = torch.full((len(faces), 12), -1, dtype=torch.int8)
    return Views(faces, regions, numbers, numbers.double(), unknown)


def test_a_window_without_a_label_has_zero_loss_and_zero_gradient(logits: Tensor) -> None:
    """With -1 as a target, cross-entropy is negative and then NaN (pitfalls 3 and 12 of the protocol)."""
    views = views_of(torch.zeros(0, 12, 4), torch.zeros(0, 12, 4))
    unknown = torch.full((2, 5, 12), -1, dtype=torch.int8)
    losses = Criterion(EVERY, ONES, AFFWILD2_AUS)(predictions(logits, unknown, views))
    losses.total.backward()
    assert losses.total.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_logits_without_a_label_have_no_gradient(logits: Tensor, labels: Tensor) -> None:
    Criterion(EVERY, ONES, AFFWILD2_AUS)(predictions(logits, labels)).total.backward()
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
    views = views_of(*(F.normalize(torch.randn(6, 12, 4), dim=-1) for _ in range(2)))
    config = LossConfig(bce=2.0, asymmetric=0.0, soft_f1=0.5, alignment=0.1, covers=0.3)
    covers = torch.ones_like(labels)
    losses = Criterion(config, ONES, AFFWILD2_AUS)(predictions(logits, labels, views, covers))
    terms = losses.terms
    assert set(terms) == {"bce", "soft_f1", "alignment", "covers", "opening"}
    mixed = 2.0 * terms["bce"] + 0.5 * terms["soft_f1"] + 0.1 * terms["alignment"]
    torch.testing.assert_close(losses.total, mixed + 0.3 * terms["covers"] + terms["opening"])
    config = LossConfig(covers=0.0)
    assert set(Criterion(config, ONES, AFFWILD2_AUS)(predictions(logits, labels)).terms) == {
        "bce",
        "soft_f1",
        "opening",
    }


def test_frames_within_a_second_or_with_equal_labels_are_no_negatives() -> None:
    random = torch.Generator().manual_seed(2)
    faces, regions = (F.normalize(torch.randn(3, 12, 4, generator=random), dim=-1) for _ in range(2))
    track, time_s = torch.tensor([7, 7, 8]), torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    labels = torch.full((3, 12), -1, dtype=torch.int8)
    near = Views(faces, regions, track, time_s, labels)
    moved = near._replace(time_s=torch.tensor([0.0, 1.1, 0.5], dtype=torch.float64))
    assert contrast(near) < contrast(moved), "frames 0 and 1 are negatives only if they are further apart"
    equal, different = labels.clone(), labels.clone()
    equal[[0, 2]], different[0], different[2] = 1, 1, 0
    assert contrast(near._replace(labels=equal)) != contrast(near)
    torch.testing.assert_close(contrast(near._replace(labels=different)), contrast(near))


def test_covered_regions_close_their_gates_and_weigh_as_much_as_visible_ones() -> None:
    gate_logits = torch.zeros(4, 12, requires_grad=True)
    covers = torch.full((4, 12), -1, dtype=torch.int8)
    covers[0, 3], covers[1:, 3] = 1, 0
    cover_loss(gate_logits, covers).backward()
    assert gate_logits.grad is not None
    assert gate_logits.grad[0, 3].item() == pytest.approx(0.25), "down"
    assert gate_logits.grad[1:, 3].sum().item() == pytest.approx(-0.25), "up"
    gate_logits.grad[:, 3] = 0
    assert not gate_logits.grad.any(), "unknown"


def test_the_opening_is_that_of_au25_or_au26_and_needs_the_own_voice() -> None:
    labels = torch.tensor([[1, 0], [0, 0], [-1, 1], [-1, -1]], dtype=torch.int8)
    own_audio = torch.tensor([True, True, False, True])
    right = torch.tensor([[9.0, 9.0], [-9.0, -9.0], [9.0, -9.0], [-9.0, 9.0]])
    assert opening_loss(right, labels, own_audio) < 1e-3
    assert opening_loss(-right, labels, own_audio) > 8


@pytest.mark.parametrize(
    ("au_names", "columns"),
    [(("AU01", "AU25"), [1]), (("AU26", "AU45", "AU25"), [0, 2]), (("AU01", "AU12"), [])],
)
def test_the_opening_uses_the_mouth_aus_that_are_trained_or_is_left_out(
    au_names: tuple[str, ...], columns: list[int]
) -> None:
    count = len(au_names)
    labels = torch.randint(-1, 2, (7, count), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    inputs = predictions(torch.zeros(7, count), labels)
    terms = Criterion(LossConfig(), torch.ones(count), au_names)(inputs).terms
    if not columns:
        assert "opening" not in terms
        return
    torch.testing.assert_close(
        terms["opening"], opening_loss(inputs.opening, labels[:, columns], inputs.own_audio)
    )


def test_the_intensity_loss_is_least_at_the_mean_intensity_and_ignores_unknown_ones() -> None:
    truth = torch.tensor([[1.0, torch.nan], [4.0, torch.nan]])
    logits = torch.tensor([[math.log(1.0), 3.0]] * 2, requires_grad=True)  # an intensity of 2.5, the mean
    intensity_loss(logits, truth).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(2))
    assert intensity_loss(torch.zeros(2, 2), torch.full((2, 2), torch.nan)) == 0
    inputs = predictions(torch.zeros(2, 12), torch.zeros(2, 12, dtype=torch.int8))
    assert "intensity" not in Criterion(LossConfig(), ONES, AFFWILD2_AUS)(inputs).terms
    known = inputs._replace(intensity_logits=torch.zeros(2, 12), intensities=torch.full((2, 12), 2.5))
    terms = Criterion(LossConfig(), ONES, AFFWILD2_AUS)(known).terms
    assert terms["intensity"].item() == pytest.approx(math.log(2))
    assert "intensity" not in Criterion(LossConfig(intensity=0), ONES, AFFWILD2_AUS)(known).terms


def test_without_any_face_the_views_still_have_a_gradient(logits: Tensor, labels: Tensor) -> None:
    """The gradient is 0; without one the other processes would wait for it."""
    empty = torch.zeros(0, 12, 4, requires_grad=True)
    losses = Criterion(LossConfig(alignment=0.1), ONES, AFFWILD2_AUS)(
        predictions(logits, labels, views_of(empty, empty))
    )
    assert losses.terms["alignment"].item() == 0
    losses.total.backward()
    assert empty.grad is not None


def test_label_smoothing_moves_both_targets_by_the_same_probability() -> None:
    logits = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(-1, 2, (7, 12), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    known = labels >= 0
    target = torch.where(labels == 1, 0.9, 0.1)[known]
    expected = F.binary_cross_entropy_with_logits(logits[known], target)
    torch.testing.assert_close(bce(logits, labels, torch.ones(12), 0.1), expected)
    config = LossConfig(soft_f1=0, label_smoothing=0.1)
    losses = Criterion(config, torch.ones(12), AFFWILD2_AUS)(predictions(logits, labels))
    torch.testing.assert_close(losses.terms["bce"], expected)
