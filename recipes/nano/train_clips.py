"""Stage 2 of nano: voice, fusion, memory and head, from the clips with sound and from single faces.

The visual stage stays as stage 1 left it, so its features are computed once: each track clean and in a
few spoilt versions (a hand that passes, dim or blurred stretches), because a face that hides for a while
is what sound and memory exist for. Single faces keep taking part as clips of one frame, so that what was
learned from thousands of people is not forgotten for thirty.

Modality dropout: a window loses its sound, or hears another clip's, some of the time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from augment import relight
from auscan.core.aus import AU_NAMES
from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.model.network import AuscanNetwork, Sound
from clip_data import DEVELOPMENT, HELD_OUT, ClipTrack
from cover_clips import cover_track
from face_data import FaceBatches, Faces
from pack_faces import Rendered
from train_faces import log, parameter_groups, resume, save, warmup_cosine

MOUTH = [AU_NAMES.index("AU25"), AU_NAMES.index("AU26")]
"""What a voice tells of."""
VARIES = 0.05
"""The teacher varies where its soft targets have at least this standard deviation."""


@dataclass(frozen=True)
class ClipSettings:
    """Settings of stage 2."""

    steps: int = 320
    windows: int = 8
    """Windows of clips in a step."""
    faces: int = 256
    """Single faces in a step."""
    length: int = 128
    """Frames of a window."""
    versions: int = 3
    """Covered versions of each real track beside the clean one."""
    rendered: float = 0.3
    """Share of the windows from rendered clips, and of the single faces that are rendered."""
    face_versions: int = 2
    """Cuts of each single face."""
    rate: float = 5e-4
    weight_decay: float = 0.1
    no_sound: float = 0.3
    """Share of windows that lose their sound."""
    other_sound: float = 0.15
    """Share of windows that hear another clip."""
    average: float = 0.99
    shape: float = 0.5
    """Weight of the loss on how each AU rises and falls within a window."""
    every: int = 40
    """Steps between two looks at the development data."""
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """What the visual stage makes of T crops of one track or of n single faces."""

    embedding: Tensor
    """[T, d]."""
    au_tokens: Tensor
    """[T, A, da]."""


@torch.no_grad()
def features_of(network: AuscanNetwork, crops: NDArray[np.uint8], in_order: bool) -> Features:
    """Grey crops [T, 112, 112] -> features. in_order: they follow each other, so patches can change."""
    embeddings, au_tokens, previous = [], [], None
    for start in range(0, len(crops), 64):
        part = torch.from_numpy(crops[start : start + 64])[..., None].expand(-1, -1, -1, 3)
        looked = network.visual(part[None] if in_order else part[:, None], previous)
        previous = looked.last_patches if in_order else None
        embeddings.append(looked.aligned.embedding.flatten(0, 1))
        au_tokens.append(looked.aligned.au_tokens.flatten(0, 1))
    return Features(torch.cat(embeddings), torch.cat(au_tokens))


def hide_stretches(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crops of a track [T, S, S] with things before the face and other light for spans of time."""
    out = cover_track(track.crops, track.times_s, rng, busy=rng.uniform(0.3, 0.7)).crops
    here = 0
    while here < len(out):
        length, seed = int(rng.integers(12, 90)), int(rng.integers(2**32))
        if rng.random() < 0.2:
            for i in range(here, min(here + length, len(out))):
                same = np.random.default_rng(seed)  # one light for the whole stretch
                out[i] = relight(out[i].astype(np.float32), same).clip(0, 255).astype(np.uint8)
        here += length
    return out


