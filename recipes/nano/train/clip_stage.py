"""Train stage 2 of nano: fusion, late path, scan and heads on clips with audio and on single faces.

Single faces stay in training as clips of one frame, so that the network does not overfit to the people in
clips. Modality dropout: a share of the windows loses its audio, a small one gets another person's. Visual
stage and audio encoder are frozen: trained end to end on so few voices, the encoder overfits.

Settings are chosen by the development scores: agreement with the teacher on held-out development clips and
people, with the mouth free and covered. The clips of real_clips.HELD_OUT and the people of HELD_OUT_PEOPLE
are for benchmarks only.

Inputs: the network after stage 1, tracks, faces.
Returns: a file of averaged weights in the run folder, and the development scores.
See also: clip_windows.py (windows and settings), face_stage.py (stage 1).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.model.fusion import audio_at_frames
from auscan.model.network import AudioInput, AuscanNetwork
from auscan.training.losses import intensity_loss, opening_loss
from recipes.nano.data.real_clips import ClipTrack, development_tracks, training_tracks
from recipes.nano.data.real_faces import Faces
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.clip_windows import (
    ClipSettings,
    ClipWindow,
    ClipWindows,
    CropFeatures,
    EncodedTrack,
    SingleFaces,
    encode_faces,
    encode_tracks,
    token_offsets_s,
)
from recipes.nano.train.face_stage import log, parameter_groups, resume, save, warmup_cosine

MOUTH_AUS = ("AU25", "AU26")
"""AUs that audio can predict."""
LOGIT_SCALE = 1.6
"""Approximate factor of calibration on logits; labels are sharper than soft targets."""
INTENSITY = 0.5
"""Weight of the loss of intensities."""
MIN_PROBABILITY = 1e-5
"""Lower bound on soft targets before the logit; the upper bound is 1 minus it."""
MIN_SPREAD = 0.05
"""Minimum standard deviation of the soft targets for a correlation."""


@torch.no_grad()
def track_logits(
    network: AuscanNetwork, track: ClipTrack, features: CropFeatures, source: EncodedTrack | None
) -> NDArray[np.float32]:
    """Compute logits [T, A] of a whole track with its own audio, another track's, or none."""
    audio = None
    if source is not None and len(source.sounds[0]):
        tokens = source.sounds[0][None]
        count = tokens.shape[1]
        times_s = source.track.sound_start_s - source.track.times_s[0] + token_offsets_s(count)
        audio = AudioInput(tokens, times_s[None], torch.ones(1, count, dtype=torch.bool))
    frames_s = torch.from_numpy(track.times_s - track.times_s[0])
    logits = network.temporal.forward_long(features.embedding, features.au_tokens, frames_s, audio).logits
    out: NDArray[np.float32] = logits.numpy()
    return out


def development_scores(network: AuscanNetwork, kept: list[EncodedTrack]) -> dict[str, float]:
    """Compute agreement with the teacher on the development clips.

    clip_auc: pooled AUC.  within: mean correlation within a clip of probability and teacher score.
    own, none, other: mean AUC within a clip of AU25 and AU26 with the mouth covered, with the clip's own
    audio, without, and with another person's.  AU06 is left out, because it has no teacher score.
    """
    network.eval()
    labels = np.concatenate([each.track.labels for each in kept])
    free = [track_logits(network, each.track, each.versions[0], each) for each in kept]
    names = network.config.au_names
    direct = [j for j, name in enumerate(names) if name != "AU06"]
    mouth = [j for j, name in enumerate(names) if name in MOUTH_AUS]
    scores = {
        "clip_auc": mean_auc(labels, np.concatenate(free), direct),
        "within": within_clip_correlation(kept, free, names),
    }
    others = [
        next((o for o in kept[k:] + kept[:k] if o.track.person != each.track.person), None)
        for k, each in enumerate(kept)
    ]
    for name, sources in (("own", kept), ("none", [None] * len(kept)), ("other", others)):
        logits = [
            track_logits(network, each.track, each.versions[1], source)
            for each, source in zip(kept, sources, strict=True)
        ]
        for column in mouth:
            aucs = [
                mean_auc(each.track.labels, values, [column])
                for each, values in zip(kept, logits, strict=True)
            ]
            scores[f"{names[column]}_{name}"] = float(np.nanmean(aucs))
    return scores


def mean_auc(labels: NDArray[np.int8], logits: NDArray[np.float32], columns: list[int]) -> float:
    """Compute the mean ROC-AUC over the columns in which both classes occur; NaN without any."""
    aucs = []
    for column in columns:
        known = labels[:, column] >= 0
        if known.any() and 0 < labels[known, column].mean() < 1:
            aucs.append(float(roc_auc_score(labels[known, column], logits[known, column])))
    return float(np.mean(aucs)) if aucs else float("nan")


