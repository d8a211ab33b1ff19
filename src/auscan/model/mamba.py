"""Temporal model: bidirectional Mamba-2 blocks whose scan parameters are conditioned on audio.

A frame needs the context of the same face before and after it: low brows at rest are not AU4. Each block runs
a selective state space over the frames forward and backward. Its parameters B, C and dt (input, output and
step) depend on the visual features and on the audio condition. Without audio the condition is 0, which leaves
the plain selective scan.

The cost is linear in T. With a carried state, the memory does not grow with T.

Inputs: x [B, T, d], audio_condition [B, T, Da] (audio at the frames' times, 0 without audio), times [B, T] in
seconds.
Returns: x [B, T, d].
See also: scan.py (the scan), fusion.py (`audio_at_frames`), bidirectional.py (order of chunks).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import TemporalConfig
from auscan.core.environment import chunk_slices
from auscan.model.bidirectional import Direction, elapsed_frames, scan_bidirectional
from auscan.model.scan import scan_chunked

SHORTEST_SPAN, LONGEST_SPAN = 3.0, 1800.0
"""Initial time constants of the fastest and the slowest head, in 1/30 s: 0.1 s and one minute."""
CHUNK_FRAMES = 2048
"""Frames of a long track that are scanned in one step; does not change results."""


class TorchScanState(NamedTuple):
    """State of one direction between two chunks of frames."""

    tail: Tensor
    """Last inputs of the short convolution [B, conv_width - 1, channels]."""
    memory: Tensor
    """State of the scan [B, H, P, N]."""


class AudioCondition(nn.Module):
    """Condition the parameters of a selective scan on the audio token at each frame.

    The projected token is added to the visual projection of B, C and dt. So audio affects what a frame writes
    to the state, reads from it and forgets. Without audio the plain selective scan remains.
    """

    def __init__(self, audio_width: int, parameter_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_width, parameter_width, bias=False)

    def forward(self, parameters: Tensor, audio: Tensor | None) -> Tensor:
        """Add the projected audio [B, T, Da] (or None) to the parameters [B, T, 2N + H]."""
        return parameters if audio is None else parameters + self.proj(audio)


class SelectiveScan(nn.Module):
    """One direction of a block: projection, short convolution, scan, gate, projection.

    dt is multiplied by the elapsed time, so the state decays per second and not per frame: at 10 and at 60
    frames a second, or with frames missing, at the same pace.
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
        # No bias: padded frames are zeros and must enter the convolution as zeros.
        self.in_proj = nn.Linear(width, 2 * inner + sum(self.parameter_widths), bias=False)
        self.audio_condition = AudioCondition(audio_width, sum(self.parameter_widths))
        self.conv = nn.Conv1d(channels, channels, config.conv_width, groups=channels)
        # With A = -1 and dt = 1 / span, each head starts as a running mean over its own time span.
        self.log_decay = nn.Parameter(torch.zeros(heads))
        steps = torch.logspace(-math.log10(SHORTEST_SPAN), -math.log10(LONGEST_SPAN), heads)
        self.dt_bias = nn.Parameter(torch.log(torch.expm1(steps)))
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = nn.RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)  # the update of an untrained direction is 0

    def forward(
        self,
        x: Tensor,
        audio_condition: Tensor | None,
        elapsed: Tensor,
        state: TorchScanState | None = None,
        scan: Callable[..., tuple[Tensor, Tensor]] = scan_chunked,
    ) -> tuple[Tensor, TorchScanState]:
        """Scan a chunk of frames.

        x: [B, T, d], normalised    audio_condition: [B, T, Da], or None without audio
        elapsed: [B, T], time since the previous frame in 1/30 s; also for the first frame of a later chunk
        state: state after the previous chunk; None at the start
        scan: any function of scan.py that takes a state
        Returns the update [B, T, d] and the state after the chunk. Results do not depend on the split.
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
        # The skip is added here and not in the scan, because it uses the values before the hold factor.
        y = y + self.skip[:, None] * values  # [B, T, H, P]
        gated = (y.flatten(2) * F.silu(gate)).to(self.norm.weight.dtype)  # [B, T, inner]
        update: Tensor = self.out_proj(self.norm(gated))  # [B, T, d]
        return update, TorchScanState(tail, memory)

    def _convolve(self, series: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolve each channel over the last frames: [B, T, channels], and the tail for the next chunk."""
        if tail is None:
            batch, _, channels = series.shape
            tail = series.new_zeros(batch, self.conv.kernel_size[0] - 1, channels)
        window = torch.cat([tail, series], dim=1)  # [B, conv_width - 1 + T, channels]
        mixed = self.conv(window.transpose(1, 2)).transpose(1, 2)  # [B, T, channels]
        return F.silu(mixed), window[:, series.shape[1] :]


def zero_order_hold(exponent: Tensor) -> Tensor:
    """Compute (exp(u) - 1) / u for u = dt A <= 0, the factor of an exact zero-order hold.

    The input of a frame is held until the next frame, and the state decays meanwhile. Without this factor a
    frame after a gap of one second would weigh thirty frames in the fast heads. With it a still face leads to
    the same state at every frame rate. For short steps it approaches 1, the plain Mamba-2 form.
    """
    u = exponent.clamp_max(-1e-4)  # the limit at 0 is 1, without the division by 0
    return torch.expm1(u) / u


class BiMambaBlock(nn.Module):
    """x + forward update + backward update, over normalised frames; each direction has its own weights."""

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
        """Run the block over whole sequences: [B, T, d].

        x: [B, T, d]    audio_condition: [B, T, Da] or None
        elapsed: both arrays of `elapsed_frames(times_s, valid)`
        valid: [B, T] bool, False for padding after the end of a sequence. Padded frames are zeros with an
        elapsed time of 0, so they do not affect the other frames; their output is 0.
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
        """Scan a chunk in one direction; return its update [B, T, d] and the state after it.

        x: [B, T, d]    audio_condition: [B, T, Da] or None; these and the update are in time order in both
        directions
        elapsed: [B, T], time since the previous frame (forward) or until the next one (backward)
        state: state after the previous chunk in scan order; None for the first chunk
        """
        if direction == "forward":
            update, state = self.forward_scan(self.norm(x), audio_condition, elapsed, state)
            return update, state
        condition = None if audio_condition is None else audio_condition.flip(1)
        update, state = self.backward_scan(self.norm(x).flip(1), condition, elapsed.flip(1), state)
        return update.flip(1), state


class BiMamba(nn.Module):
    """Stack of `BiMambaBlock`."""

    def __init__(self, width: int, audio_width: int, config: TemporalConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BiMambaBlock(width, audio_width, config) for _ in range(config.blocks))

    def forward(
        self, x: Tensor, audio_condition: Tensor | None, times_s: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Run all blocks over whole sequences: [B, T, d].

        x: [B, T, d]    audio_condition: [B, T, Da] or None    times_s: [B, T] float64, seconds
        valid: [B, T] bool, False for padding at the end
        """
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
        """Run all blocks over one track of any length in chunks, in bounded memory: [T, d].

        x: [T, d]    audio_condition: [T, Da] or None    times_s: [T] float64, seconds
        chunk_frames: frames of a chunk; does not change results
        grad_window: frames with gradients, scanned as one chunk that starts from the states of the frames
        around it (truncated backpropagation through time, in both directions). None: no gradients

        Results equal those of `forward`. The frames outside the window are scanned without gradients, so the
        whole track is context at the memory cost of the window.
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
