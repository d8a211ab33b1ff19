"""What the parts of the method are held against: other parts at their places, with as many weights.

Each takes the place, and the arguments, of one part of the network, so that everything around it stays:

    GlobalView                          of GranularityAlignment    the global token alone
    ConcatFusion, SymmetricFusion, NoFusion   of AsymmetricFusion
    Tcn, LocalTransformer, BiGru, FrameByFrame   of BiMamba; all of them hear the guide

A control's inner width is chosen so that it has about as many weights as the part whose place it takes
(`matched`); only "no fusion" has none.

In: the part's sizes and a `ControlConfig`.  Out: modules.
Not here: the parts themselves (model/), the network around them (module.py).
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.aus import AU_COUNT
from auscan.core.config import AlignmentConfig, FusionConfig, NetworkConfig, TemporalConfig
from auscan.model.alignment import Aligned, GranularityAlignment
from auscan.model.fusion import AsymmetricFusion, audio_at_frames
from auscan.model.mamba import BiMamba
from auscan.model.network import Sound, TemporalStage
from auscan.training.config import ControlConfig

REACH: Final = 64
"""Frames that the windowed transformer sees to either side, in each of its blocks."""
KERNEL: Final = 5
"""Frames under a filter of the TCN."""
LARGEST: Final = 1 << 14
"""No control gets wider inside."""


def weight_count(module: nn.Module) -> int:
    """How many weights a module has."""
    return sum(weight.numel() for weight in module.parameters())


def matched(build: Callable[[int], nn.Module], target: int, step: int = 8) -> nn.Module:
    """build(width) with the width, a multiple of `step`, whose count of weights comes nearest to `target`."""

    def count(width: int) -> int:
        with torch.device("meta"):  # shapes without weights
            return weight_count(build(width))

    low, high = 1, LARGEST // step
    while low < high:  # the narrowest that has enough
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle * step) >= target else (middle + 1, high)
    near = [width for width in ((low - 1) * step, low * step) if width > 0]
    return build(min(near, key=lambda width: abs(count(width) - target)))


class GlobalView(nn.Module):
    """The place of alignment: frame embedding and AU tokens from the global token, patches unread."""

    def __init__(self, token_width: int, config: AlignmentConfig, hidden: int) -> None:
        super().__init__()
        self.au_width = config.au_width
        self.face = nn.Sequential(
            nn.Linear(token_width, hidden), nn.GELU(), nn.Linear(hidden, config.width), nn.GELU()
        )
        self.expect = nn.Linear(config.width, AU_COUNT * config.au_width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, face: Tensor, patches: Tensor, previous: Tensor | None = None) -> Aligned:
        """face [B, T, Dv] -> Aligned; its weights and gates are 0 and its two views are the same."""
        g = self.face(face)  # [B, T, d]
        au_tokens = self.expect(g).unflatten(-1, (AU_COUNT, self.au_width))  # [B, T, A, da]
        view = F.normalize(g, dim=-1)
        nothing = face.new_zeros(*patches.shape[:3])  # [B, T, N]
        unread = nothing[:, :, None, None].expand(-1, -1, AU_COUNT, 1, -1)  # [B, T, A, 1, N]
        gates = face.new_zeros(*au_tokens.shape[:3])
        return Aligned(self.norm(g), au_tokens, nothing, gates, unread, view, view)


class NoFusion(nn.Module):
    """The place of fusion: the face stays as it is."""

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """visual [B, T, d] and a gate [B, T] of 0."""
        return visual, visual.new_zeros(visual.shape[:2])


class ConcatFusion(nn.Module):
    """The place of fusion: each frame's face and voice side by side, through two layers."""

    def __init__(self, width: int, audio_width: int, hidden: int) -> None:
        super().__init__()
        self.norm_visual, self.norm_audio = nn.LayerNorm(width), nn.LayerNorm(audio_width)
        self.mix = nn.Sequential(nn.Linear(width + audio_width, hidden), nn.GELU())
        self.out = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """visual [B, T, d] updated, and a gate [B, T]: 1 where something is heard."""
        voice, heard = audio_at_frames(tokens, token_s, token_valid, frame_s)  # [B, T, Da], [B, T]
        mixed = self.mix(torch.cat([self.norm_visual(visual), self.norm_audio(voice)], dim=-1))
        # As in the method, the face stays as it is where nothing is heard.
        return visual + self.out(mixed).masked_fill(~heard[..., None], 0.0), heard.to(visual.dtype)