def cover_mouth(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crops of a track [T, S, S] with a thing before the mouth from end to end."""
    return cover_track(track.crops, track.times_s, rng, busy=1, parts=("mouth",)).crops


def spoilt_versions(track: ClipTrack, versions: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The crops as they are, with the mouth covered throughout, and with other stretches hidden or dim."""
    yield track.crops
    if versions:
        yield cover_mouth(track, rng)
    for _ in range(versions - 1):
        yield hide_stretches(track, rng)


class ClipWindows:
    """Windows over the training tracks and single faces, all as features."""

    def __init__(
        self,
        network: AuscanNetwork,
        tracks: list[ClipTrack],
        made: list[ClipTrack],
        faces: Faces,
        rendered: Rendered | None,
        settings: ClipSettings,
    ) -> None:
        """made: rendered tracks; things come before these faces already."""
        rng = np.random.default_rng(settings.seed)
        self.settings = settings
        kept = (*DEVELOPMENT, *HELD_OUT)
        real = [t for t in tracks if t.clip not in kept and (t.labels >= 0).any()]
        self.tracks = real + made
        self.versions = [
            [features_of(network, crops, True) for crops in spoilt_versions(t, settings.versions, rng)]
            for t in real
        ] + [[features_of(network, t.crops, True)] for t in made]
        self.chances = _chances(real, made, settings.rendered)
        cutter = FaceBatches(faces, settings.faces, settings.seed, rendered, settings.rendered)
        self.faces = [
            (features_of(network, cut.crops, False), torch.from_numpy(cut.labels), torch.from_numpy(cut.soft))
            for epoch in range(settings.face_versions)
            for cut in cutter.epoch(1000 + epoch)
        ]

    def window(self, step: int) -> tuple[Features, Tensor, Sound, Tensor, Tensor]:
        """Features [B, T, ...], times [B, T], sound, labels and soft targets [B, T, 12] of one step."""
        rng = np.random.default_rng([self.settings.seed, step])
        length, rows = self.settings.length, []
        for pick in rng.choice(len(self.tracks), self.settings.windows, p=self.chances):
            track = self.tracks[pick]
            features = self.versions[pick][rng.integers(len(self.versions[pick]))]
            start = int(rng.integers(max(1, len(track.times_s) - length + 1)))
            rows.append((track, features, start, self._heard(track, rng)))
        span = min(length, min(len(t.times_s) - start for t, _, start, _ in rows))
        part = [slice(start, start + span) for _, _, start, _ in rows]
        features = Features(
            torch.stack([f.embedding[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
            torch.stack([f.au_tokens[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
        )
        times, labels, soft = (
            torch.from_numpy(
                np.stack([getattr(t, name)[p] for (t, _, _, _), p in zip(rows, part, strict=True)])
            )
            for name in ("times_s", "labels", "soft")
        )
        return features, times, self._sound([r[3] for r in rows], times), labels, soft

    def _heard(self, track: ClipTrack, rng: np.random.Generator) -> ClipTrack | None:
        """Whose sound the window hears: its own, nobody's or another clip's."""
        chance = rng.random()
        if chance < self.settings.no_sound:
            return None
        if chance < self.settings.no_sound + self.settings.other_sound:
            return self.tracks[rng.integers(len(self.tracks))]
        return track

    def _sound(self, heard: list[ClipTrack | None], times_s: Tensor) -> Sound:
        """Waveforms around each window, as `Sound` whose tokens are still samples: see `encode`."""
        count = int((times_s[:, -1] - times_s[:, 0]).max() * SAMPLE_RATE_HZ / TOKEN_HOP) + 100
        waves = torch.zeros(len(heard), count * TOKEN_HOP)
        valid = torch.zeros(len(heard), count, dtype=torch.bool)
        token_s = torch.zeros(len(heard), count, dtype=torch.float64)
        for row, track in enumerate(heard):
            token = 0 if track is None else int((float(times_s[row, 0]) - track.sound_start_s - 1.0) * 50)
            token = max(0, token)
            start_s = 0.0 if track is None else track.sound_start_s
            token_s[row] = start_s + token / 50 + token_offsets_s(count)
            if track is None:
                continue
            piece = track.sound[token * TOKEN_HOP : (token + count) * TOKEN_HOP]
            waves[row, : len(piece)] = torch.from_numpy(piece)
            valid[row, : len(piece) // TOKEN_HOP] = True
        return Sound(waves, token_s, valid)


def _chances(real: list[ClipTrack], made: list[ClipTrack], share: float) -> NDArray[np.float64]:
    """How likely a window is cut from each track; from the made ones together, `share`."""
    weights = [np.sqrt([len(t.times_s) for t in tracks]) for tracks in (real, made)]
    if not made:
        return np.asarray(weights[0] / weights[0].sum())
    return np.concatenate(
        [(1 - share) * weights[0] / weights[0].sum(), share * weights[1] / weights[1].sum()]
    )


def token_offsets_s(count: int) -> Tensor:
    """Centres of `count` tokens after the first sample: [Ta] float64, seconds."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)


def encode(network: AuscanNetwork, sound: Sound) -> Sound:
    """Samples [B, Ta * 320] in place of tokens -> tokens [B, Ta, Da]."""
    return Sound(network.audio(sound.tokens), sound.times_s, sound.valid)


def masked_bce(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """Mean over what is annotated; 0 where nothing is."""
    known = labels >= 0
    target = 0.5 * soft + 0.5 * labels.clamp_min(0)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known
    return loss.sum() / known.sum().clamp_min(1)


def shape_loss(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """How far each AU of a window rises and falls otherwise than the teacher's: mean of 1 - correlation.

    Over the windows and AUs in which the teacher varies; 0 where there is none.  All [B, T, 12].
    """
    known = (labels >= 0).to(logits.dtype)
    count = known.sum(dim=1, keepdim=True).clamp_min(1)  # [B, 1, 12]

    def centred(x: Tensor) -> Tensor:
        return (x - (x * known).sum(dim=1, keepdim=True) / count) * known

    said, wanted = centred(logits.sigmoid()), centred(soft.to(logits.dtype))
    spread = (wanted.square().sum(dim=1) / count[:, 0]).sqrt()  # [B, 12]
    together = (said * wanted).sum(dim=1)
    sizes = (said.square().sum(dim=1) * wanted.square().sum(dim=1) + 1e-8).sqrt()
    varies = (spread > VARIES) & (count[:, 0] > 30)
    return ((1 - together / sizes) * varies).sum() / varies.sum().clamp_min(1)


@dataclass(frozen=True)
class Kept:
    """A track that no step sees, with its features as it is and with its mouth covered from end to end."""

    track: ClipTrack
    free: Features
    covered: Features


def train_clips(
    network: AuscanNetwork,
    tracks: list[ClipTrack],
    made: list[ClipTrack],
    faces: Faces,
    rendered: Rendered | None,
    settings: ClipSettings,
    run: Path,
) -> tuple[Path, dict[str, float]]:
    """Train everything but the visual stage; returns the file with the best averaged weights, and its scores.

    tracks, made: of real clips and of rendered ones.  rendered: faces; made may be empty and these None.

    Best on the development clips: some thirty clips are soon learned by heart, and longer training only makes
    the network worse for other people (at a rate of 7e-4, mean AUC fell from 0.944 to 0.921 in 400 steps).
    """
    torch.manual_seed(settings.seed)
    network.eval()
    network.visual.requires_grad_(False).to(memory_format=torch.channels_last)
    windows = ClipWindows(network, tracks, made, faces, rendered, settings)
    kept = development_tracks(network, tracks)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    )
    optimizer = torch.optim.AdamW(parameter_groups(network, settings.weight_decay), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, settings.every, settings.steps)
    )
    parts = {"model": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    first = resume(run / "clips.pt", parts)
    losses: list[float] = []
    for step in range(first, settings.steps):
        loss = clip_loss(network, windows, step, settings.shape)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % settings.every == 0:
            scores = development_scores(averaged.module, kept)
            keep_best(run, averaged.module, scores)
            log(run / "clips.jsonl", step=step + 1, loss=float(np.mean(losses)), **scores)
            save(run / "clips.pt", parts, step + 1)
            losses = []
    return run / "clips_best.pt", max(logged(run), key=together)


def clip_loss(network: AuscanNetwork, windows: ClipWindows, step: int, shape: float) -> Tensor:
    """Of the windows and single faces of one step."""
    features, times, sound, labels, soft = windows.window(step)
    logits = network.temporal(features.embedding, features.au_tokens, times, encode(network, sound))
    single, single_labels, single_soft = windows.faces[step % len(windows.faces)]
    moment = torch.zeros(len(single_labels), 1, dtype=torch.float64)
    alone = network.temporal(single.embedding[:, None], single.au_tokens[:, None], moment)[:, 0]
    return (
        masked_bce(logits, labels, soft)
        + shape * shape_loss(logits, labels, soft)
        + masked_bce(alone, single_labels, single_soft)
    )


def logged(run: Path) -> list[dict[str, float]]:
    """What the run has logged so far."""
    file = run / "clips.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def together(scores: dict[str, float]) -> float:
    """One number to choose by: free faces, and covered mouths under their own sound or another."""
    return scores["clip_auc"] + scores["within"] + 0.5 * (scores["heard_own"] + scores["heard_other"])


def keep_best(run: Path, network: nn.Module, scores: dict[str, float]) -> None:
    """Write the weights if they beat all that the run has logged."""
    if together(scores) > max(map(together, logged(run)), default=0.0):
        torch.save(network.state_dict(), run / "clips_best.pt")


def development_tracks(network: AuscanNetwork, tracks: list[ClipTrack]) -> list[Kept]:
    """The tracks of DEVELOPMENT that the teacher scored."""
    kept = []
    for track in tracks:
        if track.clip in DEVELOPMENT and (track.labels >= 0).any():
            hidden = cover_mouth(track, np.random.default_rng(0))
            kept.append(
                Kept(track, features_of(network, track.crops, True), features_of(network, hidden, True))
            )
    return kept


@torch.no_grad()
def clip_logits(
    network: AuscanNetwork, track: ClipTrack, features: Features, heard: ClipTrack | None
) -> NDArray[np.float32]:
    """Logits [T, 12] of a whole track, with the sound of itself, of another or of none."""
    sound = None
    if heard is not None and len(heard.sound) >= TOKEN_HOP:
        tokens = network.audio(torch.from_numpy(heard.sound)[None])
        count = tokens.shape[1]
        times_s = heard.sound_start_s + token_offsets_s(count)
        sound = Sound(tokens, times_s[None], torch.ones(1, count, dtype=torch.bool))
    frames_s = torch.from_numpy(track.times_s)
    logits = network.temporal.follow_long(features.embedding, features.au_tokens, frames_s, sound)
    out: NDArray[np.float32] = logits.numpy()
    return out


def development_scores(network: AuscanNetwork, kept: list[Kept]) -> dict[str, float]:
    """Agreement with the teacher on the development clips.

    clip_auc: pooled AUC.  within: mean correlation within a clip, of probability and soft target.
    heard_own, heard_none, heard_other: pooled AUC of AU25 and AU26 with the mouth covered, by what is heard.
    AU06 is left out: its labels are a sign and not a score.
    """
    network.eval()
    labels = np.concatenate([each.track.labels for each in kept])
    free = [clip_logits(network, each.track, each.free, each.track) for each in kept]
    direct = [j for j, name in enumerate(AU_NAMES) if name != "AU06"]
    scores = {"clip_auc": mean_auc(labels, np.concatenate(free), direct), "within": within_clip(kept, free)}
    others = [kept[k - 1].track for k in range(len(kept))]
    for name, heard in (("own", [k.track for k in kept]), ("none", [None] * len(kept)), ("other", others)):
        logits = [
            clip_logits(network, each.track, each.covered, whose)
            for each, whose in zip(kept, heard, strict=True)
        ]
        scores[f"heard_{name}"] = mean_auc(labels, np.concatenate(logits), MOUTH)
    return scores


def mean_auc(labels: NDArray[np.int8], logits: NDArray[np.float32], columns: list[int]) -> float:
    """Over those columns in which both classes are known."""
    aucs = []
    for column in columns:
        known = labels[:, column] >= 0
        if known.any() and 0 < labels[known, column].mean() < 1:
            aucs.append(float(roc_auc_score(labels[known, column], logits[known, column])))
    return float(np.mean(aucs))


def within_clip(kept: list[Kept], logits: list[NDArray[np.float32]]) -> float:
    """Mean over tracks and AUs in which the teacher varies."""
    found = []
    for each, values in zip(kept, logits, strict=True):
        for column, name in enumerate(AU_NAMES):
            mine = each.track.labels[:, column] >= 0
            soft = each.track.soft[mine, column]
            if name != "AU06" and mine.sum() > 30 and soft.std() > VARIES:
                found.append(np.corrcoef(soft, 1 / (1 + np.exp(-values[mine, column])))[0, 1])
    return float(np.mean(found))
