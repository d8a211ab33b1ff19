"""Replace parts of the network by control models with as many weights.

A control has the place and the arguments of one part of the network, so the rest of the network is unchanged:

    GlobalTokenAlignment                         of GranularityAlignment; uses the global token alone
    ConcatFusion, SymmetricFusion, NoFusion      of AsymmetricFusion
    Tcn, LocalTransformer, BiGru, FramewiseMlp   of BiMamba; their input has the audio condition added

The inner width of a control is chosen so that it has about as many weights as the part it replaces
(`match_parameter_count`). `NoFusion` has none.

Inputs: the sizes of the part and a `ControlConfig`. Returns: modules.
See also: model/ (the parts), module.py (the network around them).
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import AlignmentConfig, FusionConfig, NetworkConfig, TemporalConfig
from auscan.model.alignment import AlignmentOutput, GranularityAlignment
from auscan.model.fusion import AsymmetricFusion, Fused, audio_at_frames
from auscan.model.mamba import CHUNK_FRAMES, BiMamba
from auscan.model.network import AudioInput, TemporalStage, TorchFusedFrames
from auscan.training.config import ControlConfig

ATTENTION_REACH: Final = 64
"""Frames on either side that a block of the local transformer attends to."""
KERNEL_FRAMES: Final = 5
"""Frames under a filter of the TCN."""
CLOSED_GATE_LOGIT: Final = -1e4
"""Logit of a gate without regions; its sigmoid is 0."""
MAX_WIDTH: Final = 1 << 14
"""Largest inner width of a control."""


def parameter_count(module: nn.Module) -> int:
    """Return the number of weights of a module."""
    return sum(weight.numel() for weight in module.parameters())


def match_parameter_count(build: Callable[[int], nn.Module], target: int, step: int = 8) -> nn.Module:
    """Return build(width) for the multiple of `step` whose number of weights is nearest to `target`."""

    def count(width: int) -> int:
        with torch.device("meta"):  # shapes without weights
            return parameter_count(build(width))

    low, high = 1, MAX_WIDTH // step
    while low < high:  # the smallest width that has at least `target` weights
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle * step) >= target else (middle + 1, high)
    candidates = [width for width in ((low - 1) * step, low * step) if width > 0]
    return build(min(candidates, key=lambda width: abs(count(width) - target)))


class GlobalTokenAlignment(nn.Module):
    """Replacement of alignment: frame embedding and AU tokens from the global token; patches are ignored."""

    def __init__(self, token_width: int, config: AlignmentConfig, au_count: int, hidden: int) -> None:
        super().__init__()
        self.au_width = config.au_width
        self.face = nn.Sequential(
            nn.Linear(token_width, hidden), nn.GELU(), nn.Linear(hidden, config.width), nn.GELU()
        )
        self.expect = nn.Linear(config.width, au_count * config.au_width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, face: Tensor, patches: Tensor, previous: Tensor | None = None) -> AlignmentOutput:
        """face [B, T, Dv] -> AlignmentOutput with closed gates, patch weights and local features of 0."""
        g = self.face(face)  # [B, T, d]
        au_tokens = self.expect(g).unflatten(-1, (-1, self.au_width))  # [B, T, A, da]
        zeros = face.new_zeros(*patches.shape[:3])  # [B, T, N]
        attention = zeros[:, :, None, None].expand(-1, -1, au_tokens.shape[2], 1, -1)  # [B, T, A, 1, N]
        closed = face.new_full(au_tokens.shape[:3], CLOSED_GATE_LOGIT)  # [B, T, A]
        no_local = torch.zeros_like(au_tokens)
        return AlignmentOutput(self.norm(g), au_tokens, zeros, closed, attention, g, no_local)


class NoFusion(nn.Module):
    """Replacement of fusion: returns the visual stream unchanged."""

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> Fused:
        """Return visual [B, T, d], a gate [B, T] of 0 and no attended audio."""
        return Fused(visual, visual.new_zeros(visual.shape[:2]), torch.zeros_like(visual))


class ConcatFusion(nn.Module):
    """Replacement of fusion: concatenates visual and audio features of each frame, then two layers."""

    def __init__(self, width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.norm_visual, self.norm_audio = nn.LayerNorm(width), nn.LayerNorm(audio_width)
        self.mix = nn.Sequential(nn.Linear(width + audio_width, hidden), nn.GELU())
        self.out = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> Fused:
        """Return the updated visual [B, T, d] and a gate [B, T] of 1 for frames with audio."""
        audio, audible = audio_at_frames(tokens, token_s, token_valid, frame_s)  # [B, T, Da], [B, T]
        mixed = self.mix(torch.cat([self.norm_visual(visual), self.norm_audio(audio)], dim=-1))
        # As in the method, frames without audio pass through unchanged.
        update = self.out(mixed).masked_fill(~audible[..., None], 0.0)
        return Fused(visual + update, audible.to(visual.dtype), torch.zeros_like(visual))


class SymmetricFusion(nn.Module):
    """Replacement of fusion: cross-attention of face and audio in both directions, at a smaller width."""

    def __init__(self, width: int, audio_width: int, config: FusionConfig, inner_width: int) -> None:
        super().__init__()
        self.face_in, self.audio_in = nn.Linear(width, inner_width), nn.Linear(audio_width, inner_width)
        self.face_attention = AsymmetricFusion(inner_width, inner_width, config)
        self.audio_attention = AsymmetricFusion(inner_width, inner_width, config)
        self.face_out = nn.Linear(inner_width, width, bias=False)
        self.audio_out = nn.Linear(inner_width, audio_width, bias=False)

    def update_both(self, visual: Tensor, frame_s: Tensor, audio: AudioInput) -> tuple[Fused, Tensor]:
        """Return the updated face, without attended audio, and the updated audio [B, Ta, Da]."""
        face, tokens = self.face_in(visual), self.audio_in(audio.tokens)
        all_valid = torch.ones_like(frame_s, dtype=torch.bool)
        new_face = self.face_attention(face, frame_s, tokens, audio.times_s, audio.valid)
        new_tokens = self.audio_attention(tokens, audio.times_s, face, frame_s, all_valid).visual
        visual = visual + self.face_out(new_face.visual - face)
        fused = Fused(visual, new_face.gate, torch.zeros_like(visual))
        return fused, audio.tokens + self.audio_out(new_tokens - tokens)

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> Fused:
        """Return the updated visual [B, T, d] and its gate [B, T], as AsymmetricFusion."""
        return self.update_both(visual, frame_s, AudioInput(tokens, token_s, token_valid))[0]


class _TemporalControl(nn.Module):
    """Base of the temporal controls: padding, and whole tracks in one call.

    Their input has the audio condition added (`TemporalStage.add_audio`), as that of BiMamba.
    """

    def forward(
        self, x: Tensor, audio_condition: Tensor | None, times_s: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """[B, T, d], [B, T, Da] or None, [B, T] s, [B, T] bool (padding at the end) -> [B, T, d]."""
        valid = torch.ones_like(times_s, dtype=torch.bool) if valid is None else valid
        return self.mix_frames(x.masked_fill(~valid[..., None], 0.0), valid)

    def mix_frames(self, x: Tensor, valid: Tensor) -> Tensor:
        """Mix frames over time: [B, T, d], 0 in padding, and valid [B, T] bool -> [B, T, d]."""
        raise NotImplementedError

    @torch.no_grad()
    def forward_long(
        self, x: Tensor, audio_condition: Tensor | None, times_s: Tensor, chunk_frames: int = CHUNK_FRAMES
    ) -> Tensor:
        """One track of any length: [T, d], [T, Da], [T] s -> [T, d]. No state is carried."""
        condition = None if audio_condition is None else audio_condition[None]  # [1, T, Da]
        return self(x[None], condition, times_s[None])[0]  # type: ignore[no-any-return]


class FramewiseMlp(_TemporalControl):
    """Replacement of the temporal model without memory: two layers a block on each frame alone."""

    def __init__(self, width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_feed_forward(width, hidden) for _ in range(config.blocks))

    def mix_frames(self, x: Tensor, valid: Tensor) -> Tensor:
        """See `_TemporalControl.mix_frames`."""
        for block in self.blocks:
            x = x + block(x)
        return x


class Tcn(_TemporalControl):
    """Convolutions over time in both directions; the dilation doubles from layer to layer."""

    def __init__(self, width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in range(2 * config.blocks))
        self.convs = nn.ModuleList(
            nn.Conv1d(width, hidden, KERNEL_FRAMES, padding=2 * 2**i, dilation=2**i)
            for i in range(2 * config.blocks)
        )
        self.outs = nn.ModuleList(_zero_init(nn.Linear(hidden, width, bias=False)) for _ in self.convs)

    def mix_frames(self, x: Tensor, valid: Tensor) -> Tensor:
        """See `_TemporalControl.mix_frames`."""
        padding = ~valid[..., None]
        for norm, conv, out in zip(self.norms, self.convs, self.outs, strict=True):
            series = norm(x).masked_fill(padding, 0.0).transpose(1, 2)  # [B, d, T]
            x = x + out(F.gelu(conv(series)).transpose(1, 2))
        return x


class BiGru(_TemporalControl):
    """Gated recurrent units in both directions."""

    def __init__(self, width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.cells = nn.GRU(width, hidden, config.blocks, batch_first=True, bidirectional=True)
        self.out = _zero_init(nn.Linear(2 * hidden, width, bias=False))

    def mix_frames(self, x: Tensor, valid: Tensor) -> Tensor:
        """See `_TemporalControl.mix_frames`."""
        lengths = valid.sum(1).clamp_min(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.norm(x), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.cells(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        out: Tensor = x + self.out(states)
        return out


class LocalTransformer(_TemporalControl):
    """Attention to the frames within `ATTENTION_REACH` on either side; the cost is linear in T."""

    def __init__(self, width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            _LocalAttention(width, width // config.head_width) for _ in range(config.blocks)
        )
        self.feeds = nn.ModuleList(_feed_forward(width, hidden) for _ in range(config.blocks))

    def mix_frames(self, x: Tensor, valid: Tensor) -> Tensor:
        """See `_TemporalControl.mix_frames`."""
        for attention, feed in zip(self.attentions, self.feeds, strict=True):
            x = x + attention(x, valid)
            x = x + feed(x)
        return x


class _LocalAttention(nn.Module):
    """Attention in blocks of ATTENTION_REACH frames: each block attends to itself and to both adjacent
    blocks.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = max(1, heads)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * ATTENTION_REACH + 1))
        self.out = _zero_init(nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """[B, T, d], valid [B, T] bool -> the update [B, T, d]."""
        frames = x.shape[1]
        missing = -frames % ATTENTION_REACH
        series = F.pad(self.project(self.norm(x)), (0, 0, 0, missing))  # [B, K R, 3 d]
        query, key, value = (
            each.unflatten(1, (-1, ATTENTION_REACH)).unflatten(-1, (self.heads, -1)).transpose(2, 3)
            for each in series.chunk(3, dim=-1)
        )  # [B, K, heads, R, c]
        key, value = (_with_adjacent_blocks(each, dim=3) for each in (key, value))  # [B, K, heads, 3 R, c]
        blocks = F.pad(valid, (0, missing)).unflatten(1, (-1, ATTENTION_REACH))  # [B, K, R]
        key_valid = _with_adjacent_blocks(blocks[:, :, None], dim=3)  # [B, K, 1, 3 R]
        query_place = torch.arange(ATTENTION_REACH, device=x.device)
        key_place = torch.arange(3 * ATTENTION_REACH, device=x.device) - ATTENTION_REACH
        offset = key_place - query_place[:, None]  # [R, 3 R]
        bias = self.bias[:, (offset + ATTENTION_REACH).clamp(0, 2 * ATTENTION_REACH)]  # [heads, R, 3 R]
        allowed = (offset.abs() <= ATTENTION_REACH) & key_valid[..., None, :]  # [B, K, 1, R, 3 R]
        # The lowest number rather than -inf: a block of padding must not become NaN.
        mask = torch.where(allowed, bias.to(query.dtype), torch.finfo(query.dtype).min)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # [B, K, heads, R, c]
        joined = attended.transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames]  # [B, T, d]
        update: Tensor = self.out(joined)
        return update


