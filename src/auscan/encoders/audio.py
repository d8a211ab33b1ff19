"""Encode 16 kHz audio as audio tokens, 50 per second.

Three encoders have the same interface; the kind of config selects one:

    LogMelEncoder         encoder of nano: log-mel bands and a few convolutions, trained in this repository
    HubAudioEncoder       WavLM, HuBERT, wav2vec 2.0 or the encoder of Whisper from transformers, frozen by
                          default: the means of groups of its layers, or one weighted sum over all of them
    SeveralAudioEncoder   several HubAudioEncoders, tokens concatenated

Inputs: waveform [B, M] float32 at 16 kHz, and the mean and standard deviation of the whole file, by which
encoders with normalise: file scale it.
Returns: tokens [B, Ta, Da]; token i is centred (i + 0.5) * 20 ms after the first sample.
See also: hub.py (loads transformers models), inference/engine.py (audio of any length), model/token_mix.py
(learned weights of the layer groups), model/fusion.py (tokens at frame times).
"""

import math
from typing import Any, Final, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auscan.core.config import (
    SAMPLE_RATE_HZ,
    TOKEN_HOP,
    AudioConfig,
    HubAudioConfig,
    LogMelAudioConfig,
    SeveralAudioConfig,
    TokenPart,
)
from auscan.core.errors import CheckpointError
from auscan.encoders.hub import Backbone, load_backbone

FFT = 512
"""Length of the analysis window in samples: 32 ms."""
MEL_LOW_HZ = 60.0
"""Lower edge of the lowest mel band."""
MEL_HIGH_HZ = 7600.0
"""Upper edge of the highest mel band."""
WHISPER_FFT: Final = 400
"""Length of the analysis window of Whisper in samples: 25 ms."""
WHISPER_HOP: Final = 160
"""Samples from one mel frame of Whisper to the next: 10 ms."""


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


