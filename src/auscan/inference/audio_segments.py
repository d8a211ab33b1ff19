"""Encode audio of any length in overlapping segments, in bounded memory.

Inputs: contiguous chunks of samples at 16 kHz. Returns: audio tokens with their times.
See also: engine.py (`encode_audio`, one segment), pipeline/audio_stream.py (only the audio near faces).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.engine import AudioTokens
from auscan.media.audio import Waveform

SEGMENT_S = 20.0
"""Length of a segment; segments are counted from the start of the audio, independent of the input chunks."""
CONTEXT_S = 1.0
"""Audio on each side of a segment that is encoded with it; its tokens are dropped."""


class AudioEncoder(Protocol):
    """Object with `encode_audio`: an `InferenceEngine`, or the encoders of datasets/features.py."""

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz as tokens [M // 320, Da]."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of an audio stream that is encoded in one call; at least one token long."""

    samples: NDArray[np.float32]
    """Samples [M] at 16 kHz, with context on both sides."""
    token_slice: slice
    """Slice of the Ta tokens of the segment among all tokens of the samples."""
    times_s: NDArray[np.float64]
    """Times [Ta] of these tokens, seconds."""

    def encode(self, encoder: AudioEncoder) -> AudioTokens:
        """Encode the samples and return the tokens of the segment."""
        return AudioTokens(encoder.encode_audio(self.samples)[self.token_slice], self.times_s)


def encode_audio_stream(encoder: AudioEncoder, audio: Iterable[Waveform]) -> AudioTokens | None:
    """Encode audio of any length, given as contiguous chunks; return None if it is shorter than one token."""
    encoded = [segment.encode(encoder) for segment in segments(audio)]
    if not encoded:
        return None
    return AudioTokens(
        np.concatenate([each.tokens for each in encoded]), np.concatenate([each.times_s for each in encoded])
    )


def segments(audio: Iterable[Waveform]) -> Iterator[Segment]:
    """Split contiguous chunks of audio into segments.

    Segments start at fixed times from the start of the audio, so no token depends on the chunks of the caller
    or on the choice of encoded segments. Only one segment is in memory.
    """
    first = 0  # index of the segment's first token in the stream
    for start_s, samples, token_slice in _split(audio):
        count = len(range(len(samples) // TOKEN_HOP)[token_slice])
        if count:
            indices = np.arange(first, first + count, dtype=np.float64)
            yield Segment(samples, token_slice, start_s + (indices + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ))
        first += count


def _split(audio: Iterable[Waveform]) -> Iterator[tuple[float, NDArray[np.float32], slice]]:
    """Yield for each segment: start of the audio (s), samples with context, slice of the segment's tokens."""
    length, context = round(SEGMENT_S * SAMPLE_RATE_HZ), round(CONTEXT_S * SAMPLE_RATE_HZ)
    held = np.empty(0, dtype=np.float32)
    start_s, before = 0.0, 0  # samples of context at the front of `held`
    first = True
    for chunk in audio:
        start_s, first = (chunk.start_s, False) if first else (start_s, False)
        held = np.concatenate([held, chunk.samples])
        while len(held) >= before + length + context:
            token_slice = slice(before // TOKEN_HOP, (before + length) // TOKEN_HOP)
            yield start_s, held[: before + length + context], token_slice
            held = held[before + length - context :]
            before = context
    if len(held) > before:
        yield start_s, held, slice(before // TOKEN_HOP, None)
