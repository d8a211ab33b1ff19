"""Test that the export implementations of scan, spectrum and batch norms equal those of the network."""

import copy

import pytest
import torch
from torch.testing import assert_close

from auscan.core.config import ConvVisualConfig, LogMelAudioConfig
from auscan.encoders.audio import LogMelEncoder
from auscan.encoders.visual import ConvEncoder
from auscan.model.graphs import SpectrumByConvolution, fold_batch_norms, scan_short
from auscan.model.scan import scan_recurrence


@pytest.mark.parametrize("frames", [1, 2, 63, 130])
@pytest.mark.parametrize("step", [0.01, 1.0, 80.0])
def test_the_scan_of_a_short_chunk_equals_the_recurrence(frames: int, step: float) -> None:
    """With an initial state, and with slow and fast decay."""
    torch.manual_seed(frames)
    double = {"dtype": torch.float64}
    x, dt = torch.randn(1, frames, 3, 4, **double), step * torch.rand(1, frames, 3, **double)
    A, D = -torch.rand(3, **double) - 0.5, torch.randn(3, **double)
    Bm, Cm = torch.randn(2, 1, frames, 5, **double)
    state = torch.randn(1, 3, 4, 5, **double)
    expected = scan_recurrence(x, dt, A, Bm, Cm, D, state)
    for ours, theirs in zip(scan_short(x, dt, A, Bm, Cm, D, state), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_folded_encoder_gives_the_same_tokens() -> None:
    """With batch norms that have running statistics, and shortcuts with and without a change of size."""
    torch.manual_seed(0)
    encoder = ConvEncoder(ConvVisualConfig(crop_size=32, widths=(8, 12, 16), blocks=(1, 2, 1)))
    crops = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8)
    encoder.train()
    encoder(crops)
    encoder.eval()
    folded = copy.deepcopy(encoder)
    fold_batch_norms(folded)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for ours, theirs in zip(folded(crops), encoder(crops), strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("samples", [320, 1000, 16_001])
def test_the_spectrum_by_convolution_equals_the_spectrum_by_fft(samples: int) -> None:
    encoder = LogMelEncoder(LogMelAudioConfig(mel_bands=16, width=12, blocks=1)).eval()
    waveform = 0.1 * torch.randn(1, samples)
    assert_close(SpectrumByConvolution(encoder)(waveform), encoder.log_mel(waveform), rtol=1e-4, atol=1e-4)
