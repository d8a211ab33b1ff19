"""Test the audio encoders: one token per 20 ms, centred on its 20 ms."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, HubAudioConfig, LogMelAudioConfig
from auscan.encoders.audio import (
    FFT,
    MEL_HIGH_HZ,
    MEL_LOW_HZ,
    HubAudioEncoder,
    LogMelEncoder,
    build_audio_encoder,
    mel_filters,
)


@pytest.fixture(params=["logmel", "wavlm"])
def encoder(request: pytest.FixtureRequest, backbones: Path) -> LogMelEncoder | HubAudioEncoder:
    """Return each encoder with random weights; the log-mel encoder has the size of nano."""
    torch.manual_seed(0)
    if request.param == "logmel":
        return LogMelEncoder(LogMelAudioConfig()).eval()
    return HubAudioEncoder(HubAudioConfig(source=str(backbones / "wavlm"))).eval()


def noise(samples: int, loudness: float = 0.01, seed: int = 0) -> Tensor:
    """Return noise [1, M] float32."""
    return loudness * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("samples", [320, 639, 640, 641, 5000, 16_000])
def test_there_is_one_token_for_every_complete_20_ms(
    encoder: LogMelEncoder | HubAudioEncoder, samples: int
) -> None:
    tokens = encoder(noise(samples))
    assert tokens.shape == (1, samples // TOKEN_HOP, encoder.width)
    assert tokens.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loud_sound_has_finite_tokens_in_half_precision(dtype: torch.dtype) -> None:
    """The power of a full-scale tone exceeds the range of float16."""
    torch.manual_seed(0)
    encoder = LogMelEncoder(LogMelAudioConfig()).eval()
    tone = torch.sin(2 * math.pi * 440 * torch.arange(8000) / SAMPLE_RATE_HZ)[None]
    expected = encoder(tone)
    with torch.autocast("cpu", dtype):
        tokens = encoder(tone)
    assert_close(tokens.float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("samples", [0, 1, 319])
def test_audio_shorter_than_a_token_has_no_tokens(
    encoder: LogMelEncoder | HubAudioEncoder, samples: int
) -> None:
    """Some phones write files with a few milliseconds of audio; these must not cause an error."""
    assert encoder(noise(samples)).shape == (1, 0, encoder.width)


@pytest.mark.parametrize("token", [0, 1, 7, 23, 48, 49])
def test_a_short_sound_changes_the_token_of_its_own_time_most(
    encoder: LogMelEncoder | HubAudioEncoder, token: int
) -> None:
    """A delay of one token would shift speech by 20 ms against the lips.

    The short sound is as loud as the noise it replaces, because the normalisation of WavLM spreads a change
    of loudness over all tokens.
    """
    sound = noise(50 * TOKEN_HOP, 0.1)
    touched = sound.clone()
    start = token * TOKEN_HOP + TOKEN_HOP // 4
    touched[:, start : start + TOKEN_HOP // 2] = noise(TOKEN_HOP // 2, 0.1, seed=5)
    moved = (encoder(touched) - encoder(sound)).norm(dim=-1)[0]
    assert moved.argmax() == token


def test_clips_of_a_batch_are_independent(encoder: LogMelEncoder | HubAudioEncoder) -> None:
    sound = torch.cat([noise(8000, 0.1), noise(8000, 0.01, seed=1)])
    together = encoder(sound)
    for clip in range(2):
        assert_close(encoder(sound[clip : clip + 1])[0], together[clip], atol=1e-5, rtol=1e-5)


def test_shifting_the_audio_shifts_log_mel_tokens() -> None:
    """Only tokens near the edges may differ, because of the zero padding."""
    torch.manual_seed(0)
    encoder = LogMelEncoder(LogMelAudioConfig(mel_bands=16, width=12, blocks=2)).eval()
    sound = noise(100 * TOKEN_HOP, 0.1)
    whole, later = encoder(sound), encoder(sound[:, 10 * TOKEN_HOP :])
    assert_close(later[:, 20:], whole[:, 30:], atol=1e-5, rtol=1e-5)


def mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def test_a_tone_is_loudest_in_the_band_it_lies_in() -> None:
    encoder = LogMelEncoder(LogMelAudioConfig(mel_bands=40))
    edges = np.linspace(mel(MEL_LOW_HZ), mel(MEL_HIGH_HZ), 42)
    at_s = torch.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for pitch_hz in (200.0, 440.0, 1000.0, 3500.0, 7000.0):
        bands = encoder.log_mel(torch.sin(2 * math.pi * pitch_hz * at_s)[None])[0, :, 50]
        nearest = int(np.abs(edges[1:-1] - mel(pitch_hz)).argmin())
        assert abs(int(bands.argmax()) - nearest) <= (1 if pitch_hz < 500 else 0)


def test_log_mel_of_ten_times_the_power_is_higher_by_its_logarithm() -> None:
    encoder = LogMelEncoder(LogMelAudioConfig(mel_bands=16))
    quiet, loud = encoder.log_mel(noise(3200, 0.1)), encoder.log_mel(noise(3200, 0.1 * math.sqrt(10)))
    assert quiet.shape == (1, 16, 20)
    assert_close(loud - quiet, torch.full_like(quiet, math.log(10) / 6), atol=1e-2, rtol=0)


def test_the_mel_bands_overlap_without_a_hole_and_stay_within_their_limits() -> None:
    filters = mel_filters(40)
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT // 2 + 1)
    assert filters.shape == (40, FFT // 2 + 1)
    assert filters.min() >= 0
    assert filters.max() <= 1
    covered = filters.sum(0) > 0
    assert not covered[(bins_hz < MEL_LOW_HZ) | (bins_hz > MEL_HIGH_HZ)].any()
    assert covered[(bins_hz > MEL_LOW_HZ + 40) & (bins_hz < MEL_HIGH_HZ - 40)].all()


def test_wavlm_tokens_are_the_weighted_sum_of_all_its_layers(backbones: Path) -> None:
    encoder = HubAudioEncoder(HubAudioConfig(source=str(backbones / "wavlm"))).eval()
    sound = noise(6400, 0.1)
    padded = nn.functional.pad(sound, (40, 360))
    states = torch.stack(encoder.backbone(padded, output_hidden_states=True).hidden_states)[:, :, :20]
    assert len(states) == len(encoder.layer_weights) == 3
    assert_close(encoder(sound), states.mean(0))
    encoder.layer_weights.data = torch.tensor([-50.0, 50.0, -50.0])
    assert_close(encoder(sound), states[1])


def test_wavlm_is_frozen_but_the_weights_of_its_layers_learn(backbones: Path) -> None:
    encoder = HubAudioEncoder(HubAudioConfig(source=str(backbones / "wavlm"))).train()
    learning = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    assert learning == ["layer_weights"]
    assert not any(module.training for module in encoder.backbone.modules())
    tokens = encoder(noise(6400, 0.1))
    assert_close(encoder(noise(6400, 0.1)), tokens)  # no dropout, no masking
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert encoder.layer_weights.grad is not None
    assert encoder.layer_weights.grad.abs().min() > 0


@pytest.mark.parametrize(("normalise", "alike"), [("segment", True), ("no", False), ("file", False)])
def test_only_normalise_segment_removes_loudness_inside_the_encoder(
    backbones: Path, normalise: Literal["no", "segment", "file"], alike: bool
) -> None:
    """With normalise: file the caller has scaled the audio already; scaling it again would undo that."""
    config = HubAudioConfig(source=str(backbones / "wavlm"), normalise=normalise)
    encoder = HubAudioEncoder(config).eval()
    waveforms: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: waveforms.append(inputs[0]))
    encoder(noise(6400, 0.1) + 0.2)
    encoder(5 * (noise(6400, 0.1) + 0.2))
    assert torch.allclose(waveforms[0], waveforms[1], atol=1e-2) is alike
    assert waveforms[0].shape == (1, 6400 + 400)


def test_the_kind_of_config_selects_the_encoder(backbones: Path) -> None:
    assert isinstance(build_audio_encoder(LogMelAudioConfig(width=8)), LogMelEncoder)
    wavlm = build_audio_encoder(HubAudioConfig(source=str(backbones / "wavlm")))
    assert isinstance(wavlm, HubAudioEncoder)
    assert wavlm.width == 16
