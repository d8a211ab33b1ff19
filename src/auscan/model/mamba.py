"""Remember the face over minutes, in both directions of time, guided by the voice.

A frame's action units are read against what the same face did before and after: a resting face with
low brows is no AU 4. Each block sweeps a selective state space over the frames forward and backward;
what a sweep writes into its memory, reads from it and forgets (B, C and dt) depends on the visual and
on the audio token. Where nothing is heard the audio token is 0 and the plain selective scan remains.

In: x [B, T, d], guide [B, T, g] (audio at the frames' times, 0 where there is none), times [B, T] s.
Out: x [B, T, d].  Cost is linear in T; with a carried state, memory does not grow with T at all.
Not here: the scan itself (scan.py), bringing audio tokens to frame times (fusion.py).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import CLOCK_HZ, LONGEST_GAP, TemporalConfig
from auscan.model.scan import scan_chunked

SHORTEST_SPAN, LONGEST_SPAN = 3.0, 1800.0
"""Memory of the quickest and the slowest head before training, in thirtieths: 0.1 s and one minute."""


class ScanState(NamedTuple):
    """What one direction carries from one stretch of frames to the next."""

    tail: Tensor
    """[B, conv_width - 1, channels] the last inputs of the short convolution."""
    memory: Tensor
    """[B, H, P, N] the state of the scan."""


def elapsed_frames(times_s: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Time since the previous frame, and until the next one, in 1/30 s: two tensors [B, T].

    times_s: [B, T] seconds, float64 (float32 loses the frame interval within hours), ascending
    valid: [B, T] bool, False for padding; None if every frame counts
    Clamped to [0, 30].  A frame without a neighbour on that side gets 1.
    """
    gaps = ((times_s[:, 1:] - times_s[:, :-1]) * CLOCK_HZ).clamp(0.0, LONGEST_GAP)  # [B, T - 1]
    if valid is not None:
        gaps = gaps.masked_fill(~(valid[:, 1:] & valid[:, :-1]), 1.0)
    one = torch.ones_like(times_s[:, :1])  # [B, 1]
    return torch.cat([one, gaps], dim=1), torch.cat([gaps, one], dim=1)


