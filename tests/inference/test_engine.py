"""Test that audio of any length is encoded in bounded memory and independent of the input chunks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from auscan.core.config import TOKEN_HOP
from auscan.inference.engine import (
    CONTEXT_S,
    SEGMENT_S,
    AudioLevel,
    AudioTokens,
    encode_audio_stream,
    measure_level,
)
from auscan.inference.torch_engine import TorchEngine
from auscan.media.audio import Waveform

RATE_HZ = 16_000
START_S = 5.25


class MeanEncoder:
    """Encoder with the mean of 320 scaled samples as token; records the length of each call."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def encode_audio(
        self, samples: NDArray[np.float32], level: AudioLevel | None = None
    ) -> NDArray[np.float32]:
        self.lengths.append(len(samples))
        samples = samples if level is None else level.scale(samples)
        count = len(samples) // TOKEN_HOP
        return samples[: count * TOKEN_HOP].reshape(count, TOKEN_HOP).mean(1, keepdims=True)


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float32]:
    """Return 65.3 s of noise and 123 samples: four segments, the last one short, and a partial token."""
    count = round(65.3 * RATE_HZ) + 123
    return (0.1 * np.random.default_rng(0).standard_normal(count)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Any) -> TorchEngine:
    return TorchEngine(tiny_checkpoint)


def in_chunks(samples: NDArray[np.float32], length: int) -> Iterator[Waveform]:
    for start in range(0, len(samples), length):
        yield Waveform(samples[start : start + length], START_S + start / RATE_HZ)


def encoded(engine: Any, samples: NDArray[np.float32], length: int = 30 * RATE_HZ) -> AudioTokens:
    sound = encode_audio_stream(engine, in_chunks(samples, length))
    assert sound is not None
    return sound


def test_long_audio_in_segments_equals_the_audio_in_one_call(
    engine: TorchEngine, noise: NDArray[np.float32]
) -> None:
    """Segments meet at 20, 40 and 60 s; their context is longer than the receptive field of a token."""
    sound = encoded(engine, noise)
    whole = engine.encode_audio(noise)
    assert len(whole) == len(noise) // TOKEN_HOP
    assert_allclose(sound.tokens, whole, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("length", [16_000, 33_333, 20 * RATE_HZ, 21 * RATE_HZ, 10**9])
def test_tokens_do_not_depend_on_the_input_chunks(
    engine: TorchEngine, noise: NDArray[np.float32], length: int
) -> None:
    assert_allclose(encoded(engine, noise, length).tokens, encoded(engine, noise).tokens, atol=1e-6)
    assert_allclose(
        encoded(engine, noise, length).times_s, encoded(engine, noise).times_s, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "seconds", [0.02, 1.0, 19.98, 20.0, 20.02, 20.99, 21.0, 21.02, 39.99, 40.0, 41.0, 41.01, 62.5]
)
def test_every_token_appears_once_and_in_order(seconds: float) -> None:
    """For lengths around the end of a segment, no token may be repeated or missing."""
    samples = np.arange(round(seconds * RATE_HZ), dtype=np.float32)
    sound = encoded(MeanEncoder(), samples, length=7777)
    count = len(samples) // TOKEN_HOP
    assert sound.tokens.shape == (count, 1)
    assert_allclose(sound.tokens[:, 0], np.arange(count) * TOKEN_HOP + (TOKEN_HOP - 1) / 2, rtol=1e-5)


def test_token_times_are_their_centres_on_the_clock_of_the_frames() -> None:
    sound = encoded(MeanEncoder(), np.zeros(50 * TOKEN_HOP + 7, np.float32), length=1000)
    assert sound.times_s.dtype == np.float64
    assert_allclose(sound.times_s, START_S + 0.01 + 0.02 * np.arange(50), rtol=0, atol=1e-12)


def test_long_audio_is_encoded_one_segment_per_call() -> None:
    """Memory must not grow with the length: no call gets more than a segment with its context."""
    encoder = MeanEncoder()
    encoded(encoder, np.zeros(200 * RATE_HZ, np.float32))
    assert max(encoder.lengths) == (SEGMENT_S + 2 * CONTEXT_S) * RATE_HZ
    assert len(encoder.lengths) == 10


def test_a_segment_has_20_s_and_a_second_of_context_on_each_side() -> None:
    encoder = MeanEncoder()
    encoded(encoder, np.zeros(60 * RATE_HZ, np.float32))
    assert encoder.lengths == [21 * RATE_HZ, 22 * RATE_HZ, 21 * RATE_HZ]


@pytest.mark.parametrize("samples", [1, 100, 319])
def test_audio_shorter_than_one_token_is_none(engine: TorchEngine, samples: int) -> None:
    assert encode_audio_stream(engine, in_chunks(np.ones(samples, np.float32), 16_000)) is None


def test_audio_without_chunks_is_none(engine: TorchEngine) -> None:
    assert encode_audio_stream(engine, iter(())) is None


@pytest.mark.parametrize("length", [777, 16_000, 30 * RATE_HZ])
def test_the_level_of_audio_in_chunks_is_that_of_the_whole(noise: NDArray[np.float32], length: int) -> None:
    loud_then_quiet = noise * np.linspace(2.0, 0.01, len(noise), dtype=np.float32) + np.float32(0.05)
    level = measure_level(in_chunks(loud_then_quiet, length))
    exact = loud_then_quiet.astype(np.float64)
    assert level.mean == pytest.approx(exact.mean(), abs=1e-9)
    assert level.std == pytest.approx(np.sqrt(exact.var() + 1e-7), rel=1e-9)


def test_a_level_scales_all_segments_alike(noise: NDArray[np.float32]) -> None:
    """Scaling each segment by its own level would make a quiet minute as loud as a shout."""
    fading = noise * np.linspace(1.0, 0.1, len(noise), dtype=np.float32)
    level = measure_level(in_chunks(fading, 16_000))
    scaled = encode_audio_stream(MeanEncoder(), in_chunks(fading, 16_000), level)
    assert scaled is not None
    raw = encoded(MeanEncoder(), fading)
    assert_allclose(scaled.tokens, (raw.tokens - level.mean) / level.std, atol=1e-5)
    assert_allclose(scaled.times_s, raw.times_s)


@pytest.mark.parametrize("samples", [np.empty(0, np.float32), np.zeros(16_000, np.float32)])
def test_the_level_of_silence_scales_nothing_to_infinity(samples: NDArray[np.float32]) -> None:
    level = measure_level([Waveform(samples, 0.0)])
    assert level.std > 0
    assert np.isfinite(level.scale(samples)).all()
