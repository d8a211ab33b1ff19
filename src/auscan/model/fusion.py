"""Asymmetric audio-visual cross-attention: each video frame attends to nearby audio tokens.

Speech parts the lips, so AU25 in speech differs from AU25 in a smile. Queries come from the visual stream,
keys and values from audio within `reach_s` of the frame. Only the visual stream is updated. A gate weighs the
update; it is exactly 0 for frames without audio in reach, so these pass unchanged.

Tokens have a fixed rate, so each frame gathers a fixed number of them and the cost is linear in T.

Inputs: visual [B, T, d] at frame times [B, T] in seconds, audio tokens [B, Ta, Da] at times [B, Ta] in
seconds.
Returns: `Fused`; from `audio_at_frames` the audio condition [B, T, Da].
See also: encoders/audio.py (audio tokens), late_path.py (audio to logits), mamba.py (long-range temporal
model).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import MAX_TOKEN_DISTANCE_S, TOKEN_RATE_HZ, FusionConfig

KNOT_SPACING_S = 0.05
"""Spacing of the knots of the learned relative-time bias, seconds; linear between knots."""
PEAK_WIDTH_S = 0.1
"""Width of the relative-time bias at the start: the bias falls by 1 per width. A frame then attends to the
audio around it; a mean over the whole window says little about a mouth (docs/method.md)."""
OPEN_GATE_BIAS = 2.0
"""Bias of the gate at the start; the gate opens to 0.88."""
FRAMES_AT_ONCE = 64
"""Frames whose windows are gathered in one step on a CPU, so that they fit the cache."""


def tokens_before(time_s: Tensor, token_s: Tensor, token_valid: Tensor) -> Tensor:
    """Return the number of tokens before each time: [B, T] int64.

    time_s: [B, T]    token_s: [B, Ta]    token_valid: [B, Ta] bool
    Valid tokens must ascend in time. Invalid ones may have any time; they count as the valid one before them.
    """
    ascending_s = token_s.masked_fill(~token_valid, -torch.inf).cummax(dim=1).values  # [B, Ta], ascending
    return torch.searchsorted(ascending_s, time_s.contiguous())


def take(series: Tensor, index: Tensor) -> Tensor:
    """Gather rows of each clip's series: [B, Ta, ...] at index [B, T, W] -> [B, T, W, ...]."""
    batch, count = series.shape[:2]
    clips = torch.arange(batch, device=series.device)[:, None, None]  # [B, 1, 1]
    if series.dim() == 2:
        return series[clips, index]
    # F.embedding, because its gradient sums rows several times faster than the gradient of indexing.
    return F.embedding(index + clips * count, series.flatten(0, 1))


