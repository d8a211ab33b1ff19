"""Planted tasks: small random data whose right answer is known, and networks trained on them in seconds.

Each task needs one part of the method, and a network without that part cannot solve it. Tasks:

    LocalTask   AUs are patterns in one patch each, on a face that moves; the background shows the same
                patterns, and covers hide patches
    VoiceTask   sound tells AU25 while the face is covered, late or in time; it may be another one's
    RestTask    an AU is relative to a resting face that is seen once, a minute before

Each task has an oracle: a score computed with its hidden variables. If the oracle fails, the task is void.

Returns: ROC-AUC on new data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import AlignmentConfig, FusionConfig, NetworkConfig, TemporalConfig, nano
from auscan.encoders.visual import pool_patches
from auscan.inference.synchrony import HeardOpening, MouthFrames, follow_voice
from auscan.model.alignment import AlignmentOutput, GranularityAlignment
from auscan.model.fusion import audio_at_frames
from auscan.model.head import ActionUnitHead
from auscan.model.network import AudioInput, TorchFusedFrames
from auscan.training.config import ControlConfig
from auscan.training.controls import ControlledTemporalStage
from auscan.training.losses import cover_loss

SIDE = 7
"""Patches along a side of the crop."""
FACE_SIDE = 4
"""Patches along a side of the face, which lies anywhere in the crop."""
TOKEN_WIDTH = 24
AU25 = AFFWILD2_AUS.index("AU25")


def train(
    network: nn.Module, loss_of: Callable[[torch.Generator], Tensor], steps: int, rate: float = 3e-3
) -> None:
    """Minimise loss_of(random) for a number of steps, with a rate that falls along a cosine."""
    random = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(random).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


def auc(labels: Tensor, logits: Tensor) -> float:
    """Mean ROC-AUC over the columns of [n, A]."""
    columns = zip(labels.flatten(0, -2).T, logits.flatten(0, -2).T, strict=True)
    return float(np.mean([roc_auc_score(label, logit) for label, logit in columns]))


@dataclass(frozen=True)
class Faces:
    """n frames of the local task."""

    face: Tensor
    """Global tokens [n, Dv]."""
    patches: Tensor
    """[n, N, Dv]."""
    labels: Tensor
    """[n, A] of 0 and 1."""
    on_face: Tensor
    """[n, N] bool."""
    covers: Tensor
    """[n, A] int8: 1 the patch of the AU is covered, else 0."""
    oracle: Tensor
    """Scores [n, A] from the AU's own patch and pattern."""


