"""Remember the face over minutes, in both directions of time, guided by the voice.

A frame's action units are read against what the same face did before and after: a resting face with
low brows is no AU 4. Each block sweeps a selective state space over the frames forward and backward;
what a sweep writes into its memory, reads from it and forgets (B, C and dt) depends on the visual and
on the audio token. Where nothing is heard the audio token is 0 and the plain selective scan remains.

In: x [B, T, d], audio_condition [B, T, Da] (audio at the frames' times, 0 where there is none) and times
[B, T] s.
Out: x [B, T, d].  Cost is linear in T; with a carried state, memory does not grow with T at all.
Not here: the scan itself (scan.py), bringing audio tokens to frame times (fusion.py).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.chunking import chunk_slices
from auscan.core.config import TemporalConfig
from auscan.model.bidirectional import Direction, elapsed_frames, scan_bidirectional
from auscan.model.scan import scan_chunked

SHORTEST_SPAN, LONGEST_SPAN = 3.0, 1800.0
"""Memory of the quickest and the slowest head before training, in thirtieths: 0.1 s and one minute."""
CHUNK_FRAMES = 2048
"""Frames of a long track that are scanned together; changes no result."""


class TorchScanState(NamedTuple):
    """What one direction carries from one stretch of frames to the next."""

    tail: Tensor
    """[B, conv_width - 1, channels] the last inputs of the short convolution."""
    memory: Tensor
    """[B, H, P, N] the state of the scan."""


class AudioCondition(nn.Module):
    """Condition the parameters of a selective scan on the audio token at each frame.

    The token is projected and added to the visual projection of B, C and dt, so audio has a say in what a
    frame writes to the state, reads from it and forgets. Without audio the plain selective scan remains.
    """

    def __init__(self, audio_width: int, parameter_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_width, parameter_width, bias=False)

    def forward(self, parameters: Tensor, audio: Tensor | None) -> Tensor:
        """parameters [B, T, 2N + H] from the visual stream, audio [B, T, Da] or None -> [B, T, 2N + H]."""
        return parameters if audio is None else parameters + self.proj(audio)


class SelectiveScan(nn.Module):
    """One direction: project, convolve shortly, scan, gate, project back.

    dt is multiplied by the time that passed, so that the memory lives in seconds and not in frames: the
    same face at 10 and at 60 frames a second, or with frames missing, is forgotten at the same pace.
    """

    def __init__(self, width: int, audio_width: int, config: TemporalConfig) -> None:
        super().__init__()
        inner = config.expand * width
        if inner % config.head_width:
            raise ValueError(
                f"The scan's {inner} channels (expand {config.expand} x width {width}) do not divide into "
                f"heads of head_width {config.head_width}; choose a head_width that divides {inner}."
            )
        self.inner, self.head_width, self.state_width = inner, config.head_width, config.state_width
        heads, channels = inner // config.head_width, inner + 2 * config.state_width
        self.parameter_widths = [2 * config.state_width, heads]
        """Widths of the scan's parameters for each frame: B and C together, and dt."""
        # No bias: a padded frame of zeros must stay zero on its way into the convolution.
        self.in_proj = nn.Linear(width, 2 * inner + sum(self.parameter_widths), bias=False)
        self.audio_condition = AudioCondition(audio_width, sum(self.parameter_widths))
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
        audio_condition: Tensor | None,
        elapsed: Tensor,
        state: TorchScanState | None = None,
        scan: Callable[..., tuple[Tensor, Tensor]] = scan_chunked,
    ) -> tuple[Tensor, TorchScanState]:
        """Scan a chunk of frames.

        x: [B, T, d], normed    audio_condition: [B, T, Da], or None without audio
        elapsed: [B, T], time since the frame before in 1/30 s; also for the first frame of a later stretch
        state: what the stretch before returned; None at the start
        scan: any form of scan.py that takes a state
        Returns the update [B, T, d] and the state to go on with; any split gives the same numbers.
        """
        inner, n = self.inner, self.state_width
        widths = self.parameter_widths
        gate, content, parameters = self.in_proj(x).split([inner, inner, sum(widths)], dim=-1)
        parameters = self.audio_condition(parameters, audio_condition)  # [B, T, 2N + H]
        selection, raw_dt = torch.split(parameters, widths, dim=-1)  # [B, T, 2N], [B, T, H]
        series = torch.cat([content, selection], dim=-1)  # [B, T, channels]
        mixed, tail = self._convolve(series, None if state is None else state.tail)
        content, Bm, Cm = torch.split(mixed, [inner, n, n], dim=-1)  # [B, T, inner], [B, T, N] twice

        sum_dtype = torch.promote_types(x.dtype, torch.float32)
        A = -torch.exp(self.log_decay.to(sum_dtype))  # [H]
        dt = F.softplus(raw_dt.to(sum_dtype) + self.dt_bias) * elapsed[..., None].to(sum_dtype)  # [B, T, H]
        values = torch.unflatten(content, -1, (-1, self.head_width))  # [B, T, H, P]
        y, memory = scan(
            values * zero_order_hold(dt * A)[..., None],
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
        return update, TorchScanState(tail, memory)

    def _convolve(self, series: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix each channel with its own last frames: [B, T, channels] and the tail for the next stretch."""
        if tail is None:
            batch, _, channels = series.shape
            tail = series.new_zeros(batch, self.conv.kernel_size[0] - 1, channels)
        window = torch.cat([tail, series], dim=1)  # [B, conv_width - 1 + T, channels]
        mixed = self.conv(window.transpose(1, 2)).transpose(1, 2)  # [B, T, channels]
        return F.silu(mixed), window[:, series.shape[1] :]


def zero_order_hold(exponent: Tensor) -> Tensor:
    """(exp(u) - 1) / u for u = dt A <= 0: which share of dt x B is still there when dt has passed.

    A frame is held until the next one and forgotten meanwhile. Without this share a frame after a gap of
    a second would weigh thirty frames in the quick heads; with it a still face leaves the same memory at
    every frame rate. It is 1 for short steps, where the plain Mamba-2 form is recovered.
    """
    u = exponent.clamp_max(-1e-4)  # the limit at 0 is 1, without the division by 0
    return torch.expm1(u) / u


class BiMambaBlock(nn.Module):
    """x + forward sweep + backward sweep, each with its own weights, over normed frames."""

    def __init__(self, width: int, audio_width: int, config: TemporalConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.forward_scan = SelectiveScan(width, audio_width, config)
        self.backward_scan = SelectiveScan(width, audio_width, config)

    def forward(
        self,
        x: Tensor,
        audio_condition: Tensor | None,
        elapsed: tuple[Tensor, Tensor],
        valid: Tensor | None = None,
    ) -> Tensor:
        """Whole sequences at once: [B, T, d].

        x: [B, T, d]    audio_condition: [B, T, Da] or None
        elapsed: both of `elapsed_frames(times_s, valid)`
        valid: [B, T] bool, False for padding after the end of a sequence.  Padded frames are read as
        zeros that take no time, so they leave the other frames as they are; they come out as 0.
        """
        since, until = elapsed
        if valid is not None:
            padding = ~valid
            x = x.masked_fill(padding[..., None], 0.0)
            if audio_condition is not None:
                audio_condition = audio_condition.masked_fill(padding[..., None], 0.0)
            since, until = since.masked_fill(padding, 0.0), until.masked_fill(padding, 0.0)
        update = self.scan("forward", x, audio_condition, since)[0]
        return x + update + self.scan("backward", x, audio_condition, until)[0]

    def scan(
        self,
        direction: Direction,
        x: Tensor,
        audio_condition: Tensor | None,
        elapsed: Tensor,
        state: TorchScanState | None = None,
    ) -> tuple[Tensor, TorchScanState]:
        """Scan a chunk in one direction: its update [B, T, d], and the state after it in that direction.

        x, audio_condition and the update are in order of time, whichever the direction
        elapsed: [B, T], time since the previous frame (forward) or until the next one (backward)
        state: state after the chunk before this one in the direction of the scan; None at its start
        """
        if direction == "forward":
            update, state = self.forward_scan(self.norm(x), audio_condition, elapsed, state)
            return update, state
        condition = None if audio_condition is None else audio_condition.flip(1)
        update, state = self.backward_scan(self.norm(x).flip(1), condition, elapsed.flip(1), state)
        return update.flip(1), state


class BiMamba(nn.Module):
    """The temporal part: blocks one after another."""

    def __init__(self, width: int, audio_width: int, config: TemporalConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BiMambaBlock(width, audio_width, config) for _ in range(config.blocks))

    def forward(
        self, x: Tensor, audio_condition: Tensor | None, times_s: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """[B, T, d], [B, T, Da] or None, [B, T] float64 s, [B, T] bool (padding at the end) -> [B, T, d]."""
        elapsed = elapsed_frames(times_s, valid)
        for block in self.blocks:
            x = block(x, audio_condition, elapsed, valid)
        return x

    def forward_long(
        self,
        x: Tensor,
        audio_condition: Tensor | None,
        times_s: Tensor,
        chunk_frames: int = CHUNK_FRAMES,
        grad_window: slice | None = None,
    ) -> Tensor:
        """Run one track of any length in chunks, in bounded memory: [T, d].

        x: [T, d]    audio_condition: [T, Da] or None    times_s: [T] float64, seconds
        chunk_frames: changes no result
        grad_window: frames that gradients flow through, scanned as one chunk with the states that the frames
        around them lead to (truncated backpropagation through time, in both directions). None: no gradients

        The same numbers as `forward`. With a grad window the other frames are scanned without gradients:
        all of a track is taken into account at the memory cost of the window.
        """
        chunks = chunk_slices(len(x), chunk_frames)
        if grad_window is not None:
            after = chunk_slices(len(x) - grad_window.stop, chunk_frames, grad_window.stop)
            chunks = [*chunk_slices(grad_window.start, chunk_frames), grad_window, *after]
        since, until = elapsed_frames(times_s[None])  # [1, T] each
        learns = torch.is_grad_enabled()

        def gradients(chunk: slice) -> torch.set_grad_enabled:
            return torch.set_grad_enabled(learns and chunk == grad_window)

        def scan_chunk(
            block: BiMambaBlock, x: Tensor, direction: Direction, chunk: slice, state: TorchScanState | None
        ) -> tuple[Tensor, TorchScanState]:
            condition = None if audio_condition is None else audio_condition[None, chunk]  # [1, t, Da]
            elapsed = (since if direction == "forward" else until)[:, chunk]
            with gradients(chunk):
                update, state = block.scan(direction, x[None, chunk], condition, elapsed, state)
            return update[0], state

        for block in self.blocks:
            assert isinstance(block, BiMambaBlock)
            outputs: dict[int, Tensor] = {}
            for direction, chunk, update, _ in scan_bidirectional(partial(scan_chunk, block, x), chunks):
                with gradients(chunk):
                    before = x[chunk] if direction == "forward" else outputs[chunk.start]
                    outputs[chunk.start] = before + update
            x = torch.cat(list(outputs.values()))
        return x
