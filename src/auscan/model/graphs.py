"""Split the network into modules that can be exported as ONNX graphs: tensors in and out, no loops.

    VisualGraph       crops of any faces                              encode_faces    visual.onnx
    AudioGraph        a segment of audio                              encode_audio    audio.onnx
    FusionGraph       frames, audio tokens, windows of the frames     fuse_audio      hear.onnx
    OpeningGraph      frames, audio tokens                            mouth_opening   opening.onnx
    ScanGraph         a short chunk, one block, one direction         scan_block      sweep_*.onnx
    ClassifierGraph   frames and AU tokens                            classify        read.onnx
    IntensityGraph    frames, AU tokens and logits                    intensity       intensity.onnx

The graphs use the network's own modules. Only operations that cannot be exported have another implementation
here, and tests compare the two: the spectrum as a convolution, the scan of a short sequence without chunks.

Inputs: an AuscanNetwork in evaluation mode. Returns: modules for torch.onnx.export.
See also: inference/export.py (writes and checks the files), inference/onnx_engine.py (runs them).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from auscan.core.config import TOKEN_HOP
from auscan.encoders.audio import FFT, LogMelEncoder
from auscan.encoders.visual import ConvEncoder, ResidualBlock
from auscan.model.fusion import AttentionWindow, interpolate
from auscan.model.head import IntensityHead, to_intensity
from auscan.model.mamba import BiMambaBlock, TorchScanState
from auscan.model.network import TemporalStage, VisualStage
from auscan.model.scan import MIN_LOG_DECAY


class VisualGraph(nn.Module):
    """Visual stage; batch norms are folded into the convolutions before them."""

    def __init__(self, stage: VisualStage) -> None:
        super().__init__()
        self.stage = copy.deepcopy(stage)
        if isinstance(self.stage.encoder, ConvEncoder):
            fold_batch_norms(self.stage.encoder)

    def forward(self, crops: Tensor, carried: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        """Encode crops [B, S, S, 3] uint8; carried [F, N, Dv], before [B] as in `VisualStage.encode_rows`.

        Returns embedding [B, d], AU tokens [B, A, da], points [B, 5, 2], pose and occlusion [B, 3], patches
        [B, N, Dv], and the attributions: patch weights [B, N], attention [B, A, H, N], gates [B, A].
        """
        output = self.stage.encode_rows(crops, carried, before)
        aligned = output.aligned
        return (
            *(
                aligned.embedding[:, 0],
                aligned.au_tokens[:, 0],
                output.points[:, 0],
                output.pose_occlusion[:, 0],
            ),
            output.last_patches,
            *(aligned.patch_weights[:, 0], aligned.attention[:, 0], aligned.gates[:, 0]),
        )


class AudioGraph(nn.Module):
    """Audio encoder and mix of its tokens, with the spectrum as a convolution."""

    def __init__(self, encoder: nn.Module, mix: nn.Module) -> None:
        super().__init__()
        self.encoder, self.mix = copy.deepcopy(encoder), mix
        if isinstance(self.encoder, LogMelEncoder):
            self.encoder.log_mel = SpectrumByConvolution(self.encoder)  # type: ignore[method-assign]

    def forward(self, samples: Tensor) -> Tensor:
        """Encode samples [M] at 16 kHz, M >= 320, as tokens [M // 320, Da]."""
        tokens: Tensor = self.mix(self.encoder(samples[None]))[0]
        return tokens


class FusionGraph(nn.Module):
    """Cross-attention and late path; the caller computes the windows and neighbours of the frames."""

    def __init__(self, stage: TemporalStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(
        self,
        embedding: Tensor,
        tokens: Tensor,
        window: Tensor,
        audible: Tensor,
        offset_s: Tensor,
        neighbours: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Fuse audio tokens into frames.

        embedding: [T, d]    tokens: [Ta, Da]
        window, audible, offset_s: [T, W], the fields of `AttentionWindow`
        neighbours, weights: [T, 2], tokens before and after each frame and their interpolation weights
        Returns x [T, d], audio condition [T, Da], gate [T] and audio logits [T, A].
        """
        frames, tokens = embedding[None], self.stage.norm_audio(tokens[None])
        key, value = self.stage.fusion.project_keys_values(tokens)
        attention_window = AttentionWindow(window[None], audible[None], offset_s[None])
        fused = self.stage.fusion.attend(frames, attention_window, key, value)
        condition = interpolate(tokens, neighbours[None], weights[None])
        x, audio_condition, audio_logits = self.stage.add_audio(
            frames, fused.visual, fused.attended, condition
        )
        assert audio_condition is not None
        assert audio_logits is not None
        return x[0], audio_condition[0], fused.gate[0], audio_logits[0]


class OpeningGraph(nn.Module):
    """Opening of the mouth, from the picture and from the sound."""

    def __init__(self, stage: TemporalStage) -> None:
        super().__init__()
        self.norm_audio, self.opening = stage.norm_audio, stage.opening

    def forward(self, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [T] of frames [T, d] and [Ta] of audio tokens [Ta, Da]."""
        seen, heard = self.opening(embedding[None], self.norm_audio(tokens[None]))
        return seen[0], heard[0]


class ScanGraph(nn.Module):
    """One direction of one block over a short chunk; frames are in scan order."""

    def __init__(self, block: BiMambaBlock, direction: str) -> None:
        super().__init__()
        self.norm = block.norm
        self.scan = block.forward_scan if direction == "forward" else block.backward_scan

    def forward(
        self, x: Tensor, audio_condition: Tensor, elapsed: Tensor, tail: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scan a chunk; return the update [T, d], and tail and memory after it.

        x: [T, d]    audio_condition: [T, Da]    elapsed: [T] in 1/30 s
        tail: [conv_width - 1, channels]    memory: [H, P, N]
        """
        state = TorchScanState(tail[None], memory[None])
        update, after = self.scan(
            self.norm(x[None]), audio_condition[None], elapsed[None], state, scan=scan_short
        )
        return update[0], after.tail[0], after.memory[0]


class ClassifierGraph(nn.Module):
    """AU head."""

    def __init__(self, stage: TemporalStage) -> None:
        super().__init__()
        self.head = stage.head

    def forward(self, x: Tensor, au_tokens: Tensor) -> Tensor:
        """Return logits [T, A] for x [T, d] and au_tokens [T, A, da]."""
        logits: Tensor = self.head(x, au_tokens)
        return logits


class IntensityGraph(nn.Module):
    """Intensity head."""

    def __init__(self, head: IntensityHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, au_tokens: Tensor, logits: Tensor) -> Tensor:
        """Return intensities [T, A], 0 to 5, for x [T, d], au_tokens [T, A, da] and logits [T, A]."""
        return to_intensity(self.head(x, au_tokens, logits))


class SpectrumByConvolution(nn.Module):
    """`LogMelEncoder.log_mel` with the windowed Fourier transform as a convolution."""

    def __init__(self, encoder: LogMelEncoder) -> None:
        super().__init__()
        fourier = torch.fft.rfft(torch.eye(FFT, dtype=torch.float64))  # [FFT, bins]
        basis = torch.cat([fourier.real, fourier.imag], dim=1).T * encoder.window.double()  # [2 bins, FFT]
        self.register_buffer("basis", basis.float()[:, None])
        self.register_buffer("filters", encoder.filters)
        self.basis: Tensor
        self.filters: Tensor

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the log-mel spectrum [1, bands, 2 M / 320] of a waveform [1, M]."""
        step = TOKEN_HOP // 2
        padded = F.pad(waveform, ((FFT - step) // 2, FFT))
        spectrum = F.conv1d(padded[:, None], self.basis, stride=step)  # [1, 2 bins, more than 2 Ta]
        spectrum = spectrum[..., : 2 * (waveform.shape[1] // TOKEN_HOP)]
        power = spectrum.square().unflatten(1, (2, -1)).sum(1)  # [1, bins, 2 Ta]
        return torch.log(self.filters @ power + 1e-6) / 6.0


def scan_short(
    x: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `scan_recurrence` as one chunk of `scan_chunked`, at a cost quadratic in T: for short chunks.

    Shapes as in `scan_recurrence`; the state must not be None.
    """
    sums = (dt * A).clamp_min(MIN_LOG_DECAY).cumsum(dim=1).transpose(1, 2)  # [B, H, T], falling
    gaps = sums[..., :, None] - sums[..., None, :]  # [B, H, T, T], from column to row
    decay = torch.exp(gaps.clamp_max(0.0)).tril()  # gaps to later frames are positive and could overflow
    drive = (x * dt[..., None]).transpose(1, 2)  # [B, H, T, P]
    within = (decay * (Cm @ Bm.transpose(1, 2))[:, None]) @ drive  # [B, H, T, P]
    across = torch.exp(sums)[..., None] * (Cm[:, None] @ state.transpose(2, 3))  # [B, H, T, P]
    to_end = torch.exp(sums[..., -1:] - sums)  # [B, H, T]
    kept = torch.exp(sums[..., -1])[..., None, None] * state  # [B, H, P, N]
    after = kept + (drive * to_end[..., None]).transpose(2, 3) @ Bm[:, None]  # [B, H, P, N]
    return (within + across).transpose(1, 2) + D[:, None] * x, after


def fold_batch_norms(encoder: ConvEncoder) -> None:
    """Fold the batch norms of an encoder in evaluation mode into its convolutions, in place.

    The mean over 2x2 cells in a shortcut and the 1x1 convolution after it become one 2x2 convolution. This is
    exact because the size of every map is even. Outputs stay the same up to rounding.
    """
    stem, norm = encoder.layers[0], encoder.layers[1]
    assert isinstance(stem, nn.Conv2d)
    encoder.layers[0], encoder.layers[1] = _fuse(stem, norm), nn.Identity()
    for block in encoder.layers:
        if not isinstance(block, ResidualBlock):
            continue
        block.conv1, block.conv2 = _fuse(block.conv1, block.norm1), _fuse(block.conv2, block.norm2)
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        if isinstance(block.shortcut, nn.Sequential):
            pool, conv, norm = block.shortcut
            assert isinstance(conv, nn.Conv2d)
            conv = _fuse(conv, norm)
            block.shortcut = strided_convolution(conv, 2) if isinstance(pool, nn.AvgPool2d) else conv


def _fuse(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """Fold a batch norm into the convolution before it."""
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def strided_convolution(conv: nn.Conv2d, step: int) -> nn.Conv2d:
    """Merge a mean over step x step cells and the 1x1 convolution after it into one convolution."""
    merged = nn.Conv2d(conv.in_channels, conv.out_channels, step, step)
    merged.weight.data = conv.weight.data.expand(-1, -1, step, step) / step**2
    assert conv.bias is not None
    merged.bias = conv.bias
    return merged