def _with_adjacent_blocks(blocks: Tensor, dim: int) -> Tensor:
    """[B, K, ...] -> the same with the blocks before and after joined along `dim`, zeros at the ends."""
    zeros = torch.zeros_like(blocks[:, :1])
    before = torch.cat([zeros, blocks[:, :-1]], dim=1)
    after = torch.cat([blocks[:, 1:], zeros], dim=1)
    return torch.cat([before, blocks, after], dim=dim)


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.RMSNorm(width, eps=1e-5),
        nn.Linear(width, hidden),
        nn.GELU(),
        _zero_init(nn.Linear(hidden, width, bias=False)),
    )


def _zero_init(layer: nn.Linear) -> nn.Linear:
    """Set the weights to 0, so that the layer adds nothing at first, as in the parts of the method."""
    nn.init.zeros_(layer.weight)
    return layer


class ControlledTemporalStage(TemporalStage):
    """Temporal stage with the parts selected by `controls`."""

    def __init__(self, config: NetworkConfig, audio_width: int, controls: ControlConfig) -> None:
        super().__init__(config, audio_width)
        self.audio_conditioned, self.has_late_path = controls.guide == "audio", controls.late_path
        self.add_module("fusion", build_fusion(config, audio_width, controls, parameter_count(self.fusion)))
        self.add_module("memory", build_memory(config, audio_width, controls, parameter_count(self.memory)))
        if not self.has_late_path:  # weights that are not used would have no gradient
            self.late_path.requires_grad_(False)
        if not self.audio_conditioned:
            for name, weight in self.named_parameters():
                weight.requires_grad_("audio_condition" not in name and weight.requires_grad)

    def fuse_audio(self, embedding: Tensor, frame_s: Tensor, audio: AudioInput | None) -> TorchFusedFrames:
        """As TemporalStage.fuse_audio; symmetric fusion updates the audio as well."""
        fusion: nn.Module = self.fusion
        if audio is None or not isinstance(fusion, SymmetricFusion):
            return super().fuse_audio(embedding, frame_s, audio)
        audio = AudioInput(self.norm_audio(audio.tokens), audio.times_s, audio.valid)
        fused, tokens = fusion.update_both(embedding, frame_s, audio)
        audio_condition, _ = audio_at_frames(tokens, audio.times_s, audio.valid, frame_s)
        return self.add_audio(embedding, fused.visual, fused.attended, audio_condition)

    def add_audio(
        self, embedding: Tensor, visual: Tensor, attended: Tensor, audio_condition: Tensor
    ) -> TorchFusedFrames:
        """As TemporalStage.add_audio, without the parts that the config switches off."""
        fused = super().add_audio(embedding, visual, attended, audio_condition)
        audio_logits = fused.audio_logits if self.has_late_path else None
        if not self.audio_conditioned:
            return TorchFusedFrames(visual, None, audio_logits)
        return fused._replace(audio_logits=audio_logits)


