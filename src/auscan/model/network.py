"""Join encoders, alignment, fusion, temporal model and head into one network.

The network has three stages with plain tensors between them, so that each can be exported (ONNX) or trained
from cached features:

    visual     crops [B, T, S, S, 3]             -> frame embedding [B, T, d], AU tokens [B, T, A, da]
    audio      waveform [B, M] at 16 kHz         -> audio tokens [B, Ta, Da]    (`encode_audio`)
    temporal   embeddings, AU tokens, audio      -> logits [B, T, A], intensities

Inputs: face crops, frame times in seconds, audio tokens. Returns: logits [B, T, A], before the sigmoid.
See also: checkpoint.py (weights), graphs.py (the stages as exportable graphs).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from auscan.core.config import NetworkConfig
from auscan.encoders.audio import build_audio_encoder
from auscan.encoders.hub import with_arch
from auscan.encoders.visual import build_visual_encoder, pool_patches
from auscan.faces.align import SIDE, TEMPLATE
from auscan.model.alignment import AlignmentOutput, GranularityAlignment
from auscan.model.fusion import AsymmetricFusion, ChannelNorm, audio_at_frames
from auscan.model.head import ActionUnitHead, IntensityHead
from auscan.model.late_path import LatePath, OpeningHeads
from auscan.model.mamba import CHUNK_FRAMES, AudioCondition, BiMamba
from auscan.model.token_mix import TokenMix, token_parts

POINT_SCALE_PX = 4.0
"""Crop pixels per unit of the points layer; about the typical error of a face detector."""
POSE_SCALE_DEG = 30.0
"""Degrees of yaw or pitch per unit of the head pose layer."""


@dataclass(frozen=True, slots=True)
class VisualOutput:
    """Output of the visual stage for T frames of each face."""

    aligned: AlignmentOutput
    """Output of the alignment."""
    points: Tensor
    """Refined positions of the five face points [B, T, 5, 2], px of the crop."""
    pose_occlusion: Tensor
    """Head pose and occlusion [B, T, 3]: yaw and pitch in degrees, covered share of the face 0 to 1."""
    face: Tensor
    """Global token [B, T, Dv]."""
    last_patches: Tensor
    """Patches of the last frame [B, N, Dv]; `previous` of the next call."""


@dataclass(frozen=True, slots=True)
class AudioInput:
    """Audio tokens with their times; functions take None instead if there is no audio."""

    tokens: Tensor
    """Audio tokens [B, Ta, Da]."""
    times_s: Tensor
    """Token times [B, Ta] float64, seconds on the clock of the frames."""
    valid: Tensor
    """Mask [B, Ta] bool; False for padding and for times without audio."""


class TorchFusedFrames(NamedTuple):
    """Frames after the sound was fused into them."""

    x: Tensor
    """Input of the temporal model [B, T, d]; the embedding, unchanged, for frames without sound."""
    audio_condition: Tensor | None
    """Audio condition [B, T, Da], 0 for frames without sound; None without sound."""
    audio_logits: Tensor | None
    """Audio logits [B, T, A], added to those of the head; 0 for frames without sound, None without sound."""


class HeadOutput(NamedTuple):
    """Output of the heads for frames."""

    logits: Tensor
    """Detection logits [..., A], with the audio logits."""
    intensity_logits: Tensor | None
    """Intensity logits [..., A], see `head.to_intensity`; None for a network without intensities."""


class VisualStage(nn.Module):
    """Visual stage: face crops to frame embeddings and AU tokens, from the current and the previous frame."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = build_visual_encoder(config.visual)
        side = round(self.encoder.patch_count**0.5)
        self.grid = side if config.grid is None else config.grid
        if self.grid > side:
            raise ValueError(
                f"The patch grid {self.grid} is finer than the {side} x {side} patches of the encoder; "
                f"choose a grid of at most {side}."
            )
        self.mix = TokenMix(self.encoder.width, token_parts(self.encoder), config.alignment.width)
        self.alignment = GranularityAlignment(
            self.mix.width, self.grid**2, config.alignment, len(config.au_names)
        )
        self.points = nn.Linear(self.mix.width, 10)
        self.pose_occlusion = nn.Linear(self.mix.width, 3)
        template = torch.from_numpy(TEMPLATE) * (self.encoder.crop_size / SIDE)
        self.register_buffer("template", template, persistent=False)

    def forward(self, crops: Tensor, previous: Tensor | None = None) -> VisualOutput:
        """Encode T consecutive frames of each face.

        crops: [B, T, S, S, 3] uint8 RGB
        previous: patches [B, N, Dv] of the frame before the first one; None if the face has just appeared
        """
        face, patches = (x.unflatten(0, crops.shape[:2]) for x in self._encode(crops.flatten(0, 1)))
        return self._align(face, patches, previous)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Shape (N, Dv) of the patches of one frame, on the grid of the alignment."""
        return self.alignment.position.shape[0], self.mix.width

    def encode_rows(self, crops: Tensor, carried: Tensor, before: Tensor) -> VisualOutput:
        """Encode B frames of any faces (T = 1), each with the index of its previous frame.

        crops: [B, S, S, 3] uint8    carried: [F, N, Dv] patches of earlier calls
        before: [B] int64, a row of this call (0..B-1) or of the carried patches (B..B+F-1); the frame's own
        row if the face has just appeared
        """
        face, patches = self._encode(crops)
        previous = torch.cat([patches, carried])[before]  # [B, N, Dv]
        return self._align(face[:, None], patches[:, None], previous)

    def estimate_pose_occlusion(self, face: Tensor) -> Tensor:
        """Estimate head pose and occlusion from global tokens [..., Dv].

        Returns [..., 3]: yaw and pitch in degrees, covered share of the face 0 to 1.
        """
        pose, occlusion = self.pose_occlusion(face).split([2, 1], dim=-1)
        return torch.cat([POSE_SCALE_DEG * pose, occlusion.sigmoid()], dim=-1)

    def _encode(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops [F, S, S, 3] uint8 as face [F, Dv] and patches [F, N, Dv] on the alignment's grid."""
        face, patches = self.encoder(crops)
        return self.mix(face), self.mix(pool_patches(patches, self.grid))

    def _align(self, face: Tensor, patches: Tensor, previous: Tensor | None) -> VisualOutput:
        """Align face [B, T, Dv] and patches [B, T, N, Dv], given the previous patches [B, N, Dv] or None."""
        points = self.template + POINT_SCALE_PX * self.points(face).unflatten(-1, (5, 2))  # [B, T, 5, 2]
        aligned = self.alignment(face, patches, previous)
        return VisualOutput(aligned, points, self.estimate_pose_occlusion(face), face, patches[:, -1])


