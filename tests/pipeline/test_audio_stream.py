"""Prefetching keeps items and their order and ends its thread; a live feed drops frames and counts them.

Audio streams: only audio near faces is encoded, and its tokens equal those of the whole audio.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.engine import (
    CONTEXT_S,
    SEGMENT_S,
    AudioTokens,
    InferenceEngine,
    encode_audio_stream,
    measure_level,
)
from auscan.inference.torch_engine import TorchEngine
from auscan.media.audio import Waveform
from auscan.media.video import Frame
from auscan.pipeline.audio_stream import (
    MAX_WAITING_FRAMES,
    AudioTokenBuffer,
    AudioTokenReader,
    LiveFeed,
    prefetch,
)


def test_all_items_are_returned_in_order() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert list(prefetch([], 3)) == []


def test_the_thread_stays_within_its_depth() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    for taken in prefetch(count(), 4):
        assert len(made) <= taken + 1 + 4 + 1  # taken, in the queue, and one waiting to be put


def test_an_error_is_raised_at_its_position() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("at the second")

    items = prefetch(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="at the second"):
        next(items)


def test_stopping_early_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            i = 0
            while True:
                i += 1
                yield i
        finally:
            closed.set()

    before = threading.active_count()
    items = prefetch(endless(), 2)
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_chain_of_threads_ends_when_its_last_link_is_closed() -> None:
    before = threading.active_count()
    first = prefetch(iter(range(1000)), 2)
    last = prefetch((i * i for i in first), 2)
    assert [next(last) for _ in range(4)] == [0, 1, 4, 9]
    last.close()
    first.close()
    assert threading.active_count() == before


def source(count: int) -> Iterator[Frame | Waveform]:
    for i in range(count):
        yield Frame(i, i / 100, np.zeros((1, 1, 3), np.uint8))
        yield Waveform(np.zeros(160, np.float32), i / 100)


def test_nothing_is_dropped_if_there_is_time() -> None:
    feed = LiveFeed(source(20), paced=True)
    items = list(feed)
    assert [item.index for item in items if isinstance(item, Frame)] == list(range(20))
    assert sum(isinstance(item, Waveform) for item in items) == 20
    assert feed.dropped == 0


def test_late_frames_are_dropped_and_counted_but_audio_never_is() -> None:
    feed = LiveFeed(source(100), paced=False)
    frames, waves = [], 0
    for item in feed:
        if isinstance(item, Frame):
            time.sleep(0.005)
            frames.append(item.index)
        else:
            waves += 1
    assert waves == 100
    assert MAX_WAITING_FRAMES <= len(frames) < 100
    assert frames == sorted(frames)
    assert feed.dropped == 100 - len(frames)


def test_an_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[Frame | Waveform]:
        yield from source(1)
        raise ValueError("unplugged")

    with pytest.raises(ValueError, match="unplugged"):
        list(LiveFeed(broken(), paced=False))


START_S, LENGTH_S = 1.5, 310


class CountingEngine:
    """InferenceEngine that counts the seconds of audio it encodes."""

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
    """Tokens of the whole audio."""
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
def test_only_the_audio_around_faces_is_encoded_and_its_tokens_are_those_of_the_whole(
    engine: CountingEngine, all_tokens: AudioTokens, faces_s: list[float], segments: int
) -> None:
    """One frame a second, some with a face; near the end of a segment the next one is within reach, too."""
    with closing(AudioTokenReader(engine, minutes_of_noise())) as audio:
        for time_s in sorted({*np.arange(0.0, 400.0), *faces_s}):
            audio.advance(time_s, has_faces=time_s in faces_s)
        tokens = audio.tokens
    assert tokens is not None
    assert engine.seconds <= segments * (SEGMENT_S + 2 * CONTEXT_S)
    places = np.searchsorted(all_tokens.times_s, tokens.times_s)
    assert_array_equal(all_tokens.times_s[places], tokens.times_s)
    assert_array_equal(all_tokens.tokens[places], tokens.tokens[:])
    for face_s in faces_s:
        in_reach = all_tokens.times_s[np.abs(all_tokens.times_s - face_s) <= 0.5]
        assert np.isin(in_reach, tokens.times_s).all()


def test_audio_out_of_reach_is_read_to_its_end_and_counts_as_audio(engine: CountingEngine) -> None:
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(AudioTokenReader(engine, chunks)) as audio:
        audio.advance(np.inf, has_faces=False)
        assert audio.has_audio
        assert audio.tokens is None
    assert len(read) == LENGTH_S
    assert engine.seconds == 0


def test_audio_is_read_at_most_one_segment_ahead(engine: CountingEngine) -> None:
    """Otherwise an hour of audio would be in memory before its frames are decoded."""
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(AudioTokenReader(engine, chunks)) as audio:
        audio.advance(30.0, has_faces=True)
        assert len(read) <= 5 * SEGMENT_S


class Recorder:
    """Audio encoder that records the duration of each call's samples in seconds."""

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


class PassThrough:
    """Audio encoder whose tokens are the first sample of each 20 ms."""

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return samples[: len(samples) // TOKEN_HOP * TOKEN_HOP : TOKEN_HOP, None]


def test_live_audio_is_scaled_by_the_level_of_the_audio_so_far() -> None:
    """The level of the whole is not known yet; at the end both agree."""
    engine: Any = PassThrough()
    buffer = AudioTokenBuffer(engine, normalise=True)
    noise = np.random.default_rng(3).normal(0.1, 0.2, 4 * SAMPLE_RATE_HZ).astype(np.float32)
    for second in range(4):
        chunk = noise[second * SAMPLE_RATE_HZ : (second + 1) * SAMPLE_RATE_HZ]
        buffer.push(Waveform(chunk * (1 + second), float(second)))
    received = np.concatenate([noise[s * 16_000 : (s + 1) * 16_000] * (1 + s) for s in range(4)])
    tokens = buffer.tokens()
    assert tokens is not None
    whole = encode_audio_stream(engine, [Waveform(received, 0.0)], measure_level([Waveform(received, 0.0)]))
    assert whole is not None
    np.testing.assert_allclose(tokens.tokens, whole.tokens, atol=1e-5)


def test_the_audio_of_a_file_is_scaled_by_the_level_that_is_given() -> None:
    engine: Any = CountingEngine(PassThrough())  # type: ignore[arg-type]
    network = SimpleNamespace(fusion=SimpleNamespace(reach_s=0.5))
    engine.engine.config = SimpleNamespace(format=2, network=network)
    level = measure_level(minutes_of_noise())
    with closing(AudioTokenReader(engine, minutes_of_noise(), level)) as audio:
        audio.advance(10.0, has_faces=True)
        tokens = audio.tokens
    assert tokens is not None
    whole = encode_audio_stream(engine, minutes_of_noise(), level)
    assert whole is not None
    assert_array_equal(tokens.tokens[:], whole.tokens[: len(tokens.times_s)])
