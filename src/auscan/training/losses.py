"""Compute the training losses, label by label, over labelled frames only.

    bce          binary cross-entropy with weighted positives
    asymmetric   loss that discounts easy negatives (Ridnik et al. 2021)
    soft_f1      1 minus the F1 of probabilities in place of decisions, over the batch
    alignment    contrastive loss: a face should match its own regions (model/alignment.py)

Inputs: logits [..., A] and labels [..., A] of 1, 0 and -1. Returns: scalars, computed in float32 at least,
because sums over a batch and limits such as 1e-8 do not fit half precision; without any label exactly 0,
never NaN.
See also: config.py (`LossConfig`, their weights).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from auscan.model.alignment import alignment_loss
from auscan.training.config import LossConfig

MIN_POSITIVES = 1.0
"""Positives assumed for an AU that has none, so that its weight is finite."""


def bce(logits: Tensor, labels: Tensor, positive_weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean binary cross-entropy over the known labels; a positive of AU a has weight positive_weight[a].

    smoothing: probability of the wrong label in the targets (label smoothing)
    """
    logits = _widen(logits)
    known = labels >= 0
    target = labels.clamp_min(0).to(logits.dtype)
    target = target * (1.0 - 2.0 * smoothing) + smoothing
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=positive_weight, reduction="none")
    return _mean(loss, known)


def asymmetric(
    logits: Tensor, labels: Tensor, gamma_positive: float, gamma_negative: float, margin: float
) -> Tensor:
    """Mean focal loss over the known labels, with separate exponents for positives and negatives.

    margin: subtracted from the probability of negatives, so that easy negatives have no loss
    """
    logits = _widen(logits)
    known = labels >= 0
    positive = labels == 1
    signed = torch.where(positive, logits, -logits)  # logit of the correct class
    # log(1 - max(p - margin, 0)) for negatives; p is the probability of the wrong class
    p_wrong = torch.sigmoid(-signed)
    shifted = (p_wrong - margin).clamp_min(0.0)
    log_right = torch.where(positive, F.logsigmoid(signed), torch.log1p(-shifted.clamp_max(1.0 - 1e-6)))
    wrong = torch.where(positive, p_wrong, shifted)
    # A base of 0 has no finite gradient for exponents below 1; with exponent 0 the weight is 1 anyway.
    base = wrong.clamp_min(1e-8)
    weight = torch.where(positive, base**gamma_positive, base**gamma_negative)
    return _mean(-weight * log_right, known)


def soft_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus the F1 of probabilities, averaged over the AUs with a positive label; 0 without any."""
    logits = _widen(logits)
    known = (labels >= 0).flatten(0, -2)
    truth = (labels == 1).flatten(0, -2).to(logits.dtype)
    probabilities = torch.sigmoid(logits).flatten(0, -2) * known  # [F, A]
    true_positives = (probabilities * truth).sum(0)
    f1 = 2 * true_positives / (probabilities.sum(0) + truth.sum(0)).clamp_min(1e-6)  # [A]
    return _mean(1.0 - f1, truth.any(0))


def positive_weights(positives: Tensor, negatives: Tensor, cap: float) -> Tensor:
    """Negatives over positives, clipped to the range 1 / cap to cap: [A], [A] -> [A]."""
    ratio = negatives.double() / positives.double().clamp_min(MIN_POSITIVES)
    return ratio.clamp(1.0 / cap, cap).float()


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of one step."""

    total: Tensor
    """Scalar, the weighted sum."""
    terms: dict[str, Tensor]
    """Unweighted scalars without gradient; only the terms in use."""


class Criterion:
    """Weighted sum of losses selected by the config."""

    def __init__(self, config: LossConfig, positive_weight: Tensor) -> None:
        """positive_weight: [A], from `positive_weights`."""
        self.config, self.positive_weight = config, positive_weight

    def __call__(self, logits: Tensor, labels: Tensor, views: tuple[Tensor, Tensor] | None) -> Losses:
        """logits [..., A], labels [..., A]; views: two tensors [F, d] for the alignment loss, or None."""
        config, logits_f32 = self.config, _widen(logits)
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.bce:
            positive_weight = self.positive_weight.to(logits_f32.device)
            terms["bce"] = config.bce, bce(logits_f32, labels, positive_weight, config.label_smoothing)
        if config.asymmetric:
            gammas = (config.gamma_positive, config.gamma_negative, config.margin)
            terms["asymmetric"] = config.asymmetric, asymmetric(logits_f32, labels, *gammas)
        if config.soft_f1:
            terms["soft_f1"] = config.soft_f1, soft_f1(logits_f32, labels)
        if config.alignment and views is not None:
            face, regions = views
            # Without any face: 0, with a gradient.
            loss = alignment_loss(face, regions) if len(face) else _widen(face.sum() + regions.sum())
            terms["alignment"] = config.alignment, loss
        total = logits_f32.sum() * 0.0  # has a gradient even if no loss is in use
        for weight, loss in terms.values():
            total = total + weight * loss
        return Losses(total, {name: loss.detach() for name, (_, loss) in terms.items()})


def _widen(values: Tensor) -> Tensor:
    """Return the values in float32, or float64 if they already are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted values; 0 if there is none."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp_min(1)
