"""Train stage 2 of nano: audio encoder, fusion, scan and AU head on clips with audio and on single faces.

Single faces stay in training as clips of one frame, so that the network does not overfit to the thirty people
in clips. Modality dropout: a share of the windows loses its audio or gets another clip's.

The number of steps and the rates were chosen by the development scores: agreement with the teacher on
held-out development clips, with the mouth free and covered. The clips of real_clips.HELD_OUT are for
benchmarks only.

Inputs: the network after stage 1, tracks, faces.
Returns: a file of averaged weights in the run folder, and the development scores.
See also: clip_windows.py (windows and settings), face_stage.py (stage 1).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import TOKEN_HOP
from auscan.model.fusion import audio_at_frames
from auscan.model.network import AudioInput, AuscanNetwork
from recipes.nano.data.real_clips import DEVELOPMENT, ClipTrack
from recipes.nano.data.real_faces import Faces
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.clip_windows import (
    ClipSettings,
    ClipWindows,
    CropFeatures,
    encode_audio,
    encode_crops,
    occlude_mouth,
    token_offsets_s,
)
from recipes.nano.train.face_stage import log, parameter_groups, resume, save, warmup_cosine

MOUTH_AUS = ("AU25", "AU26")
"""AUs that audio can predict."""
LOGIT_SCALE = 1.6
"""Approximate factor of calibration on logits; labels are sharper than soft targets."""
MIN_PROBABILITY = 1e-5
"""Lower bound on soft targets before the logit; the upper bound is 1 minus it."""
MIN_SPREAD = 0.05
"""Minimum standard deviation of the soft targets for a correlation."""


@dataclass(frozen=True)
class DevelopmentTrack:
    """A development track with features of its crops, clean and with the mouth covered."""

    track: ClipTrack
    free: CropFeatures
    covered: CropFeatures


def development_tracks(network: AuscanNetwork, tracks: list[ClipTrack]) -> list[DevelopmentTrack]:
    """Return the tracks of DEVELOPMENT that have labels."""
    kept = []
    for track in tracks:
        if track.clip in DEVELOPMENT and (track.labels >= 0).any():
            hidden = occlude_mouth(track, np.random.default_rng(0))
            kept.append(
                DevelopmentTrack(
                    track, encode_crops(network, track.crops, True), encode_crops(network, hidden, True)
                )
            )
    return kept


@torch.no_grad()
def track_logits(
    network: AuscanNetwork, track: ClipTrack, features: CropFeatures, source: ClipTrack | None
) -> NDArray[np.float32]:
    """Compute logits [T, A] of a whole track with its own audio, another track's, or none."""
    audio = None
    if source is not None and len(source.sound) >= TOKEN_HOP:
        tokens = network.audio(torch.from_numpy(source.sound)[None])
        count = tokens.shape[1]
        times_s = source.sound_start_s + token_offsets_s(count)
        audio = AudioInput(tokens, times_s[None], torch.ones(1, count, dtype=torch.bool))
    frames_s = torch.from_numpy(track.times_s)
    logits = network.temporal.forward_long(features.embedding, features.au_tokens, frames_s, audio).logits
    out: NDArray[np.float32] = logits.numpy()
    return out


def development_scores(network: AuscanNetwork, kept: list[DevelopmentTrack]) -> dict[str, float]:
    """Compute agreement with the teacher on the development clips.

    clip_auc: pooled AUC.  within: mean correlation within a clip of probability and teacher score.
    heard_own, heard_none, heard_other: pooled AUC of AU25 and AU26 with the mouth covered, and with the
    clip's own audio, none, or another clip's.  AU06 is left out, because it has no teacher score.
    """
    network.eval()
    labels = np.concatenate([each.track.labels for each in kept])
    free = [track_logits(network, each.track, each.free, each.track) for each in kept]
    names = network.config.au_names
    direct = [j for j, name in enumerate(names) if name != "AU06"]
    mouth = [j for j, name in enumerate(names) if name in MOUTH_AUS]
    scores = {
        "clip_auc": mean_auc(labels, np.concatenate(free), direct),
        "within": within_clip_correlation(kept, free, names),
    }
    others = [kept[k - 1].track for k in range(len(kept))]
    for name, sources in (("own", [k.track for k in kept]), ("none", [None] * len(kept)), ("other", others)):
        logits = [
            track_logits(network, each.track, each.covered, source)
            for each, source in zip(kept, sources, strict=True)
        ]
        scores[f"heard_{name}"] = mean_auc(labels, np.concatenate(logits), mouth)
    return scores


