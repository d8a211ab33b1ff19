"""Long sound beside few faces: what they hear is as ever, and what nobody hears is read but not encoded."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.audio_segments import CONTEXT_S, SEGMENT_S, encode_audio_stream
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.torch_engine import TorchEngine
from auscan.media.audio import Waveform
from auscan.pipeline.audio_stream import AudioTokenBuffer, AudioTokenReader

START_S, LENGTH_S = 1.5, 310


class CountingEngine:
    """InferenceEngine that count the seconds of sound it encodes."""

    def __init__(self, engine: InferenceEngine) -> None:
        self.engine, self.seconds = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seconds += len(samples) / SAMPLE_RATE_HZ
        return self.engine.encode_audio(samples)


@pytest.fixture
def engine(tiny_checkpoint: Path) -> CountingEngine:
    return CountingEngine(TorchEngine(tiny_checkpoint))


@pytest.fixture(scope="module")
def all_tokens(tiny_checkpoint: Path) -> AudioTokens:
    """The tokens of the whole sound."""
    whole = encode_audio_stream(TorchEngine(tiny_checkpoint), minutes_of_noise())
    assert whole is not None
    return whole


def minutes_of_noise() -> Iterator[Waveform]:
    random = np.random.default_rng(0)
    for second in range(LENGTH_S):
        yield Waveform(0.1 * random.standard_normal(SAMPLE_RATE_HZ, np.float32), START_S + second)


@pytest.mark.parametrize(
    ("faces_s", "segments"),
    [
        ([2.0, 3.0, 4.0], 1),
        ([START_S + 4 * SEGMENT_S - 0.3], 2),
        ([START_S + 4 * SEGMENT_S + 0.3], 2),
        ([5.0, 150.0, 300.0], 3),
    ],
)
def test_the_sound_around_faces_is_encoded_as_ever_and_no_other(
    engine: CountingEngine, all_tokens: AudioTokens, faces_s: list[float], segments: int
) -> None:
    """A frame a second, some of them with a face; near the end of a segment it hears the next one, too."""
    with closing(AudioTokenReader(engine, minutes_of_noise())) as sound:
        for time_s in sorted({*np.arange(0.0, 400.0), *faces_s}):
            sound.advance(time_s, has_faces=time_s in faces_s)
        tokens = sound.tokens
    assert tokens is not None
    assert engine.seconds <= segments * (SEGMENT_S + 2 * CONTEXT_S)
    places = np.searchsorted(all_tokens.times_s, tokens.times_s)
    assert_array_equal(all_tokens.times_s[places], tokens.times_s)
    assert_array_equal(all_tokens.tokens[places], tokens.tokens[:])
    for face_s in faces_s:
        in_reach = all_tokens.times_s[np.abs(all_tokens.times_s - face_s) <= 0.5]
        assert np.isin(in_reach, tokens.times_s).all()


def test_sound_out_of_reach_is_read_to_its_end_and_counts_as_audio(engine: CountingEngine) -> None:
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(AudioTokenReader(engine, chunks)) as sound:
        sound.advance(np.inf, has_faces=False)
        assert sound.has_audio
        assert sound.tokens is None
    assert len(read) == LENGTH_S
    assert engine.seconds == 0


def test_it_reads_no_further_than_a_segment_ahead(engine: CountingEngine) -> None:
    """Else an hour of sound would be in memory before its pictures came."""
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(AudioTokenReader(engine, chunks)) as sound:
        sound.advance(30.0, has_faces=True)
        assert len(read) <= 5 * SEGMENT_S


class Recorder:
    """An encoder that records how many seconds of sound each call is given."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seconds.append(len(samples) / SAMPLE_RATE_HZ)
        return np.zeros((len(samples) // TOKEN_HOP, 1), np.float32)


def test_live_only_the_last_second_is_encoded_again_after_a_second_of_context() -> None:
    engine: Any = Recorder()
    buffer = AudioTokenBuffer(engine)
    for start_s in range(6):
        buffer.push(Waveform(np.zeros(SAMPLE_RATE_HZ, np.float32), float(start_s)))
        tokens = buffer.tokens()
        assert tokens is not None
        assert len(tokens.times_s) == 50 * (start_s + 1)
    assert engine.seconds == [1, 2, 3, 3, 3, 3]  # context, the provisional second, the new one
