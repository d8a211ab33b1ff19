"""Compute the training losses, label by label, over labelled frames only.

    bce          binary cross-entropy with weighted positives
    asymmetric   loss that discounts easy negatives (Ridnik et al. 2021)
    soft_f1      1 minus the F1 of probabilities in place of decisions, over the batch
    alignment    contrastive loss: a face should match its own regions (model/alignment.py)
    covers       binary cross-entropy of the gates, where it is known what covers a region
    intensity    binary cross-entropy of intensities as shares of the largest, where they are known
    opening      binary cross-entropy of the opening of the mouth, from the picture and from the sound; only
                 if an AU of `MOUTH_AUS` is trained

Inputs: `Predictions`, among them logits and labels of 1, 0 and -1. Returns: scalars, computed in float32 at
least, because sums over a batch and limits such as 1e-8 do not fit half precision; without any label exactly
0, never NaN.
See also: config.py (`LossConfig`, their weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from auscan.core.config import MAX_INTENSITY
from auscan.model.alignment import contrast_loss
from auscan.training.config import LossConfig

SAME_STATE_S = 1.0
"""Largest distance of two frames of a track that are too similar to be negatives in the contrast, seconds."""
MOUTH_AUS = ("AU25", "AU26")
"""AUs that open the mouth."""
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


class Views(NamedTuple):
    """Faces and regions of V frames for the contrast."""

    faces: Tensor
    """[V, A, d], see `RegionContrast`."""
    regions: Tensor
    """[V, A, d]."""
    track: Tensor
    """Number of the frame's track [V] int64, the same in all processes."""
    time_s: Tensor
    """[V] float64."""
    labels: Tensor
    """[V, A] int8."""


class Predictions(NamedTuple):
    """Predictions of the network for frames [B, T] or [F], and what they are compared with."""

    logits: Tensor
    """[..., A]."""
    labels: Tensor
    """[..., A] int8; -1 for frames without a face."""
    gate_logits: Tensor | None
    """Gates before the sigmoid [..., A]; None without regions."""
    covers: Tensor
    """[..., A] int8: 1 region covered, 0 visible, -1 unknown."""
    opening: Tensor
    """Logits of the opening of the mouth [..., 2]: from the picture, from the sound."""
    own_audio: Tensor
    """[...] bool; False for frames without audio or with the audio of someone else."""
    intensity_logits: Tensor | None
    """[..., A] logits of intensities as shares of the largest; None for a network without intensities."""
    intensities: Tensor
    """[..., A] 0 to 5; NaN if unknown and for frames without a face."""
    views: Views | None
    """None without regions or without a contrast."""


def contrast(views: Views) -> Tensor:
    """Contrast of faces and regions. Frames of one track within `SAME_STATE_S`, and frames with the same
    label of an AU, are not negatives of each other.
    """
    if not len(views.faces):  # without any face: 0, with a gradient
        return _widen(views.faces.sum() + views.regions.sum())
    same_track = views.track[:, None] == views.track  # [V, V]
    near = same_track & ((views.time_s[:, None] - views.time_s).abs() <= SAME_STATE_S)
    same_label = (views.labels[:, None] == views.labels) & (views.labels >= 0)  # [V, V, A]
    return contrast_loss(views.faces, views.regions, near[..., None] | same_label)


def cover_loss(gate_logits: Tensor, covers: Tensor) -> Tensor:
    """Binary cross-entropy of the gates [..., A], where it is known whether a region is covered.

    Covered and visible regions weigh the same, however rare covers are; the gate of a covered region has the
    target 0.
    """
    logits = _widen(gate_logits)
    loss = F.binary_cross_entropy_with_logits(logits, (covers == 0).to(logits.dtype), reduction="none")
    return (_mean(loss, covers == 0) + _mean(loss, covers == 1)) / 2


def opening_loss(opening: Tensor, mouth_labels: Tensor, own_audio: Tensor) -> Tensor:
    """Binary cross-entropy of the opening [..., 2] predicted from the picture and from the sound.

    mouth_labels: labels [..., M] of the AUs in `MOUTH_AUS`; the mouth counts as open if one of them is active
    Frames without their own sound train the picture's prediction alone.
    """
    logits = _widen(opening)
    is_open = mouth_labels.amax(-1, keepdim=True)  # [..., 1]; -1: no AU has a label
    target = (is_open == 1).to(logits.dtype).expand_as(logits)
    counted = (is_open >= 0) & torch.stack([torch.ones_like(own_audio), own_audio], dim=-1)  # [..., 2]
    return _mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), counted)


def intensity_loss(intensity_logits: Tensor, intensities: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known intensities; least if the estimate is the mean intensity."""
    logits, known = _widen(intensity_logits), ~intensities.isnan()
    target = (intensities.to(logits.dtype) / MAX_INTENSITY).nan_to_num(0.0)
    return _mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), known)


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of one step."""

    total: Tensor
    """Scalar, the weighted sum."""
    terms: dict[str, Tensor]
    """Unweighted scalars without gradient; only the terms in use."""


class Criterion:
    """Weighted sum of losses selected by the config."""

    def __init__(self, config: LossConfig, positive_weight: Tensor, au_names: Sequence[str]) -> None:
        """positive_weight: [A], from `positive_weights`; au_names: [A]."""
        self.config, self.positive_weight = config, positive_weight
        self.mouth = [j for j, name in enumerate(au_names) if name in MOUTH_AUS]

    def __call__(self, predictions: Predictions) -> Losses:
        """Compute the losses of all frames."""
        config, labels = self.config, predictions.labels
        logits = _widen(predictions.logits)
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.mouth:
            opening = opening_loss(predictions.opening, labels[..., self.mouth], predictions.own_audio)
            terms["opening"] = 1.0, opening
        if config.bce:
            positive_weight = self.positive_weight.to(logits.device)
            terms["bce"] = config.bce, bce(logits, labels, positive_weight, config.label_smoothing)
        if config.asymmetric:
            gammas = (config.gamma_positive, config.gamma_negative, config.margin)
            terms["asymmetric"] = config.asymmetric, asymmetric(logits, labels, *gammas)
        if config.soft_f1:
            terms["soft_f1"] = config.soft_f1, soft_f1(logits, labels)
        if config.alignment and predictions.views is not None:
            terms["alignment"] = config.alignment, contrast(predictions.views)
        if config.covers and predictions.gate_logits is not None:
            terms["covers"] = config.covers, cover_loss(predictions.gate_logits, predictions.covers)
        if config.intensity and predictions.intensity_logits is not None:
            loss = intensity_loss(predictions.intensity_logits, predictions.intensities)
            terms["intensity"] = config.intensity, loss
        total = logits.sum() * 0.0  # has a gradient even if no loss is in use
        for weight, loss in terms.values():
            total = total + weight * loss
        return Losses(total, {name: loss.detach() for name, (_, loss) in terms.items()})


def _widen(values: Tensor) -> Tensor:
    """Return the values in float32, or float64 if they already are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted values; 0 if there is none."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp_min(1)