class LocalTask:
    """An AU is a pattern in one patch of a face. Half of the background patches show patterns of AUs too."""

    def __init__(
        self, moves: bool = True, covered: float = 0.0, held_out: bool = False, blank: float = 0.0
    ) -> None:
        """moves: whether the face lies anywhere in the crop, or always in its middle
        covered: probability that the patch of an AU is covered by texture like that of an AU
        held_out: whether the covers are of other kinds than those of training
        blank: probability of a blank crop, where all is covered
        """
        random = torch.Generator().manual_seed(0)
        self.patterns = F.normalize(torch.randn(len(AFFWILD2_AUS), TOKEN_WIDTH, generator=random), dim=-1)
        self.skin = F.normalize(torch.randn(TOKEN_WIDTH, generator=random), dim=-1)
        kinds = F.normalize(torch.randn(16, TOKEN_WIDTH, generator=random), dim=-1)
        self.kinds = kinds[12:] if held_out else kinds[:12]
        self.moves, self.covered, self.blank = moves, covered, blank

    def sample(self, count: int, random: torch.Generator) -> Faces:
        """Draw frames."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=random)

        labels = (draw(count, len(AFFWILD2_AUS)) < 0.4).long()
        covers = draw(count, len(AFFWILD2_AUS)) < self.covered
        corner = torch.randint(0, SIDE - FACE_SIDE + 1, (count, 2), generator=random)
        corner = corner if self.moves else torch.ones_like(corner)
        cell = torch.arange(len(AFFWILD2_AUS))  # of the face, row by row; the last row has no AU
        place = (corner[:, :1] + cell // FACE_SIDE) * SIDE + corner[:, 1:] + cell % FACE_SIDE  # [n, A]
        cells = torch.arange(SIDE**2)
        row, column = cells // SIDE - corner[:, :1], cells % SIDE - corner[:, 1:]
        on_face = (row >= 0) & (row < FACE_SIDE) & (column >= 0) & (column < FACE_SIDE)  # [n, N]

        other = torch.randint(0, len(AFFWILD2_AUS), (count, SIDE**2), generator=random)
        distractors = self.patterns[other] * (draw(count, SIDE**2) < 0.5)[..., None]
        patches = torch.where(on_face[..., None], 1.5 * self.skin, 2.0 * distractors)
        textures = self.patterns[
            torch.randint(0, len(AFFWILD2_AUS), (count, len(AFFWILD2_AUS)), generator=random)
        ]
        seen = 2.0 * labels[..., None] * self.patterns + 1.5 * self.skin
        kind = torch.randint(0, len(self.kinds), (count, len(AFFWILD2_AUS)), generator=random)
        hidden = 2.0 * textures + 1.5 * self.kinds[kind]
        at_aus = torch.where(covers[..., None], hidden, seen)  # [n, A, Dv]
        patches = patches.scatter(1, place[..., None].expand_as(at_aus), at_aus)
        patches = patches + 0.35 * torch.randn(patches.shape, generator=random)
        own = patches.gather(1, place[..., None].expand_as(at_aus))  # [n, A, Dv]
        oracle = (own * self.patterns).sum(-1)
        face = patches.mean(1) + 0.35 * torch.randn(count, TOKEN_WIDTH, generator=random)
        seen_at_all = draw(count) >= self.blank
        patches, face = patches * seen_at_all[:, None, None], face * seen_at_all[:, None]
        covers = (covers | ~seen_at_all[:, None]).to(torch.int8)
        return Faces(face, patches, labels, on_face, covers, oracle)


class AlignmentNetwork(nn.Module):
    """Alignment and head on single frames; `grid` averages the patches before."""

    def __init__(self, active: int, grid: int = SIDE, uses_patches: bool = True) -> None:
        super().__init__()
        config = AlignmentConfig(width=32, au_width=8, heads=2, active_patches=active)
        self.alignment = GranularityAlignment(TOKEN_WIDTH, grid**2, config, 12)
        self.head = ActionUnitHead(32, 8, 12)
        self.grid, self.final, self.uses_patches = grid, active, uses_patches

    def forward(self, faces: Faces) -> tuple[Tensor, AlignmentOutput]:
        """Return logits [n, A] and the output of the alignment for n clips of one frame."""
        patches = pool_patches(faces.patches, self.grid)
        patches = patches if self.uses_patches else torch.zeros_like(patches)
        aligned: AlignmentOutput = self.alignment(faces.face[:, None], patches[:, None])
        return self.head(aligned.embedding, aligned.au_tokens)[:, 0], aligned


def train_alignment(
    task: LocalTask, network: AlignmentNetwork, steps: int, cover_weight: float = 0.0, batch: int = 64
) -> None:
    """Train on new frames in each step, with annealed selection."""
    done = 0

    def loss_of(random: torch.Generator) -> Tensor:
        nonlocal done
        network.alignment.anneal_selection(network.final, done / steps)
        done += 1
        faces = task.sample(batch, random)
        logits, aligned = network(faces)
        loss = F.binary_cross_entropy_with_logits(logits, faces.labels.float())
        return loss + cover_weight * cover_loss(aligned.gate_logits[:, 0], faces.covers)

    train(network, loss_of, steps)


AUDIO_WIDTH, FRAME_WIDTH, RATE_HZ = 12, 16, 25.0


@dataclass(frozen=True)
class Clips:
    """B clips of T frames with sound."""

    embedding: Tensor
    """[B, T, d]."""
    au_tokens: Tensor
    """[B, T, A, da]."""
    times_s: Tensor
    """[B, T]."""
    audio: AudioInput
    labels: Tensor
    """[B, T], of AU25."""
    hidden: Tensor
    """[B, T] bool: the frame is covered."""
    oracle: Tensor
    """Scores [B, T] from the hidden variables of the task."""


class VoiceTask:
    """AU25 opens and closes at random. The picture tells it, and the sound among noise."""

    def __init__(self, covered: float = 0.5, late_s: float = 0.0, hint: float = 0.0) -> None:
        """covered: share of frames that are covered
        late_s: lateness of the sound
        hint: share of the visual signal that is left of a covered frame
        """
        random = torch.Generator().manual_seed(0)
        self.seen, self.hidden = torch.randn(2, FRAME_WIDTH, generator=random)
        self.heard = torch.randn(AUDIO_WIDTH, generator=random)
        self.covered, self.late_s, self.hint = covered, late_s, hint

    def sample(self, count: int, random: torch.Generator, frames: int = 50) -> Clips:
        """Draw clips."""
        tokens = round(frames / RATE_HZ * 50)
        changes = torch.rand(count, tokens + 20, generator=random) < 0.12
        first = torch.randint(0, 2, (count, 1), generator=random)
        state = (changes.cumsum(1) + first) % 2  # [B, tokens + 20]
        late = round(self.late_s * 50)
        opening = state[:, 10 : 10 + tokens]
        voice = state[:, 10 - late : 10 - late + tokens].float() * 2 - 1
        noise = torch.randn(count, tokens, AUDIO_WIDTH, generator=random)
        audio = voice[..., None] * self.heard + 1.5 * noise
        times_s = (torch.arange(frames, dtype=torch.float64) / RATE_HZ + 0.01).repeat(count, 1)
        labels = opening[:, ::2][:, :frames]
        hidden = torch.rand(count, frames, generator=random) < self.covered
        sign = (labels * 2 - 1)[..., None]
        signal = sign * self.seen
        picture = torch.where(hidden[..., None], self.hidden + self.hint * signal, signal)
        embedding = picture + 0.5 * torch.randn(picture.shape, generator=random)
        token_s = ((torch.arange(tokens, dtype=torch.float64) + 0.5) / 50).repeat(count, 1)
        sound = AudioInput(audio, token_s, torch.ones(count, tokens, dtype=torch.bool))
        heard = (audio @ self.heard).roll(-late, 1)[:, ::2][:, :frames]  # the last frames have none
        au_tokens = torch.zeros(count, frames, len(AFFWILD2_AUS), 4)
        return Clips(embedding, au_tokens, times_s, sound, labels, hidden, heard)


def small_network() -> NetworkConfig:
    """Return the settings of the temporal stages of the tasks."""
    return nano().model_copy(
        update={
            "alignment": AlignmentConfig(width=FRAME_WIDTH, au_width=4, heads=2),
            "fusion": FusionConfig(heads=2),
            "temporal": TemporalConfig(blocks=2, head_width=4, state_width=8),
        }
    )


def train_fusion(task: VoiceTask, steps: int, **controls: Any) -> ControlledTemporalStage:
    """Train a temporal stage, and its predictions of the opening, on new clips in each step."""
    torch.manual_seed(0)
    stage = ControlledTemporalStage(small_network(), AUDIO_WIDTH, ControlConfig(**controls))

    def loss_of(random: torch.Generator) -> Tensor:
        clips = task.sample(16, random)
        logits = stage(clips.embedding, clips.au_tokens, clips.times_s, clips.audio).logits[..., AU25]
        audio = clips.audio
        seen, heard = stage.opening(clips.embedding, stage.norm_audio(audio.tokens))
        at_frames, _ = audio_at_frames(heard[..., None], audio.times_s, audio.valid, clips.times_s)
        predicted = torch.stack([logits, seen, at_frames[..., 0]])
        target = clips.labels.float().expand_as(predicted)
        return 3 * F.binary_cross_entropy_with_logits(predicted, target)

    train(stage, loss_of, steps)
    return stage


@torch.no_grad()
def covered_auc(stage: nn.Module, task: VoiceTask, with_sound: bool = True) -> float:
    """ROC-AUC of AU25 on new clips of a task whose face is covered throughout."""
    clips = task.sample(64, torch.Generator().manual_seed(9))
    audio = clips.audio if with_sound else None
    logits = stage(clips.embedding, clips.au_tokens, clips.times_s, audio).logits[..., AU25]
    return float(roc_auc_score(clips.labels.flatten(), logits.flatten()))


@torch.no_grad()
def other_voice_aucs(stage: ControlledTemporalStage, task: VoiceTask) -> dict[str, float]:
    """ROC-AUC of AU25 on covered frames after 6 s: with the own, no and another's voice, gated and not."""
    clips = task.sample(24, torch.Generator().manual_seed(9), frames=400)
    late = clips.hidden & (clips.times_s > 6.0)
    other = AudioInput(clips.audio.tokens.roll(1, 0), clips.audio.times_s, clips.audio.valid)

    def auc_of(audio: AudioInput | None, gated: bool) -> float:
        fused = stage.fuse_audio(clips.embedding, clips.times_s, audio)
        if audio is not None and gated:
            trust = voice_trust(stage, clips, audio)[..., None]  # [B, T, 1]
            assert fused.audio_condition is not None
            assert fused.audio_logits is not None
            x = clips.embedding + trust * (fused.x - clips.embedding)
            fused = TorchFusedFrames(x, fused.audio_condition * trust, fused.audio_logits * trust)
        state = stage.memory(fused.x, fused.audio_condition, clips.times_s, None)
        logits = stage.classify(state, clips.au_tokens, fused.audio_logits).logits[..., AU25]
        return float(roc_auc_score(clips.labels[late], logits[late]))

    return {
        "own voice": auc_of(clips.audio, gated=False),
        "own voice, gate": auc_of(clips.audio, gated=True),
        "no voice": auc_of(None, gated=False),
        "other voice": auc_of(other, gated=False),
        "other voice, gate": auc_of(other, gated=True),
    }


