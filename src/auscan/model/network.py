"""The whole network: the only file that joins encoders, alignment, fusion, memory and head.

Three stages with plain tensors between them, so that each can run elsewhere (ONNX) or alone (training
from features):

    visual     crops [B, T, S, S, 3]             -> frame embedding [B, T, d], AU tokens [B, T, A, da]
    audio      waveform [B, M] at 16 kHz         -> audio tokens [B, Ta, Da]
    temporal   embeddings, AU tokens, audio      -> logits [B, T, A]
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auscan.core.config import NetworkConfig
from auscan.encoders.audio import build_audio_encoder
from auscan.encoders.hub import with_arch
from auscan.encoders.visual import build_visual_encoder, pool_patches
from auscan.faces.align import SIDE, TEMPLATE
from auscan.model.alignment import AlignmentOutput, GranularityAlignment
from auscan.model.fusion import AsymmetricFusion, audio_at_frames
from auscan.model.head import ActionUnitHead
from auscan.model.mamba import CHUNK_FRAMES, BiMamba

POINT_SCALE_PX = 4.0
"""One unit of the points layer is this many crop pixels: about how far detectors err."""
POSE_SCALE_DEG = 30.0
"""One unit of the head pose layer is a head turned by this much."""


@dataclass(frozen=True, slots=True)
class VisualOutput:
    """What the visual stage makes of a stretch of frames of each face."""

    aligned: AlignmentOutput
    points: Tensor
    """[B, T, 5, 2] px of the crop: where the five points really are."""
    pose_occlusion: Tensor
    """[B, T, 3] yaw and pitch of the head in degrees, and the covered share of the face, 0 to 1."""
    face: Tensor
    """[B, T, Dv] the encoder's global token."""
    last_patches: Tensor
    """[B, N, Dv]; the next stretch passes them as `previous`."""


@dataclass(frozen=True, slots=True)
class AudioInput:
    """Audio tokens with their times; `None` in its place means that there is no sound at all."""

    tokens: Tensor
    """[B, Ta, Da]."""
    times_s: Tensor
    """[B, Ta] float64, on the clock of the frames."""
    valid: Tensor
    """[B, Ta] bool; False for padding and where the track has no sound."""