class SymmetricFusion(nn.Module):
    """The place of fusion: the face asks the voice and the voice the face, through narrow doors."""

    def __init__(self, width: int, audio_width: int, config: FusionConfig, narrow: int) -> None:
        super().__init__()
        self.face_in, self.voice_in = nn.Linear(width, narrow), nn.Linear(audio_width, narrow)
        self.face_asks = AsymmetricFusion(narrow, narrow, config)
        self.voice_asks = AsymmetricFusion(narrow, narrow, config)
        self.face_out = nn.Linear(narrow, width, bias=False)
        self.voice_out = nn.Linear(narrow, audio_width, bias=False)

    def both(self, visual: Tensor, frame_s: Tensor, sound: Sound) -> tuple[Tensor, Tensor, Tensor]:
        """Face [B, T, d] and voice [B, Ta, Da], both updated, and the gate of the face [B, T]."""
        face, voice = self.face_in(visual), self.voice_in(sound.tokens)
        everywhere = torch.ones_like(frame_s, dtype=torch.bool)
        new_face, gate = self.face_asks(face, frame_s, voice, sound.times_s, sound.valid)
        new_voice, _ = self.voice_asks(voice, sound.times_s, face, frame_s, everywhere)
        return (
            visual + self.face_out(new_face - face),
            sound.tokens + self.voice_out(new_voice - voice),
            gate,
        )

    def forward(
        self, visual: Tensor, frame_s: Tensor, tokens: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """visual [B, T, d] updated and its gate [B, T], as of AsymmetricFusion."""
        face, _, gate = self.both(visual, frame_s, Sound(tokens, token_s, token_valid))
        return face, gate


class _Memory(nn.Module):
    """What the controls of the memory share: the guide, padding, and whole tracks at once."""

    def __init__(self, width: int, guide_width: int) -> None:
        super().__init__()
        self.guide_proj = nn.Linear(guide_width, width, bias=False)

    def forward(
        self, x: Tensor, guide: Tensor | None, times_s: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """[B, T, d], [B, T, g] or None, [B, T] s, [B, T] bool (padding at the end) -> [B, T, d]."""
        valid = torch.ones_like(times_s, dtype=torch.bool) if valid is None else valid
        x = x if guide is None else x + self.guide_proj(guide)
        return self.remember(x.masked_fill(~valid[..., None], 0.0), valid)

    def remember(self, x: Tensor, valid: Tensor) -> Tensor:
        """[B, T, d], 0 where it is not valid, [B, T] bool -> [B, T, d]."""
        raise NotImplementedError

    @torch.no_grad()
    def run_long(self, x: Tensor, guide: Tensor | None, times_s: Tensor, chunk: int = 2048) -> Tensor:
        """One track of any length: [T, d], [T, g], [T] s -> [T, d]; no state is carried."""
        return self(x[None], None if guide is None else guide[None], times_s[None])[0]  # type: ignore[no-any-return]


class FrameByFrame(_Memory):
    """No memory: two layers a block on each frame alone."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__(width, guide_width)
        self.blocks = nn.ModuleList(_feed_forward(width, hidden) for _ in range(config.blocks))

    def remember(self, x: Tensor, valid: Tensor) -> Tensor:
        """As `_Memory` has it."""
        for block in self.blocks:
            x = x + block(x)
        return x


class Tcn(_Memory):
    """Convolutions over time in both directions, each block twice as wide in its reach."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__(width, guide_width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in range(2 * config.blocks))
        self.convs = nn.ModuleList(
            nn.Conv1d(width, hidden, KERNEL, padding=2 * 2**i, dilation=2**i)
            for i in range(2 * config.blocks)
        )
        self.outs = nn.ModuleList(_quiet(nn.Linear(hidden, width, bias=False)) for _ in self.convs)

    def remember(self, x: Tensor, valid: Tensor) -> Tensor:
        """As `_Memory` has it."""
        blank = ~valid[..., None]
        for norm, conv, out in zip(self.norms, self.convs, self.outs, strict=True):
            series = norm(x).masked_fill(blank, 0.0).transpose(1, 2)  # [B, d, T]
            x = x + out(F.gelu(conv(series)).transpose(1, 2))
        return x


class BiGru(_Memory):
    """Gated recurrent units in both directions."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__(width, guide_width)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.cells = nn.GRU(width, hidden, config.blocks, batch_first=True, bidirectional=True)
        self.out = _quiet(nn.Linear(2 * hidden, width, bias=False))

    def remember(self, x: Tensor, valid: Tensor) -> Tensor:
        """As `_Memory` has it."""
        lengths = valid.sum(1).clamp_min(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.norm(x), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.cells(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        out: Tensor = x + self.out(states)
        return out


class LocalTransformer(_Memory):
    """Attention to the frames within `REACH` on either side; the cost is linear in T."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig, hidden: int) -> None:
        super().__init__(width, guide_width)
        self.attentions = nn.ModuleList(
            _LocalAttention(width, width // config.head_width) for _ in range(config.blocks)
        )
        self.feeds = nn.ModuleList(_feed_forward(width, hidden) for _ in range(config.blocks))

    def remember(self, x: Tensor, valid: Tensor) -> Tensor:
        """As `_Memory` has it."""
        for attention, feed in zip(self.attentions, self.feeds, strict=True):
            x = x + attention(x, valid)
            x = x + feed(x)
        return x


class _LocalAttention(nn.Module):
    """Every stretch of REACH frames asks itself and the stretches before and after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = max(1, heads)
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * REACH + 1))
        self.out = _quiet(nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """[B, T, d], [B, T] bool -> the update [B, T, d]."""
        frames = x.shape[1]
        missing = -frames % REACH
        series = F.pad(self.project(self.norm(x)), (0, 0, 0, missing))  # [B, K R, 3 d]
        query, key, value = (
            each.unflatten(1, (-1, REACH)).unflatten(-1, (self.heads, -1)).transpose(2, 3)
            for each in series.chunk(3, dim=-1)
        )  # [B, K, heads, R, c]
        key, value = _with_neighbours(key, dim=3), _with_neighbours(value, dim=3)  # [B, K, heads, 3 R, c]
        blocks = F.pad(valid, (0, missing)).unflatten(1, (-1, REACH))  # [B, K, R]
        there = _with_neighbours(blocks[:, :, None], dim=3)  # [B, K, 1, 3 R]
        places = torch.arange(REACH, device=x.device)
        offset = torch.arange(3 * REACH, device=x.device) - REACH - places[:, None]  # [R, 3 R]
        bias = self.bias[:, (offset + REACH).clamp(0, 2 * REACH)]  # [heads, R, 3 R]
        allowed = (offset.abs() <= REACH) & there[..., None, :]  # [B, K, 1, R, 3 R]
        # The lowest number rather than -inf: a stretch of padding must not become NaN.
        mask = torch.where(allowed, bias.to(query.dtype), torch.finfo(query.dtype).min)
        answer = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # [B, K, heads, R, c]
        joined = answer.transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames]  # [B, T, d]
        update: Tensor = self.out(joined)
        return update


def _with_neighbours(blocks: Tensor, dim: int) -> Tensor:
    """[B, K, ...] -> the same with the stretches before and after joined along `dim`, zeros at the ends."""
    nothing = torch.zeros_like(blocks[:, :1])
    before = torch.cat([nothing, blocks[:, :-1]], dim=1)
    after = torch.cat([blocks[:, 1:], nothing], dim=1)
    return torch.cat([before, blocks, after], dim=dim)


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.RMSNorm(width, eps=1e-5),
        nn.Linear(width, hidden),
        nn.GELU(),
        _quiet(nn.Linear(hidden, width, bias=False)),
    )


def _quiet(layer: nn.Linear) -> nn.Linear:
    """A layer that adds nothing at first, as the parts of the method do."""
    nn.init.zeros_(layer.weight)
    return layer


class ControlledStage(TemporalStage):
    """Everything over time, with the parts that `controls` asks for."""

    def __init__(self, config: NetworkConfig, audio_width: int, controls: ControlConfig) -> None:
        super().__init__(config, audio_width)
        self.guided = controls.guide == "audio"
        self.add_module("fusion", build_fusion(config, audio_width, controls, weight_count(self.fusion)))
        self.add_module("memory", build_memory(config, audio_width, controls, weight_count(self.memory)))

    def hear(self, embedding: Tensor, frame_s: Tensor, sound: Sound | None) -> tuple[Tensor, Tensor | None]:
        """As in TemporalStage; the guide is None where the memory is not to be guided."""
        fusion: nn.Module = self.fusion
        if sound is None or not isinstance(fusion, SymmetricFusion):
            updated, guide = super().hear(embedding, frame_s, sound)
            return updated, guide if self.guided else None
        updated, voice, _ = fusion.both(embedding, frame_s, sound)
        guide, _ = audio_at_frames(voice, sound.times_s, sound.valid, frame_s)
        return updated, guide if self.guided else None


def build_alignment(
    token_width: int, patch_count: int, config: AlignmentConfig, controls: ControlConfig
) -> nn.Module:
    """The part that reads one frame."""
    alignment = GranularityAlignment(token_width, patch_count, config)
    if controls.visual == "alignment":
        return alignment
    return matched(lambda hidden: GlobalView(token_width, config, hidden), weight_count(alignment))


def build_fusion(config: NetworkConfig, audio_width: int, controls: ControlConfig, budget: int) -> nn.Module:
    """The part in which face and voice meet."""
    width = config.alignment.width
    if controls.fusion == "asymmetric":
        return AsymmetricFusion(width, audio_width, config.fusion)
    if controls.fusion == "concat":
        return matched(lambda hidden: ConcatFusion(width, audio_width, hidden), budget)
    if controls.fusion == "symmetric":
        heads = config.fusion.heads
        return matched(
            lambda narrow: SymmetricFusion(width, audio_width, config.fusion, narrow), budget, step=heads
        )
    return NoFusion()


def build_memory(config: NetworkConfig, audio_width: int, controls: ControlConfig, budget: int) -> nn.Module:
    """The part that remembers."""
    width, temporal = config.alignment.width, config.temporal
    if controls.temporal == "mamba":
        return BiMamba(width, audio_width, temporal)
    kinds = {"tcn": Tcn, "transformer": LocalTransformer, "bigru": BiGru, "none": FrameByFrame}
    kind = kinds[controls.temporal]
    return matched(lambda hidden: kind(width, audio_width, temporal, hidden), budget)