class TemporalStage(nn.Module):
    """Temporal stage: cross-attention, late path, audio-conditioned BiMamba, heads."""

    def __init__(self, config: NetworkConfig, audio_width: int) -> None:
        super().__init__()
        width = config.alignment.width
        self.norm_audio = ChannelNorm(audio_width)
        self.fusion = AsymmetricFusion(width, audio_width, config.fusion)
        self.audio_condition = AudioCondition(audio_width, width)
        self.late_path = LatePath(width, audio_width, len(config.au_names))
        self.opening = OpeningHeads(width, audio_width)
        self.memory = BiMamba(width, audio_width, config.temporal)
        sizes = width, config.alignment.au_width, len(config.au_names)
        self.head = ActionUnitHead(*sizes)
        self.intensity_head = IntensityHead(*sizes) if config.intensity else None

    def forward(
        self,
        embedding: Tensor,
        au_tokens: Tensor,
        frame_s: Tensor,
        audio: AudioInput | None = None,
        valid: Tensor | None = None,
    ) -> HeadOutput:
        """Compute the output [B, T, A] of the heads for whole clips.

        embedding: [B, T, d]    au_tokens: [B, T, A, da]    frame_s: [B, T] float64, seconds
        audio: None if there is none    valid: [B, T] bool, False for padding at the end of a clip
        """
        fused = self.fuse_audio(embedding, frame_s, audio)
        state = self.memory(fused.x, fused.audio_condition, frame_s, valid)
        return self.classify(state, au_tokens, fused.audio_logits)

    def fuse_audio(self, embedding: Tensor, frame_s: Tensor, audio: AudioInput | None) -> TorchFusedFrames:
        """Fuse the audio around each frame into the embedding [B, T, d]; without audio it is unchanged."""
        if audio is None:
            return TorchFusedFrames(embedding, None, None)
        audio = AudioInput(self.norm_audio(audio.tokens), audio.times_s, audio.valid)
        fused = self.fusion(embedding, frame_s, audio.tokens, audio.times_s, audio.valid)
        audio_condition, _ = audio_at_frames(audio.tokens, audio.times_s, audio.valid, frame_s)
        return self.add_audio(embedding, fused.visual, fused.attended, audio_condition)

    def add_audio(
        self, embedding: Tensor, visual: Tensor, attended: Tensor, audio_condition: Tensor
    ) -> TorchFusedFrames:
        """Add the audio condition to the temporal model's input, and compute the audio logits.

        embedding, visual: [B, T, d] before and after the fusion    attended: [B, T, d]
        audio_condition: [B, T, Da]
        """
        audio_logits = self.late_path(embedding, audio_condition, attended)
        return TorchFusedFrames(self.audio_condition(visual, audio_condition), audio_condition, audio_logits)

    def classify(self, state: Tensor, au_tokens: Tensor, audio_logits: Tensor | None) -> HeadOutput:
        """Apply the heads to state [..., d] and au_tokens [..., A, da]; add the audio logits, if any."""
        logits: Tensor = self.head(state, au_tokens)
        logits = logits if audio_logits is None else logits + audio_logits
        if self.intensity_head is None:
            return HeadOutput(logits, None)
        return HeadOutput(logits, self.intensity_head(state, au_tokens, logits))

    @torch.no_grad()
    def forward_long(
        self,
        embedding: Tensor,
        au_tokens: Tensor,
        frame_s: Tensor,
        audio: AudioInput | None,
        chunk_frames: int = CHUNK_FRAMES,
    ) -> HeadOutput:
        """Compute the output [T, A] of the heads for one track of any length, equal to that of `forward`.

        embedding: [T, d]    au_tokens: [T, A, da]    frame_s: [T] float64, seconds    audio: B = 1, or None
        chunk_frames: frames of a chunk; does not change results
        Memory grows only with the size of the inputs.
        """
        fused = self.fuse_audio(embedding[None], frame_s[None], audio)
        condition, audio_logits = (
            None if each is None else each[0] for each in (fused.audio_condition, fused.audio_logits)
        )  # [T, Da], [T, A]
        state = self.memory.forward_long(fused.x[0], condition, frame_s, chunk_frames)
        return self.classify(state, au_tokens, audio_logits)