class VisualStage(nn.Module):
    """Crop to frame embedding and AU tokens; knows one frame and the one before it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = build_visual_encoder(config.visual)
        side = round(self.encoder.patch_count**0.5)
        self.grid = side if config.grid is None else config.grid
        if self.grid > side:
            raise ValueError(f"grid {self.grid} is finer than the encoder's {side} patches a side")
        self.alignment = GranularityAlignment(self.encoder.width, self.grid**2, config.alignment)
        self.points = nn.Linear(self.encoder.width, 10)
        self.pose_occlusion = nn.Linear(self.encoder.width, 3)
        template = torch.from_numpy(TEMPLATE) * (config.visual.crop_size / SIDE)
        self.register_buffer("template", template, persistent=False)

    def forward(self, crops: Tensor, previous: Tensor | None = None) -> VisualOutput:
        """crops [B, T, S, S, 3] uint8, previous [B, N, Dv] or None where the face just appeared."""
        face, patches = (x.unflatten(0, crops.shape[:2]) for x in self._encode(crops.flatten(0, 1)))
        return self._align(face, patches, previous)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """N, Dv of a frame's patches as alignment reads them."""
        return self.alignment.position.shape[0], self.encoder.width

    def encode_rows(self, crops: Tensor, carried: Tensor, before: Tensor) -> VisualOutput:
        """The same for B frames of any faces, T = 1, where each says which frame came before it.

        crops: [B, S, S, 3] uint8    carried: [F, N, Dv] patches of earlier calls
        before: [B] int64, a row of this call (0..B-1) or of the carried ones (B..B+F-1); its own row where
        the face just appeared
        """
        face, patches = self._encode(crops)
        previous = torch.cat([patches, carried])[before]  # [B, N, Dv]
        return self._align(face[:, None], patches[:, None], previous)

    def estimate_pose_occlusion(self, face: Tensor) -> Tensor:
        """Global tokens [..., Dv] -> yaw and pitch in degrees, covered share of the face 0 to 1: [..., 3]."""
        pose, occlusion = self.pose_occlusion(face).split([2, 1], dim=-1)
        return torch.cat([POSE_SCALE_DEG * pose, occlusion.sigmoid()], dim=-1)

    def _encode(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """crops [F, S, S, 3] uint8 -> face [F, Dv], patches [F, N, Dv] on the grid that alignment reads."""
        face, patches = self.encoder(crops)
        return face, pool_patches(patches, self.grid)

    def _align(self, face: Tensor, patches: Tensor, previous: Tensor | None) -> VisualOutput:
        """face [B, T, Dv], patches [B, T, N, Dv], previous [B, N, Dv]."""
        points = self.template + POINT_SCALE_PX * self.points(face).unflatten(-1, (5, 2))  # [B, T, 5, 2]
        aligned = self.alignment(face, patches, previous)
        return VisualOutput(aligned, points, self.estimate_pose_occlusion(face), face, patches[:, -1])


class TemporalStage(nn.Module):
    """Everything over time: the face listens, remembers, and is read."""

    def __init__(self, config: NetworkConfig, audio_width: int) -> None:
        super().__init__()
        self.fusion = AsymmetricFusion(config.alignment.width, audio_width, config.fusion)
        self.memory = BiMamba(config.alignment.width, audio_width, config.temporal)
        self.head = ActionUnitHead(config.alignment.width, config.alignment.au_width)

    def forward(
        self,
        embedding: Tensor,
        au_tokens: Tensor,
        frame_s: Tensor,
        sound: AudioInput | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Whole clips at once: logits [B, T, A].

        embedding [B, T, d], au_tokens [B, T, A, da], frame_s [B, T] float64 s,
        valid [B, T] bool, False for padding at the end of a clip
        """
        x, audio_condition = self.fuse_audio(embedding, frame_s, sound)
        logits: Tensor = self.head(self.memory(x, audio_condition, frame_s, valid), au_tokens)
        return logits

    def fuse_audio(
        self, embedding: Tensor, frame_s: Tensor, sound: AudioInput | None
    ) -> tuple[Tensor, Tensor | None]:
        """The embedding after asking the voice [B, T, d], and the voice at each frame [B, T, Da]."""
        if sound is None:
            return embedding, None
        audio_condition, _ = audio_at_frames(sound.tokens, sound.times_s, sound.valid, frame_s)
        updated, _ = self.fusion(embedding, frame_s, sound.tokens, sound.times_s, sound.valid)
        return updated, audio_condition

    @torch.no_grad()
    def forward_long(
        self,
        embedding: Tensor,
        au_tokens: Tensor,
        frame_s: Tensor,
        sound: AudioInput | None,
        chunk_frames: int = CHUNK_FRAMES,
    ) -> Tensor:
        """The same logits [T, A] for one track of any length, in memory that grows only with its inputs.

        embedding [T, d], au_tokens [T, A, da], frame_s [T]; sound with B = 1
        """
        x, audio_condition = self.fuse_audio(embedding[None], frame_s[None], sound)
        condition = None if audio_condition is None else audio_condition[0]  # [T, Da]
        state = self.memory.forward_long(x[0], condition, frame_s, chunk_frames)
        logits: Tensor = self.head(state, au_tokens)
        return logits


class AuscanNetwork(nn.Module):
    """The three stages under one roof; a checkpoint holds exactly its weights."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.visual = VisualStage(config)
        self.audio = build_audio_encoder(config.audio)
        self.temporal = TemporalStage(config, self.audio.width)
        # With the transformers settings filled in, the config alone rebuilds the network without a hub.
        self.config = config.model_copy(
            update={
                "visual": with_arch(config.visual, self.visual.encoder),
                "audio": with_arch(config.audio, self.audio),
            }
        )

    def forward(self, crops: Tensor, frame_s: Tensor, sound: AudioInput | None = None) -> Tensor:
        """crops [B, T, S, S, 3] uint8 at frame_s [B, T] float64 s -> logits [B, T, A]."""
        aligned = self.visual(crops).aligned
        logits: Tensor = self.temporal(aligned.embedding, aligned.au_tokens, frame_s, sound)
        return logits
