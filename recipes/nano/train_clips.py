"""Stage 2 of nano: voice, fusion, memory and head, from the clips with sound and from single faces.

Single faces keep taking part as clips of one frame, so that what was learned from thousands of people is not
forgotten for thirty. Modality dropout: a window loses its sound, or hears another clip's, some of the time.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AU_COUNT
from auscan.model.fusion import audio_at_frames
from auscan.model.network import AuscanNetwork
from clip_data import ClipTrack
from clip_scores import SHARPER, SURE, VARIES, development_scores, development_tracks
from clip_windows import ClipSettings, ClipWindows, encode
from face_data import Faces
from pack_faces import Rendered
from train_faces import log, parameter_groups, resume, save, warmup_cosine


def masked_bce(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """Mean over what is annotated; 0 where nothing is."""
    known = labels >= 0
    target = 0.5 * soft + 0.5 * labels.clamp_min(0)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known
    return loss.sum() / known.sum().clamp_min(1)


def shape_loss(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """How far each AU of a window differs from the course of the teacher's score: mean of 1 - correlation.

    Of the probability, as sharp as calibration makes it, and the score, whose logistic curve the soft target
    is. Over the windows and AUs in which the teacher varies; 0 where there is none.  All [B, T, 12].
    """
    known = (labels >= 0).to(logits.dtype)
    count = known.sum(dim=1, keepdim=True).clamp_min(1)  # [B, 1, 12]

    def centred(x: Tensor) -> Tensor:
        return (x - (x * known).sum(dim=1, keepdim=True) / count) * known

    soft = soft.to(logits.dtype)
    said, wanted = centred((SHARPER * logits).sigmoid()), centred(torch.logit(soft, SURE))
    spread = (centred(soft).square().sum(dim=1) / count[:, 0]).sqrt()  # [B, 12]
    together = (said * wanted).sum(dim=1)
    sizes = (said.square().sum(dim=1) * wanted.square().sum(dim=1) + 1e-8).sqrt()
    varies = (spread > VARIES) & (count[:, 0] > 30)
    return ((1 - together / sizes) * varies).sum() / varies.sum().clamp_min(1)


def train_clips(
    network: AuscanNetwork,
    tracks: list[ClipTrack],
    made: list[ClipTrack],
    faces: Faces,
    rendered: Rendered | None,
    settings: ClipSettings,
    run: Path,
) -> tuple[Path, dict[str, float]]:
    """Train everything but the visual stage; returns the file with the averaged weights, and their scores.

    tracks, made: of real clips and of rendered ones.  rendered: faces; made may be empty and these None.

    First memory and head learn without any sound; then all that hears learns, and they slowly go along. To
    listen to fifteen voices is learned slowly, and meanwhile some thirty faces would be learned by heart
    (with all learning at once, AUC on other clips fell from 0.928 to 0.916); but with memory and head at rest
    hardly anything was made of what was heard.
    """
    torch.manual_seed(settings.seed)
    network.eval()
    network.visual.requires_grad_(False).to(memory_format=torch.channels_last)
    windows = ClipWindows(network, tracks, made, faces, rendered, settings)
    kept = development_tracks(network, tracks)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    )
    voice = nn.Linear(network.audio.width, AU_COUNT)
    optimizer, schedule = learning(network, voice, settings)
    parts = {"model": network, "voice": voice, "averaged": averaged}
    parts |= {"optimizer": optimizer, "schedule": schedule}
    first = resume(run / "clips.pt", parts)
    losses: list[float] = []
    for step in range(first, settings.steps):
        loss = clip_loss(network, voice, windows, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*network.parameters(), *voice.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % settings.every == 0:
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


def learning(
    network: AuscanNetwork, voice: nn.Module, settings: ClipSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Optimizer and rates: first of what sees, then of what hears, which until then says nothing."""
    hearing, seeing = nn.ParameterDict(), nn.ParameterDict()
    for name, weight in network.named_parameters():
        if "guide_proj" in name:
            nn.init.zeros_(weight)
        hears = name.startswith(("audio.", "temporal.fusion.")) or "guide_proj" in name
        (hearing if hears else seeing)[name.replace(".", "_")] = weight
    hearing["voice"], hearing["voice_bias"] = voice.parameters()
    listening = settings.steps - settings.without_sound

    def hear(step: int) -> float:
        step -= settings.without_sound
        return warmup_cosine(step, settings.every, listening) * (step >= 0)

    def see(step: int) -> float:
        first = warmup_cosine(step, settings.every, settings.without_sound) * (step < settings.without_sound)
        return first + settings.keep_up * hear(step)

    groups, rates = [], []
    for part, rate, course in ((seeing, settings.rate, see), (hearing, settings.listening_rate, hear)):
        for group in parameter_groups(part, settings.weight_decay):
            groups.append({**group, "lr": rate})
            rates.append(course)
    optimizer = torch.optim.AdamW(groups)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def clip_loss(network: AuscanNetwork, voice: nn.Module, windows: ClipWindows, step: int) -> Tensor:
    """Of the windows and single faces of one step.

    voice: tells the AUs from the clip's own audio tokens alone, so that the encoder learns what can be heard
    of a face before anybody listens to it.
    """
    window, settings = windows.window(step), windows.settings
    features, times_s = window.features, window.times_s
    sound = encode(network, window.sound) if step >= settings.without_sound else None
    logits = network.temporal(features.embedding, features.au_tokens, times_s, sound)
    loss = masked_bce(logits, window.labels, window.soft)
    loss = loss + settings.shape * shape_loss(logits, window.labels, window.soft)
    if sound is not None:
        heard, valid = audio_at_frames(sound.tokens, sound.times_s, sound.valid, times_s)
        audible = torch.where((valid & window.own[:, None])[..., None], window.labels, -1)
        loss = loss + settings.voice * masked_bce(voice(heard), audible, window.soft)
    single, single_labels, single_soft = windows.faces[step % len(windows.faces)]
    moment = torch.zeros(len(single_labels), 1, dtype=torch.float64)
    alone = network.temporal(single.embedding[:, None], single.au_tokens[:, None], moment)[:, 0]
    return loss + masked_bce(alone, single_labels, single_soft)