def mean_auc(labels: NDArray[np.int8], logits: NDArray[np.float32], columns: list[int]) -> float:
    """Compute the mean ROC-AUC over the columns in which both classes occur."""
    aucs = []
    for column in columns:
        known = labels[:, column] >= 0
        if known.any() and 0 < labels[known, column].mean() < 1:
            aucs.append(float(roc_auc_score(labels[known, column], logits[known, column])))
    return float(np.mean(aucs))


def within_clip_correlation(
    kept: list[DevelopmentTrack], logits: list[NDArray[np.float32]], au_names: tuple[str, ...]
) -> float:
    """Compute the mean correlation over the tracks and AUs [A] in which the teacher varies."""
    found = []
    for each, values in zip(kept, logits, strict=True):
        for column, name in enumerate(au_names):
            mine = each.track.labels[:, column] >= 0
            soft = each.track.soft[mine, column]
            if name != "AU06" and mine.sum() > 30 and soft.std() > MIN_SPREAD:
                score = logit(np.clip(soft, MIN_PROBABILITY, 1 - MIN_PROBABILITY))
                found.append(np.corrcoef(score, expit(LOGIT_SCALE * values[mine, column]))[0, 1])
    return float(np.mean(found))


def masked_bce(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy over annotated labels; 0 if there are none."""
    known = labels >= 0
    target = 0.5 * soft + 0.5 * labels.clamp_min(0)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known
    return loss.sum() / known.sum().clamp_min(1)


def correlation_loss(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """Compute the mean of 1 - correlation between probability and teacher score within a window.

    Logits are scaled by LOGIT_SCALE, as calibration does; the teacher score is the logit of the soft target.
    The mean is over the windows and AUs in which the teacher varies; 0 if there are none.
    logits, labels, soft: [B, T, A].
    """
    known = (labels >= 0).to(logits.dtype)
    count = known.sum(dim=1, keepdim=True).clamp_min(1)  # [B, 1, A]

    def centred(x: Tensor) -> Tensor:
        return (x - (x * known).sum(dim=1, keepdim=True) / count) * known

    soft = soft.to(logits.dtype)
    predicted, target = centred((LOGIT_SCALE * logits).sigmoid()), centred(torch.logit(soft, MIN_PROBABILITY))
    spread = (centred(soft).square().sum(dim=1) / count[:, 0]).sqrt()  # [B, A]
    covariance = (predicted * target).sum(dim=1)
    norms = (predicted.square().sum(dim=1) * target.square().sum(dim=1) + 1e-8).sqrt()
    varies = (spread > MIN_SPREAD) & (count[:, 0] > 30)
    return ((1 - covariance / norms) * varies).sum() / varies.sum().clamp_min(1)


def train_clips(
    network: AuscanNetwork,
    tracks: list[ClipTrack],
    rendered_tracks: list[ClipTrack],
    faces: Faces,
    rendered: RenderedArrays | None,
    settings: ClipSettings,
    run: Path,
) -> tuple[Path, dict[str, float]]:
    """Train all parts except the visual stage. Return the file with the averaged weights, and their scores.

    tracks, rendered_tracks: of real and of rendered clips (may be empty).  rendered: rendered faces or None.

    Scan and head train first, without audio; then the audio layers train, with scan and head at a lower rate.
    If all train at once, the network overfits to the thirty faces before it learns from fifteen voices (AUC
    on other clips fell from 0.928 to 0.916). With scan and head frozen it hardly uses the audio.
    """
    torch.manual_seed(settings.seed)
    network.eval()
    network.visual.requires_grad_(False).to(memory_format=torch.channels_last)
    windows = ClipWindows(network, tracks, rendered_tracks, faces, rendered, settings)
    kept = development_tracks(network, tracks)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    )
    audio_head = nn.Linear(network.audio.width, len(network.config.au_names))
    optimizer, schedule = make_optimizer(network, audio_head, settings)
    parts = {"model": network, "voice": audio_head, "averaged": averaged}
    parts |= {"optimizer": optimizer, "schedule": schedule}
    first = resume(run / "clips.pt", parts)
    losses: list[float] = []
    for step in range(first, settings.steps):
        loss = clip_loss(network, audio_head, windows, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*network.parameters(), *audio_head.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % settings.log_every == 0:
            log(
                run / "clips.jsonl",
                step=step + 1,
                loss=float(np.mean(losses)),
                **development_scores(averaged.module, kept),
            )
            save(run / "clips.pt", parts, step + 1)
            losses = []
    weights = run / "clips_averaged.pt"
    torch.save(averaged.module.state_dict(), weights)
    return weights, development_scores(averaged.module, kept)


def make_optimizer(
    network: AuscanNetwork, audio_head: nn.Module, settings: ClipSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Make optimizer and schedules: scan and head train first, then the audio layers.

    The audio conditioning starts at zero output.
    """
    audio_weights, visual_weights = nn.ParameterDict(), nn.ParameterDict()
    for name, weight in network.named_parameters():
        if "audio_condition" in name:
            nn.init.zeros_(weight)
        is_audio = name.startswith(("audio.", "temporal.fusion.")) or "audio_condition" in name
        (audio_weights if is_audio else visual_weights)[name.replace(".", "_")] = weight
    audio_weights["voice"], audio_weights["voice_bias"] = audio_head.parameters()
    audio_steps = settings.steps - settings.steps_without_audio

    def audio_schedule(step: int) -> float:
        step -= settings.steps_without_audio
        return warmup_cosine(step, settings.log_every, audio_steps) * (step >= 0)

    def visual_schedule(step: int) -> float:
        first = warmup_cosine(step, settings.log_every, settings.steps_without_audio) * (
            step < settings.steps_without_audio
        )
        return first + settings.visual_rate_factor * audio_schedule(step)

    groups, rates = [], []
    for part, rate, course in (
        (visual_weights, settings.rate, visual_schedule),
        (audio_weights, settings.audio_rate, audio_schedule),
    ):
        for group in parameter_groups(part, settings.weight_decay):
            groups.append({**group, "lr": rate})
            rates.append(course)
    optimizer = torch.optim.AdamW(groups)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def clip_loss(network: AuscanNetwork, audio_head: nn.Module, windows: ClipWindows, step: int) -> Tensor:
    """Compute the loss of the windows and single faces of one step.

    audio_head: predicts the AUs from the clip's own audio tokens alone (auxiliary loss of the audio encoder).
    """
    window, settings = windows.window(step), windows.settings
    features, times_s = window.features, window.times_s
    audio = encode_audio(network, window.audio) if step >= settings.steps_without_audio else None
    logits = network.temporal(features.embedding, features.au_tokens, times_s, audio).logits
    loss = masked_bce(logits, window.labels, window.soft)
    loss = loss + settings.correlation_loss * correlation_loss(logits, window.labels, window.soft)
    if audio is not None:
        tokens, valid = audio_at_frames(audio.tokens, audio.times_s, audio.valid, times_s)
        audible = torch.where((valid & window.is_own_audio[:, None])[..., None], window.labels, -1)
        loss = loss + settings.audio_loss * masked_bce(audio_head(tokens), audible, window.soft)
    single, single_labels, single_soft = windows.faces[step % len(windows.faces)]
    moment = torch.zeros(len(single_labels), 1, dtype=torch.float64)
    alone = network.temporal(single.embedding[:, None], single.au_tokens[:, None], moment).logits[:, 0]
    return loss + masked_bce(alone, single_labels, single_soft)