def within_clip_correlation(
    kept: list[EncodedTrack], logits: list[NDArray[np.float32]], au_names: tuple[str, ...]
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


def masked_bce(logits: Tensor, labels: Tensor, soft: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Compute the weighted mean binary cross-entropy over annotated labels; 0 if there are none."""
    known = (labels >= 0) * weights
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
    """Train the temporal stage. Return the file with the averaged weights, and their scores.

    network: after stage 1.  tracks, rendered_tracks: of real and of rendered clips (may be empty).
    rendered: rendered faces or None.

    Scan and heads train first, without audio; then the layers that read the sound train, with scan and heads
    at a lower rate. If all train at once, the network overfits to the faces before it learns from the voices.
    """
    torch.manual_seed(settings.seed)
    network.eval()
    network.visual.requires_grad_(False).to(memory_format=torch.channels_last)
    network.audio.requires_grad_(False)
    real = encode_tracks(
        network, training_tracks(tracks), settings.versions, settings, run / "training_tracks.pt"
    )
    virtual = encode_tracks(network, rendered_tracks, 0, settings, run / "rendered_tracks.pt")
    kept = encode_tracks(
        network, development_tracks(tracks), 1, ClipSettings(sounds=0), run / "development_tracks.pt"
    )
    single = encode_faces(network, faces, rendered, settings, run / "single_faces.pt")
    windows = ClipWindows(real, virtual, settings)
    network.temporal.norm_audio.fit(torch.cat([each.sounds[0] for each in real]))
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average), use_buffers=True
    )
    optimizer, schedule = make_optimizer(network, settings)
    parts = {"model": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    first = resume(run / "clips.pt", parts)
    losses: list[float] = []
    for step in range(first, settings.steps):
        loss = clip_loss(network, windows, single[step % len(single)], step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.temporal.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % settings.log_every == 0:
            scores = development_scores(averaged.module, kept)
            log(run / "clips.jsonl", step=step + 1, loss=float(np.mean(losses)), **scores)
            save(run / "clips.pt", parts, step + 1)
            losses = []
    weights = run / "clips_averaged.pt"
    torch.save(averaged.module.state_dict(), weights)
    return weights, development_scores(averaged.module, kept)


def make_optimizer(
    network: AuscanNetwork, settings: ClipSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Make optimizer and schedules: scan and heads train first, then the layers that read the sound.

    What the sound adds starts at zero, so the first steps do not depend on it.
    """
    audio_weights, visual_weights = nn.ParameterDict(), nn.ParameterDict()
    for name, weight in network.temporal.named_parameters():
        if "audio_condition" in name:
            nn.init.zeros_(weight)
        is_audio = name.startswith(("fusion.", "late_path.", "opening.")) or "audio_condition" in name
        (audio_weights if is_audio else visual_weights)[name.replace(".", "_")] = weight
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
    for part, rate, decay, course in (
        (visual_weights, settings.rate, settings.weight_decay, visual_schedule),
        (audio_weights, settings.audio_rate, settings.audio_decay, audio_schedule),
    ):
        for group in parameter_groups(part, decay):
            groups.append({**group, "lr": rate})
            rates.append(course)
    optimizer = torch.optim.AdamW(groups)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def clip_loss(network: AuscanNetwork, windows: ClipWindows, single: SingleFaces, step: int) -> Tensor:
    """Compute the loss of the windows and single faces of one step."""
    settings, temporal = windows.settings, network.temporal
    with_audio = step >= settings.steps_without_audio
    window = windows.window(step, with_audio)
    features, audio = window.features, window.audio if with_audio else None
    heads = temporal(features.embedding, features.au_tokens, window.times_s, audio)
    weights: Tensor | float = 1.0
    loss = torch.zeros(())
    if audio is not None:
        weights = covered_weights(network, window, settings.covered_weight)
        loss = loss + own_opening_loss(network, window, audio)
    loss = loss + masked_bce(heads.logits, window.labels, window.soft, weights)
    loss = loss + settings.correlation_loss * correlation_loss(heads.logits, window.labels, window.soft)
    loss = loss + INTENSITY * intensity_loss(heads.intensity_logits, window.intensities)
    moment = torch.zeros(len(single.labels), 1, dtype=torch.float64)
    alone = temporal(single.features.embedding[:, None], single.features.au_tokens[:, None], moment)
    loss = loss + masked_bce(alone.logits[:, 0], single.labels, single.soft)
    return loss + INTENSITY * intensity_loss(alone.intensity_logits[:, 0], single.intensities)


def covered_weights(network: AuscanNetwork, window: ClipWindow, weight: float) -> Tensor:
    """Return weights [B, 1, A]: `weight` for AUs of a mouth that is covered and heard."""
    heard = (window.is_covered & window.is_own_audio)[:, None, None]
    mouth = torch.tensor([name in MOUTH_AUS for name in network.config.au_names])
    return torch.where(heard & mouth, weight, 1.0)


def own_opening_loss(network: AuscanNetwork, window: ClipWindow, audio: AudioInput) -> Tensor:
    """Compute the loss of the opening of the mouth, from the picture and from the sound, where it is seen."""
    temporal = network.temporal
    seen, heard_tokens = temporal.opening(window.features.embedding, temporal.norm_audio(audio.tokens))
    heard, valid = audio_at_frames(heard_tokens[..., None], audio.times_s, audio.valid, window.times_s)
    mouth = [j for j, name in enumerate(network.config.au_names) if name in MOUTH_AUS]
    labels = torch.where(window.is_covered[:, None, None], -1, window.labels[..., mouth])
    own = valid & window.is_own_audio[:, None]
    return opening_loss(torch.stack([seen, heard[..., 0]], dim=-1), labels, own)