def build_alignment(
    token_width: int, patch_count: int, config: AlignmentConfig, au_count: int, controls: ControlConfig
) -> nn.Module:
    """Build the part that encodes one frame."""
    if controls.visual == "all":
        config = config.model_copy(update={"active_patches": patch_count})
    alignment = GranularityAlignment(token_width, patch_count, config, au_count)
    if controls.visual != "global":
        return alignment
    return match_parameter_count(
        lambda hidden: GlobalTokenAlignment(token_width, config, au_count, hidden), parameter_count(alignment)
    )


def build_fusion(config: NetworkConfig, audio_width: int, controls: ControlConfig, budget: int) -> nn.Module:
    """Build the part that fuses face and audio."""
    width = config.alignment.width
    if controls.fusion == "asymmetric":
        return AsymmetricFusion(width, audio_width, config.fusion)
    if controls.fusion == "concat":
        return match_parameter_count(lambda hidden: ConcatFusion(width, audio_width, hidden), budget)
    if controls.fusion == "symmetric":
        heads = config.fusion.heads
        return match_parameter_count(
            lambda inner_width: SymmetricFusion(width, audio_width, config.fusion, inner_width),
            budget,
            step=heads,
        )
    return NoFusion()


def build_memory(config: NetworkConfig, audio_width: int, controls: ControlConfig, budget: int) -> nn.Module:
    """Build the temporal model."""
    width, temporal = config.alignment.width, config.temporal
    if controls.temporal == "mamba":
        return BiMamba(width, audio_width, temporal)
    controls_by_name = {"tcn": Tcn, "transformer": LocalTransformer, "bigru": BiGru, "none": FramewiseMlp}
    kind = controls_by_name[controls.temporal]
    return match_parameter_count(lambda hidden: kind(width, temporal, hidden), budget)
