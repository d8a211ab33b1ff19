"""Sound of any length is heard the same, however it was read, and in bounded memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from auscan.core.config import TOKEN_HOP
from auscan.inference.audio_segments import CONTEXT_S, SEGMENT_S, encode_audio_stream
from auscan.inference.engine import AudioTokens
from auscan.inference.torch_engine import TorchEngine
from auscan.media.audio import Waveform

RATE_HZ = 16_000
START_S = 5.25


class MeanEncoder:
    """An encoder whose token is the mean of its own samples; remembers how much it was given."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.lengths.append(len(samples))
        count = len(samples) // TOKEN_HOP
        return samples[: count * TOKEN_HOP].reshape(count, TOKEN_HOP).mean(1, keepdims=True)


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float32]:
    """65.3 s and some samples: four segments, the last one short, no whole number of tokens."""
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


def test_long_sound_in_segments_is_encoded_as_if_whole(
    engine: TorchEngine, noise: NDArray[np.float32]
) -> None:
    """The seams lie at 20, 40 and 60 s; the context beside them is longer than what a token hears."""
    sound = encoded(engine, noise)
    whole = engine.encode_audio(noise)
    assert len(whole) == len(noise) // TOKEN_HOP
    assert_allclose(sound.tokens, whole, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("length", [16_000, 33_333, 20 * RATE_HZ, 21 * RATE_HZ, 10**9])
def test_the_chunks_a_file_was_read_in_leave_no_trace(
    engine: TorchEngine, noise: NDArray[np.float32], length: int
) -> None:
    assert_allclose(encoded(engine, noise, length).tokens, encoded(engine, noise).tokens, atol=1e-6)
    assert_allclose(
        encoded(engine, noise, length).times_s, encoded(engine, noise).times_s, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "seconds", [0.02, 1.0, 19.98, 20.0, 20.02, 20.99, 21.0, 21.02, 39.99, 40.0, 41.0, 41.01, 62.5]
)
def test_every_token_comes_once_and_in_order(seconds: float) -> None:
    """Around every place where a segment ends: none twice, none left out."""
    samples = np.arange(round(seconds * RATE_HZ), dtype=np.float32)
    sound = encoded(MeanEncoder(), samples, length=7777)
    count = len(samples) // TOKEN_HOP
    assert sound.tokens.shape == (count, 1)
    assert_allclose(sound.tokens[:, 0], np.arange(count) * TOKEN_HOP + (TOKEN_HOP - 1) / 2, rtol=1e-5)


def test_tokens_carry_the_time_of_their_middle_on_the_clock_of_the_frames() -> None:
    sound = encoded(MeanEncoder(), np.zeros(50 * TOKEN_HOP + 7, np.float32), length=1000)
    assert sound.times_s.dtype == np.float64
    assert_allclose(sound.times_s, START_S + 0.01 + 0.02 * np.arange(50), rtol=0, atol=1e-12)


def test_hours_of_sound_are_encoded_a_segment_at_a_time() -> None:
    """Memory must not grow with the length: no call sees more than a segment with its context."""
    encoder = MeanEncoder()
    encoded(encoder, np.zeros(200 * RATE_HZ, np.float32))
    assert max(encoder.lengths) == (SEGMENT_S + 2 * CONTEXT_S) * RATE_HZ
    assert len(encoder.lengths) == 10


def test_a_segment_has_20_s_and_a_second_of_context_on_each_side() -> None:
    encoder = MeanEncoder()
    encoded(encoder, np.zeros(60 * RATE_HZ, np.float32))
    assert encoder.lengths == [21 * RATE_HZ, 22 * RATE_HZ, 21 * RATE_HZ]


@pytest.mark.parametrize("samples", [1, 100, 319])
def test_sound_shorter_than_one_token_is_no_sound(engine: TorchEngine, samples: int) -> None:
    assert encode_audio_stream(engine, in_chunks(np.ones(samples, np.float32), 16_000)) is None


def test_no_sound_at_all_is_no_sound(engine: TorchEngine) -> None:
    assert encode_audio_stream(engine, iter(())) is None
