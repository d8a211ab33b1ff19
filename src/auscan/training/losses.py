"""What the network is told about its errors: element by element, and only where there is a label.

    bce          binary cross-entropy, positives weighed
    asymmetric   easy negatives hardly count (Ridnik et al. 2021)
    soft_f1      1 minus F1 with probabilities in place of decisions, over the batch
    alignment    the whole face should find its own regions (model/alignment.py)

In: logits [..., A] and labels [..., A] of 1, 0 and -1.  Out: scalars; without any label exactly 0, never NaN.
Which of them count how much is the config's affair.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from auscan.model.alignment import alignment_loss
from auscan.training.config import LossConfig

MIN_POSITIVES = 1.0
"""Stands in for the positives of an AU that has none, so that its weight is finite."""


def bce(logits: Tensor, labels: Tensor, positive_weight: Tensor) -> Tensor:
    """Mean binary cross-entropy over the labels there are; a positive of AU a weighs positive_weight[a]."""
    known = labels >= 0
    target = labels.clamp_min(0).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=positive_weight, reduction="none")
    return _mean(loss, known)


def asymmetric(
    logits: Tensor, labels: Tensor, gamma_positive: float, gamma_negative: float, margin: float
) -> Tensor:
    """Mean focal loss over the labels there are, with a power of its own for each side.

    margin: this much is taken off the probability of negatives, so that easy ones count nothing at all
    """
    known = labels >= 0
    positive = labels == 1
    signed = torch.where(positive, logits, -logits)  # logit of the right answer
    # log(1 - max(p - margin, 0)) for negatives; with p the probability of being wrong
    p_wrong = torch.sigmoid(-signed)
    shifted = (p_wrong - margin).clamp_min(0.0)
    log_right = torch.where(positive, F.logsigmoid(signed), torch.log1p(-shifted.clamp_max(1.0 - 1e-6)))
    wrong = torch.where(positive, p_wrong, shifted)
    # A base of 0 has no gradient under a power below 1; a power of 0 is 1 anyway.
    base = wrong.clamp_min(1e-8)
    weight = torch.where(positive, base**gamma_positive, base**gamma_negative)
    return _mean(-weight * log_right, known)


def soft_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus F1 of probabilities, meaned over the AUs that have a positive label here; 0 where none has."""
    known = (labels >= 0).flatten(0, -2)
    truth = (labels == 1).flatten(0, -2).to(logits.dtype)
    probabilities = torch.sigmoid(logits).flatten(0, -2) * known  # [F, A]
    true_positives = (probabilities * truth).sum(0)
    f1 = 2 * true_positives / (probabilities.sum(0) + truth.sum(0)).clamp_min(1e-6)  # [A]
    return _mean(1.0 - f1, truth.any(0))


def positive_weights(positives: Tensor, negatives: Tensor, cap: float) -> Tensor:
    """Negatives over positives, at least 1 over the cap and at most the cap: [A], [A] -> [A]."""
    ratio = negatives.double() / positives.double().clamp_min(MIN_POSITIVES)
    return ratio.clamp(1.0 / cap, cap).float()


@dataclass(frozen=True, eq=False)
class Losses:
    """One step's losses."""

    total: Tensor
    """Scalar, weighed."""
    terms: dict[str, Tensor]
    """Scalars without gradient, not weighed; only those that count."""


class Criterion:
    """The mixture that the config asks for."""

    def __init__(self, config: LossConfig, positive_weight: Tensor) -> None:
        """positive_weight: [A], from `positive_weights`."""
        self.config, self.positive_weight = config, positive_weight

    def __call__(self, logits: Tensor, labels: Tensor, views: tuple[Tensor, Tensor] | None) -> Losses:
        """logits [..., A], labels [..., A]; views: two of [F, d] for the alignment loss, or None."""
        config, logits_f32 = self.config, logits.float()
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.bce:
            terms["bce"] = config.bce, bce(logits_f32, labels, self.positive_weight.to(logits_f32.device))
        if config.asymmetric:
            gammas = (config.gamma_positive, config.gamma_negative, config.margin)
            terms["asymmetric"] = config.asymmetric, asymmetric(logits_f32, labels, *gammas)
        if config.soft_f1:
            terms["soft_f1"] = config.soft_f1, soft_f1(logits_f32, labels)
        if config.alignment and views is not None:
            face, regions = (view.float() for view in views)
            # Without any face, 0 with a gradient.
            loss = alignment_loss(face, regions) if len(face) else face.sum() + regions.sum()
            terms["alignment"] = config.alignment, loss
        total = logits_f32.sum() * 0.0  # has a gradient, also where no loss counts
        for weight, loss in terms.values():
            total = total + weight * loss
        return Losses(total, {name: loss.detach() for name, (_, loss) in terms.items()})


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over what counts; 0 where nothing does."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp_min(1)