class AuscanNetwork(nn.Module):
    """The three stages; a checkpoint contains exactly the weights of this module."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.visual = VisualStage(config)
        self.audio = build_audio_encoder(config.audio)
        self.audio_mix = TokenMix(self.audio.width, token_parts(self.audio), config.alignment.width)
        self.temporal = TemporalStage(config, self.audio_mix.width)
        # With the transformers settings filled in, the network can be rebuilt from the config without the
        # hub. With the number of active patches filled in, it does not depend on the default share.
        self.config = config.model_copy(
            update={
                "visual": with_arch(config.visual, self.visual.encoder),
                "audio": with_arch(config.audio, self.audio),
                "alignment": config.alignment.with_active_count(self.visual.patch_shape[0]),
            }
        )

    def encode_audio(self, waveform: Tensor, level: tuple[float, float] | None = None) -> Tensor:
        """Encode a waveform [B, M] at 16 kHz as tokens [B, M // 320, Da].

        level: mean and standard deviation of the whole audio, for an encoder with normalise: file
        """
        tokens: Tensor = self.audio(waveform) if level is None else self.audio(waveform, level)
        mixed: Tensor = self.audio_mix(tokens)
        return mixed

    def forward(self, crops: Tensor, frame_s: Tensor, audio: AudioInput | None = None) -> Tensor:
        """Compute logits [B, T, A] from crops [B, T, S, S, 3] uint8 at frame_s [B, T] float64 seconds."""
        aligned = self.visual(crops).aligned
        output: HeadOutput = self.temporal(aligned.embedding, aligned.au_tokens, frame_s, audio)
        return output.logits
