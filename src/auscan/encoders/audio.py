"""Encode 16 kHz audio as audio tokens, 50 per second.

Two encoders have the same interface; the kind of config selects one:

    LogMelEncoder   encoder of nano: log-mel bands and a few convolutions, trained in this repository
    WavlmEncoder    WavLM from transformers, a learned weighted sum over its layers, frozen by default

Inputs: waveform [B, M] float32 at 16 kHz.
Returns: tokens [B, Ta, Da]; token i is centred (i + 0.5) * 20 ms after the first sample.
See also: inference/engine.py (audio of any length), model/fusion.py (tokens at frame times).
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, LogMelAudioConfig, WavlmAudioConfig
from auscan.encoders.hub import load_backbone

FFT = 512
"""Length of the analysis window in samples: 32 ms."""
MEL_LOW_HZ = 60.0
"""Lower edge of the lowest mel band."""
MEL_HIGH_HZ = 7600.0
"""Upper edge of the highest mel band."""


def mel_filters(bands: int) -> Tensor:
    """Return triangular filters of equal width on the mel scale (HTK formula): [bands, FFT // 2 + 1]."""

    def mel(hz: Tensor) -> Tensor:
        return 2595.0 * torch.log10(1.0 + hz / 700.0)

    low_mel, high_mel = mel(torch.tensor([MEL_LOW_HZ, MEL_HIGH_HZ]))
    edges_mel = torch.linspace(low_mel.item(), high_mel.item(), bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = torch.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT // 2 + 1)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    return torch.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clamp_min(0.0)


class LogMelEncoder(nn.Module):
    """Log-mel bands every 10 ms, a convolution with stride 2 (20 ms), residual convolutions over time."""

    def __init__(self, config: LogMelAudioConfig) -> None:
        super().__init__()
        self.width = config.width
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", mel_filters(config.mel_bands), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.stem = nn.Conv1d(config.mel_bands, config.width, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(config.width, config.width, 5, padding=2 * 2**i, dilation=2**i),
                nn.GELU(),
                nn.Conv1d(config.width, config.width, 1),
            )
            for i in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode a waveform [B, M] as tokens [B, Ta, Da] with Ta = M // 320; Ta is 0 below 320 samples."""
        if waveform.shape[1] < TOKEN_HOP:
            return waveform.new_zeros(len(waveform), 0, self.width)
        x = F.gelu(self.stem(self.log_mel(waveform)))  # [B, Da, Ta]
        for block in self.blocks:
            x = x + block(x)
        tokens: Tensor = self.norm(x.transpose(1, 2))  # [B, Ta, Da]
        return tokens

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Compute the scaled natural logarithm of mel power: [B, M] -> [B, bands, 2 (M // 320)], about -1..1.

        Analysis frames are 10 ms apart, the first one centred at 5 ms, so that two of them make one token.
        """
        step = TOKEN_HOP // 2
        margin = (FFT - step) // 2
        padded = F.pad(waveform, (margin, FFT))
        frames = padded.unfold(1, FFT, step)[:, : 2 * (waveform.shape[1] // TOKEN_HOP)]  # [B, 2 Ta, FFT]
        with torch.autocast(waveform.device.type, enabled=False):  # the power of loud sound exceeds float16
            power = torch.fft.rfft(frames * self.window).abs().square()  # [B, 2 Ta, bins]
            return (torch.log(power @ self.filters.T + 1e-6) / 6.0).transpose(1, 2)


class WavlmEncoder(nn.Module):
    """WavLM: softmax-weighted sum of all its layers (SUPERB, Yang et al. 2021).

    Raises CheckpointError if the weights can be loaded neither from the hub nor from a local folder.
    """

    def __init__(self, config: WavlmAudioConfig) -> None:
        super().__init__()
        self.backbone = load_backbone(config.source, config.arch)
        arch = self.backbone.config
        self.width: int = arch.hidden_size
        # The large models expect audio with mean 0 and standard deviation 1.
        self.normalise_input = arch.feat_extract_norm == "layer"
        self.layer_weights = nn.Parameter(torch.zeros(arch.num_hidden_layers + 1))
        self.backbone.requires_grad_(False).eval()

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode a waveform [B, M] as tokens [B, Ta, Da] with Ta = M // 320; Ta is 0 below 320 samples."""
        count = waveform.shape[1] // TOKEN_HOP
        if self.normalise_input:
            waveform = F.layer_norm(waveform, waveform.shape[-1:])
        # The receptive field of the first layers is 400 samples. Zeros at both ends centre each token on its
        # 20 ms.
        states = self.backbone(F.pad(waveform, (40, 40 + TOKEN_HOP)), output_hidden_states=True).hidden_states
        weights = torch.softmax(self.layer_weights, dim=0)
        tokens = sum(weight * state for weight, state in zip(weights, states, strict=True))
        assert isinstance(tokens, Tensor)
        return tokens[:, :count]

    def train(self, mode: bool = True) -> Self:
        """Set training mode except for the frozen backbone, which would drop layers and mask its input."""
        super().train(mode)
        self.backbone.eval()
        return self


def build_audio_encoder(config: LogMelAudioConfig | WavlmAudioConfig) -> LogMelEncoder | WavlmEncoder:
    """Build the encoder for a config."""
    return LogMelEncoder(config) if isinstance(config, LogMelAudioConfig) else WavlmEncoder(config)