class SelectiveScan(nn.Module):
    """One direction: project, convolve shortly, scan, gate, project back.

    dt is multiplied by the time that passed, so that the memory lives in seconds and not in frames: the
    same face at 10 and at 60 frames a second, or with frames missing, is forgotten at the same pace.
    """

    def __init__(self, width: int, guide_width: int, config: TemporalConfig) -> None:
        super().__init__()
        inner = config.expand * width
        if inner % config.head_width:
            raise ValueError(
                f"The scan's {inner} channels (expand {config.expand} x width {width}) do not divide into "
                f"heads of head_width {config.head_width}; choose a head_width that divides {inner}."
            )
        self.inner, self.head_width, self.state_width = inner, config.head_width, config.state_width
        heads, channels = inner // config.head_width, inner + 2 * config.state_width
        self.steered = [2 * config.state_width, heads]
        """Widths of what the voice has a say in: B and C together, and dt."""
        # No bias: a padded frame of zeros must stay zero on its way into the convolution.
        self.in_proj = nn.Linear(width, 2 * inner + sum(self.steered), bias=False)
        self.guide_proj = nn.Linear(guide_width, sum(self.steered), bias=False)
        self.conv = nn.Conv1d(channels, channels, config.conv_width, groups=channels)
        # A = -1 and dt = 1 / span make each head begin as a running mean over its own span of time.
        self.log_decay = nn.Parameter(torch.zeros(heads))
        steps = torch.logspace(-math.log10(SHORTEST_SPAN), -math.log10(LONGEST_SPAN), heads)
        self.dt_bias = nn.Parameter(torch.log(torch.expm1(steps)))
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = nn.RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)  # a fresh direction adds nothing

    def forward(
        self,
        x: Tensor,
        guide: Tensor | None,
        elapsed: Tensor,
        state: ScanState | None = None,
        scan: Callable[..., tuple[Tensor, Tensor]] = scan_chunked,
    ) -> tuple[Tensor, ScanState]:
        """Sweep over a stretch of frames.

        x: [B, T, d], normed    guide: [B, T, g], or None where nothing is heard at all
        elapsed: [B, T], time since the frame before in 1/30 s; also for the first frame of a later stretch
        state: what the stretch before returned; None at the start
        scan: any form of scan.py that takes a state
        Returns the update [B, T, d] and the state to go on with; any split gives the same numbers.
        """
        inner, n = self.inner, self.state_width
        gate, content, steering = self.in_proj(x).split([inner, inner, sum(self.steered)], dim=-1)
        if guide is not None:
            steering = steering + self.guide_proj(guide)  # [B, T, 2N + H]
        selection, raw_dt = torch.split(steering, self.steered, dim=-1)  # [B, T, 2N], [B, T, H]
        series = torch.cat([content, selection], dim=-1)  # [B, T, channels]
        mixed, tail = self._convolve(series, None if state is None else state.tail)
        content, Bm, Cm = torch.split(mixed, [inner, n, n], dim=-1)  # [B, T, inner], [B, T, N] twice

        exact = torch.promote_types(x.dtype, torch.float32)
        A = -torch.exp(self.log_decay.to(exact))  # [H]
        dt = F.softplus(raw_dt.to(exact) + self.dt_bias) * elapsed[..., None].to(exact)  # [B, T, H]
        values = torch.unflatten(content, -1, (-1, self.head_width))  # [B, T, H, P]
        y, memory = scan(
            values * held_share(dt * A)[..., None],
            dt,
            A,
            Bm,
            Cm,
            torch.zeros_like(A),
            None if state is None else state.memory,
        )
        y = y + self.skip[:, None] * values  # [B, T, H, P]; here, as the skip reads the frame unscaled
        gated = (y.flatten(2) * F.silu(gate)).to(self.norm.weight.dtype)  # [B, T, inner]
        update: Tensor = self.out_proj(self.norm(gated))  # [B, T, d]
        return update, ScanState(tail, memory)

    def _convolve(self, series: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix each channel with its own last frames: [B, T, channels] and the tail for the next stretch."""
        if tail is None:
            batch, _, channels = series.shape
            tail = series.new_zeros(batch, self.conv.kernel_size[0] - 1, channels)
        window = torch.cat([tail, series], dim=1)  # [B, conv_width - 1 + T, channels]
        mixed = self.conv(window.transpose(1, 2)).transpose(1, 2)  # [B, T, channels]
        return F.silu(mixed), window[:, series.shape[1] :]


def held_share(exponent: Tensor) -> Tensor:
    """(exp(u) - 1) / u for u = dt A <= 0: which share of dt x B is still there when dt has passed.

    A frame is held until the next one and forgotten meanwhile. Without this share a frame after a gap of
    a second would weigh thirty frames in the quick heads; with it a still face leaves the same memory at
    every frame rate. It is 1 for short steps, where the plain Mamba-2 form is recovered.
    """
    u = exponent.clamp_max(-1e-4)  # the limit at 0 is 1, without the division by 0
    return torch.expm1(u) / u


class BiMambaBlock(nn.Module):
    """x + forward sweep + backward sweep, each with its own weights, over normed frames."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.ahead_scan = SelectiveScan(width, guide_width, config)
        self.back_scan = SelectiveScan(width, guide_width, config)

    def forward(
        self, x: Tensor, guide: Tensor | None, elapsed: tuple[Tensor, Tensor], valid: Tensor | None = None
    ) -> Tensor:
        """Whole sequences at once: [B, T, d].

        x: [B, T, d]    guide: [B, T, g] or None    elapsed: both of `elapsed_frames(times_s, valid)`
        valid: [B, T] bool, False for padding after the end of a sequence.  Padded frames are read as
        zeros that take no time, so they leave the other frames as they are; they come out as 0.
        """
        ahead, back = elapsed
        if valid is not None:
            blank = ~valid
            x = x.masked_fill(blank[..., None], 0.0)
            guide = None if guide is None else guide.masked_fill(blank[..., None], 0.0)
            ahead, back = ahead.masked_fill(blank, 0.0), back.masked_fill(blank, 0.0)
        return x + self.ahead(x, guide, ahead)[0] + self.back(x, guide, back)[0]

    def ahead(
        self, x: Tensor, guide: Tensor | None, elapsed: Tensor, state: ScanState | None = None
    ) -> tuple[Tensor, ScanState]:
        """The forward sweep's update of a stretch [B, T, d], and the state for the stretch after it."""
        update: tuple[Tensor, ScanState] = self.ahead_scan(self.norm(x), guide, elapsed, state)
        return update

    def back(
        self, x: Tensor, guide: Tensor | None, elapsed: Tensor, state: ScanState | None = None
    ) -> tuple[Tensor, ScanState]:
        """The backward sweep's update of a stretch [B, T, d], and the state for the stretch before it.

        Everything comes and goes in the order of time; elapsed: [B, T], time until the next frame.
        state: what the stretch after this one returned; None at the end
        """
        heard = None if guide is None else guide.flip(1)
        update, state = self.back_scan(self.norm(x).flip(1), heard, elapsed.flip(1), state)
        return update.flip(1), state


@torch.no_grad()
def run_long(
    block: BiMambaBlock, x: Tensor, guide: Tensor | None, times_s: Tensor, chunk: int = 2048
) -> Tensor:
    """What the block makes of one track of any length, `chunk` frames at a time: [T, d].

    x: [T, d]    guide: [T, g] or None    times_s: [T] float64, seconds
    The same numbers as `block(x)`, but beside the result only one chunk and one state are in memory.
    """
    ahead, back = elapsed_frames(times_s[None])  # [1, T] each
    stretches = [slice(start, start + chunk) for start in range(0, x.shape[0], chunk)]
    out = x.clone()
    for sweep, elapsed, order in ((block.ahead, ahead, stretches), (block.back, back, stretches[::-1])):
        state = None
        for part in order:
            heard = None if guide is None else guide[None, part]  # [1, chunk, g]
            update, state = sweep(x[None, part], heard, elapsed[:, part], state)
            out[part] += update[0]
    return out


class BiMamba(nn.Module):
    """The temporal part: blocks one after another."""

    def __init__(self, width: int, guide_width: int, config: TemporalConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BiMambaBlock(width, guide_width, config) for _ in range(config.blocks))

    def forward(
        self, x: Tensor, guide: Tensor | None, times_s: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """[B, T, d], [B, T, g] or None, [B, T] float64 s, [B, T] bool (padding at the end) -> [B, T, d]."""
        elapsed = elapsed_frames(times_s, valid)
        for block in self.blocks:
            x = block(x, guide, elapsed, valid)
        return x

    def run_long(self, x: Tensor, guide: Tensor | None, times_s: Tensor, chunk: int = 2048) -> Tensor:
        """One track of any length in bounded memory, without gradients: [T, d], [T, g], [T] s -> [T, d]."""
        for block in self.blocks:
            assert isinstance(block, BiMambaBlock)
            x = run_long(block, x, guide, times_s, chunk)
        return x