def voice_trust(stage: ControlledTemporalStage, clips: Clips, audio: AudioInput) -> Tensor:
    """Return the trust [B, T] of `follow_voice`; covered frames are no evidence."""
    seen, heard = stage.opening(clips.embedding, stage.norm_audio(audio.tokens))
    rows = []
    for row in range(len(seen)):
        visible = (~clips.hidden[row]).float().numpy()
        faces = np.ones(len(visible), np.int64)
        mouth = MouthFrames(clips.times_s[row].numpy(), seen[row].numpy(), visible, faces)
        opening = HeardOpening(audio.times_s[row].numpy(), heard[row].numpy())
        rows.append(torch.from_numpy(follow_voice(mouth, opening)[0].trust))
    return torch.stack(rows)


class RestTask:
    """An AU is active if a feature is above that of the resting face, which is seen once, at the start."""

    frames, rate_hz = 66, 1.0
    """66 s; the TCN reaches 30 frames."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.feature, self.marker = torch.randn(2, FRAME_WIDTH, generator=random)

    def sample(self, count: int, random: torch.Generator) -> Clips:
        """Draw clips; the frames of the resting face have labels of -1."""
        rest = torch.rand(count, 1, generator=random) * 4 - 2
        level = torch.rand(count, self.frames, generator=random) * 4 - 2
        is_rest = torch.arange(self.frames) < 2  # 2 s
        level = torch.where(is_rest, rest, level)
        labels = (level > rest).long()
        labels[:, is_rest] = -1
        embedding = level[..., None] * self.feature + 2.0 * is_rest[:, None] * self.marker
        embedding = embedding + 0.3 * torch.randn(embedding.shape, generator=random)
        times_s = (torch.arange(self.frames, dtype=torch.float64) / self.rate_hz).repeat(count, 1)
        silence = AudioInput(
            torch.zeros(count, 1, AUDIO_WIDTH), torch.zeros(count, 1), torch.zeros(count, 1, dtype=torch.bool)
        )
        au_tokens = torch.zeros(count, self.frames, len(AFFWILD2_AUS), 4)
        hidden = torch.zeros_like(labels, dtype=torch.bool)
        return Clips(embedding, au_tokens, times_s, silence, labels, hidden, level - rest)


def train_memory(task: RestTask, steps: int, temporal: str) -> float:
    """Train a temporal model on new clips in each step; return the ROC-AUC on others."""
    torch.manual_seed(0)
    stage = ControlledTemporalStage(small_network(), AUDIO_WIDTH, ControlConfig(temporal=temporal))  # type: ignore[arg-type]

    def logits_of(clips: Clips, from_s: float = 0.0) -> tuple[Tensor, Tensor]:
        known = (clips.labels >= 0) & (clips.times_s >= from_s)
        logits = stage(clips.embedding, clips.au_tokens, clips.times_s, None).logits[..., AU25]
        return logits[known], clips.labels[known]

    def loss_of(random: torch.Generator) -> Tensor:
        logits, labels = logits_of(task.sample(16, random))
        return F.binary_cross_entropy_with_logits(logits, labels.float())

    train(stage, loss_of, steps)
    with torch.no_grad():
        logits, labels = logits_of(task.sample(128, torch.Generator().manual_seed(9)), from_s=60.0)
    return float(roc_auc_score(labels, logits))