def audio_at_frames(
    tokens: Tensor, token_s: Tensor, token_valid: Tensor, frame_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Interpolate the audio tokens at each frame's time, linearly between the two neighbours.

    tokens: [B, Ta, Da]    token_s: [B, Ta], frame_s: [B, T] float64 seconds    token_valid: [B, Ta] bool
    A neighbour counts if it is valid and at most `MAX_TOKEN_DISTANCE_S` away. If only one counts, it is
    copied; if none does, the result is 0.
    Returns the audio condition [B, T, Da] and a mask [B, T] bool: True if any neighbour counts.
    """
    if tokens.shape[1] == 0:
        audible = torch.zeros_like(frame_s, dtype=torch.bool)
        return tokens.new_zeros(*frame_s.shape, tokens.shape[2]), audible
    index, weights = _neighbours(token_s, token_valid, frame_s)
    audible = tokens.masked_fill(~token_valid[..., None], 0.0)  # [B, Ta, Da]
    return interpolate(audible, index, weights.to(tokens.dtype)), weights.any(-1)


def interpolate(tokens: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of two tokens: [B, Ta, Da] at index [B, T, 2], weights [B, T, 2] -> [B, T, Da]."""
    return (take(tokens, index) * weights[..., None]).sum(dim=2)


def _neighbours(token_s: Tensor, token_valid: Tensor, frame_s: Tensor) -> tuple[Tensor, Tensor]:
    """Find the tokens before and after each frame: index [B, T, 2] and weights [B, T, 2].

    token_s, token_valid: [B, Ta], Ta >= 1    frame_s: [B, T]
    The weights of a frame sum to 1, or are 0 if no token is near.
    """
    count = token_s.shape[1]
    after = tokens_before(frame_s, token_s, token_valid)[..., None]  # [B, T, 1]
    places = torch.arange(count, device=token_s.device)  # [Ta]
    last_valid = torch.where(token_valid, places, 0).cummax(dim=1).values  # [B, Ta], last valid one so far
    before = take(last_valid, (after - 1).clamp_min(0))  # [B, T, 1]
    index = torch.cat([before, after.clamp_max(count - 1)], dim=-1)  # [B, T, 2], the neighbours
    inside = torch.cat([after > 0, after < count], dim=-1)  # [B, T, 2]
    distance_s = (take(token_s, index) - frame_s[..., None]).abs()  # [B, T, 2]
    near = inside & take(token_valid, index) & (distance_s <= MAX_TOKEN_DISTANCE_S)  # [B, T, 2]
    # Linear interpolation: the weight of a neighbour is proportional to the distance of the other one.
    linear = distance_s.flip(-1) / distance_s.sum(-1, keepdim=True).clamp_min(1e-9)  # [B, T, 2]
    return index, torch.where(near.all(-1, keepdim=True), linear, near.to(linear.dtype))


class Fused(NamedTuple):
    """Output of the fusion for T frames."""

    visual: Tensor
    """Visual stream [B, T, d] after the update."""
    gate: Tensor
    """Gate [B, T] in 0..1, exactly 0 where no valid token is in reach."""
    attended: Tensor
    """Audio that the frames attend to [B, T, d], before the gate; exactly 0 where the gate is."""


class ChannelNorm(nn.Module):
    """Standardise each channel by a stored mean and standard deviation, those of the training data."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        """Standardise tokens [..., Da]."""
        return (tokens - self.mean) / self.std

    def fit(self, tokens: Tensor) -> None:
        """Set mean and standard deviation to those of tokens [n, Da]; a constant channel keeps its scale."""
        if not len(tokens):
            return
        std, mean = torch.std_mean(tokens.double(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


class AttentionWindow(NamedTuple):
    """W tokens around each frame."""

    indices: Tensor
    """Indices of the tokens [B, T, W] int64."""
    audible: Tensor
    """Mask [B, T, W] bool; False beyond the reach, outside the audio and for invalid tokens."""
    offset_s: Tensor
    """Token time minus frame time [B, T, W] in seconds; 0 if not audible."""


class AsymmetricFusion(nn.Module):
    """Gated cross-attention from frames to the audio tokens within a time window."""

    def __init__(self, width: int, audio_width: int, config: FusionConfig) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(
                f"The visual width {width} does not divide into {config.heads} heads; "
                f"choose a number of heads that divides {width}."
            )
        self.heads, self.reach_s = config.heads, config.reach_s
        self.window = math.ceil(2 * config.reach_s * TOKEN_RATE_HZ) + 3
        """Tokens gathered for a frame, W: all within reach and one spare token at each end."""
        self.norm_visual = nn.LayerNorm(width)
        self.norm_audio = nn.LayerNorm(audio_width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(audio_width, width)
        self.value = nn.Linear(audio_width, width)
        knots = 2 * max(1, round(config.reach_s / KNOT_SPACING_S)) + 1
        offset_s = torch.linspace(-config.reach_s, config.reach_s, knots)
        peak = -(offset_s.abs() / PEAK_WIDTH_S)
        self.time_bias = nn.Parameter(peak[:, None].repeat(1, config.heads))
        self.gate = nn.Linear(2 * width, 1)
        nn.init.constant_(self.gate.bias, OPEN_GATE_BIAS)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)  # an untrained network leaves the visual stream unchanged

    def forward(
        self,
        visual: Tensor,
        frame_s: Tensor,
        tokens: Tensor | None = None,
        token_s: Tensor | None = None,
        token_valid: Tensor | None = None,
    ) -> Fused:
        """Update the visual stream from the audio around each frame.

        visual: [B, T, d]    frame_s: [B, T] seconds, float64 like token_s (float32 is too coarse after hours)
        tokens: [B, Ta, Da]    token_s: [B, Ta] seconds, ascending for valid tokens    token_valid: [B, Ta]
        bool
        Pass None for all three if there is no audio. Invalid tokens may have any value.
        """
        if tokens is None or token_s is None or token_valid is None or tokens.shape[1] == 0:
            return Fused(visual, visual.new_zeros(visual.shape[:2]), torch.zeros_like(visual))
        key, value = self.project_keys_values(tokens.masked_fill(~token_valid[..., None], 0.0))
        # Start one token early: rounding may put a token at the edge of the reach on either side.
        first = tokens_before(frame_s - self.reach_s, token_s, token_valid) - 1  # [B, T]
        # On a GPU one large step is faster than many that fit a cache.
        at_once = FRAMES_AT_ONCE if visual.device.type == "cpu" else max(1, visual.shape[1])
        chunks = zip(*(torch.split(each, at_once, 1) for each in (visual, frame_s, first)), strict=True)
        outputs = [
            self.attend(chunk, self._window(chunk_s, chunk_first, token_s, token_valid), key, value)
            for chunk, chunk_s, chunk_first in chunks
        ]
        return Fused(*(torch.cat(each, dim=1) for each in zip(*outputs, strict=True)))

    def project_keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project audio tokens [B, Ta, Da] to keys and values [B, Ta, d]."""
        normed = self.norm_audio(tokens)  # [B, Ta, Da]
        return self.key(normed), self.value(normed)

    def attend(self, visual: Tensor, window: AttentionWindow, key: Tensor, value: Tensor) -> Fused:
        """Attend from frames [B, T, d] to keys and values [B, Ta, d]."""
        indices, audible, offset_s = window
        keys, values = take(key, indices), take(value, indices)  # [B, T, W, d] each
        # Each head has a query with 0 in the channels of the other heads, and keeps its own channels of the
        # result. Splitting keys and values by heads would copy the large windows.
        width = visual.shape[-1] // self.heads
        identity = torch.eye(self.heads, dtype=keys.dtype, device=keys.device)
        head_mask = identity.repeat_interleave(width, 1)  # [heads, d]
        normed = self.norm_visual(visual)  # [B, T, d]
        # Scaled before the product, which could overflow in float16.
        query = (self.query(normed) * width**-0.5)[..., None, :] * head_mask  # [B, T, heads, d]
        scores = (keys @ query.transpose(2, 3)).transpose(2, 3)  # [B, T, heads, W]
        scores = scores + self._bias(offset_s).to(scores.dtype)
        # The lowest finite number, since -inf would give NaN for a frame without audible tokens.
        scores = scores.masked_fill(~audible[:, :, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)  # [B, T, heads, W], exactly 0 if masked and another token is audible
        attended = (weights.to(values.dtype) @ values * head_mask).sum(2)  # [B, T, d]

        any_audible = audible.any(-1)  # [B, T]
        gate = torch.sigmoid(self.gate(torch.cat([normed, attended], dim=-1))).squeeze(-1)  # [B, T]
        gate = gate.masked_fill(~any_audible, 0.0)
        update = (gate[..., None] * self.out(attended)).masked_fill(~any_audible[..., None], 0.0)  # [B, T, d]
        return Fused(visual + update, gate, attended.masked_fill(~any_audible[..., None], 0.0))

    def _window(
        self, frame_s: Tensor, first: Tensor, token_s: Tensor, token_valid: Tensor
    ) -> AttentionWindow:
        """Return the windows of frames.

        frame_s: [B, T] seconds    first: [B, T] index of the first token    token_s, token_valid: [B, Ta]
        """
        count = token_s.shape[1]
        index = first[..., None] + torch.arange(self.window, device=first.device)  # [B, T, W]
        inside = (index >= 0) & (index < count)
        index = index.clamp(0, count - 1)
        offset_s = take(token_s, index) - frame_s[..., None]  # [B, T, W]
        audible = inside & take(token_valid, index) & (offset_s.abs() <= self.reach_s)
        return AttentionWindow(index, audible, offset_s.masked_fill(~audible, 0.0))

    def _bias(self, offset_s: Tensor) -> Tensor:
        """Return the learned relative-time bias of each head: offsets [B, T, W] s -> [B, T, heads, W]."""
        last = self.time_bias.shape[0] - 1
        knot = (offset_s / self.reach_s + 1.0) * (last / 2)  # [B, T, W], 0..last
        low = knot.floor().clamp(0, last - 1)
        share = (knot - low)[..., None].to(self.time_bias.dtype)  # [B, T, W, 1]
        low = low.long()
        bias = torch.lerp(self.time_bias[low], self.time_bias[low + 1], share)  # [B, T, W, heads]
        return bias.transpose(2, 3)