class HubAudioEncoder(nn.Module):
    """Audio transformer: the means of groups of its layers, concatenated.

    Layers differ in scale, so each is normalised first, without learned weights. The network learns a
    weighted sum of the groups (model/token_mix.py). Without groups: one softmax-weighted sum of all layers,
    as they are (SUPERB, Yang et al. 2021), whose weights only an end-to-end training could learn.

    Raises CheckpointError if the weights can be loaded neither from the hub nor from a local folder, are of
    another kind or not finite, or expect another sample rate or token rate.
    """

    def __init__(self, config: HubAudioConfig) -> None:
        super().__init__()
        loaded = load_backbone(config.source, config.arch, "audio")
        self.backbone = loaded.model
        self.kind = loaded.kind
        arch = self.backbone.config
        count = arch.num_hidden_layers + 1
        self.groups = min(config.layer_groups, count) if config.layer_groups is not None else None
        part = TokenPart(width=arch.hidden_size, groups=self.groups or 1)
        self.parts: tuple[TokenPart, ...] = (part,)
        self.width = part.channels
        self.normalise = resolve_normalisation(config, loaded)
        self.preprocessing: dict[str, Any] = {"kind": self.kind, "normalise": self.normalise}
        self.log_mel = WhisperLogMel(arch) if self.kind == "whisper" else None
        if self.groups is None:
            self.layer_weights = nn.Parameter(torch.zeros(count))
        self.backbone.requires_grad_(False).eval()

    def forward(self, waveform: Tensor, level: tuple[float, float] | None = None) -> Tensor:
        """Encode a waveform [B, M] as tokens [B, Ta, Da] with Ta = M // 320; Ta is 0 below 320 samples.

        level: mean and standard deviation of the whole file, applied with normalise: file

        Raises ValueError if the waveform does not fit into the window of Whisper, 29.99 s.
        """
        count = waveform.shape[1] // TOKEN_HOP
        if self.normalise == "segment":
            waveform = F.layer_norm(waveform, waveform.shape[-1:])
        elif self.normalise == "file" and level is not None:
            mean, std = level
            waveform = (waveform - mean) / std
        if self.log_mel is not None:
            # Whisper's token i is centred on sample 320 i. Zeros before the first sample move token i + 1 to
            # sample 320 i + 160, the centre of its 20 ms.
            first, inputs = 1, self.log_mel(F.pad(waveform, (TOKEN_HOP // 2, 0)))
        else:
            # The receptive field of the first layers is 400 samples. Zeros at both ends centre each token on
            # its 20 ms.
            first, inputs = 0, F.pad(waveform, (40, 40 + TOKEN_HOP))
        states = self.backbone(inputs, output_hidden_states=True).hidden_states
        return self._join_layers([state[:, first : first + count] for state in states])

    def _join_layers(self, states: list[Tensor]) -> Tensor:
        """Return the tokens [B, Ta, Da] of the layers' outputs, L + 1 tensors [B, Ta, D]."""
        if self.groups is None:
            weights = torch.softmax(self.layer_weights, dim=0)
            return torch.stack([weight * state for weight, state in zip(weights, states, strict=True)]).sum(0)
        normed = torch.stack([F.layer_norm(state, state.shape[-1:]) for state in states])
        return torch.cat([group.mean(0) for group in torch.tensor_split(normed, self.groups)], dim=-1)

    def train(self, mode: bool = True) -> Self:
        """Set training mode except for the frozen backbone, which would drop layers and mask its input."""
        super().train(mode)
        self.backbone.eval()
        return self


class SeveralAudioEncoder(nn.Module):
    """Several audio transformers; their tokens are concatenated."""

    def __init__(self, config: SeveralAudioConfig) -> None:
        super().__init__()
        members = [HubAudioEncoder(member) for member in config.members]
        self.members = nn.ModuleList(members)
        self.parts: tuple[TokenPart, ...] = tuple(part for member in members for part in member.parts)
        self.width = sum(member.width for member in members)

    def forward(self, waveform: Tensor, level: tuple[float, float] | None = None) -> Tensor:
        """Encode a waveform [B, M] as tokens [B, Ta, Da]; see `HubAudioEncoder`."""
        return torch.cat([member(waveform, level) for member in self.members], dim=-1)


class WhisperLogMel(nn.Module):
    """Log-mel features of Whisper, as WhisperFeatureExtractor computes them: 100 frames a second.

    Whisper always reads one window of 30 s, so the audio is padded with zeros. The segments of
    inference/engine.py, 20 s with a second of context on each side, fit into it.
    """

    def __init__(self, arch: Any) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__()
        self.samples: int = arch.max_source_positions * TOKEN_HOP
        filters = mel_filter_bank(
            num_frequency_bins=WHISPER_FFT // 2 + 1,
            num_mel_filters=arch.num_mel_bins,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE_HZ / 2,
            sampling_rate=SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", torch.from_numpy(filters.T).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WHISPER_FFT), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the features of one window: [B, M] -> [B, bands, 2 Ta], about -1..1.5."""
        missing = self.samples - waveform.shape[1]
        if missing < 0:
            raise ValueError(
                f"the audio has {waveform.shape[1]} samples and Whisper reads {self.samples}; encode longer "
                "audio in segments (inference/engine.py)"
            )
        padded = F.pad(waveform, (0, missing))
        with torch.autocast(waveform.device.type, enabled=False):  # power exceeds the range of float16
            spectrum = torch.stft(padded, WHISPER_FFT, WHISPER_HOP, window=self.window, return_complex=True)
            power = spectrum[..., :-1].abs().square()  # [B, bins, 2 Ta]
            log_mel = (self.filters @ power).clamp_min(1e-10).log10()
            log_mel = torch.maximum(log_mel, log_mel.amax((1, 2), keepdim=True) - 8.0)
            return (log_mel + 4.0) / 4.0


def resolve_normalisation(config: HubAudioConfig, loaded: Backbone) -> Literal["no", "segment", "file"]:
    """Return how audio is normalised: as the config states, else by preprocessor_config.json.

    Raises CheckpointError if the weights expect another sample rate or do not make 50 tokens a second.
    """
    arch, content = loaded.model.config, loaded.preprocessing
    rate_hz = content.get("sampling_rate", SAMPLE_RATE_HZ)
    if rate_hz != SAMPLE_RATE_HZ:
        raise CheckpointError(
            f"{config.source} expects audio at {rate_hz} Hz; auscan encodes audio at {SAMPLE_RATE_HZ} Hz. "
            "Give weights for that sample rate."
        )
    is_whisper = loaded.kind == "whisper"
    hop = TOKEN_HOP if is_whisper else math.prod(arch.conv_stride)
    if hop != TOKEN_HOP:
        raise CheckpointError(
            f"{config.source} makes {SAMPLE_RATE_HZ / hop:g} tokens a second; auscan needs 50. Give weights "
            "with the usual strides."
        )
    if config.normalise is not None:
        return config.normalise
    # The large models expect audio with mean 0 and standard deviation 1.
    has_layer_norm = getattr(arch, "feat_extract_norm", None) == "layer"
    if config.arch is not None:  # a checkpoint of auscan 0.1.0
        return "segment" if has_layer_norm else "no"
    usual = not is_whisper and (
        has_layer_norm or bool(content)
    )  # True by default in Wav2Vec2FeatureExtractor
    return "file" if content.get("do_normalize", usual) else "no"


def build_audio_encoder(config: AudioConfig) -> LogMelEncoder | HubAudioEncoder | SeveralAudioEncoder:
    """Build the encoder for a config."""
    if isinstance(config, SeveralAudioConfig):
        return SeveralAudioEncoder(config)
    return LogMelEncoder(config) if isinstance(config, LogMelAudioConfig) else HubAudioEncoder(config)
