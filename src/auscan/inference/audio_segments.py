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
"""Sound is encoded in segments of this length, counted from its start, however the file was chunked."""
CONTEXT_S = 1.0
"""Sound on each side that a segment may hear, but whose tokens are thrown away."""


class AudioEncoder(Protocol):
    """The part of `InferenceEngine` that encodes audio; datasets/features.py has another."""

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz as tokens [M // 320, Da]."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a sound that is encoded on its own; at least one token long."""

    samples: NDArray[np.float32]
    """[M] at 16 kHz, with context on both sides."""
    token_slice: slice
    """Which of the tokens that the samples give are the segment's, Ta of them."""
    times_s: NDArray[np.float64]
    """[Ta] when these are heard."""

    def encode(self, encoder: AudioEncoder) -> AudioTokens:
        """Its tokens."""
        return AudioTokens(encoder.encode_audio(self.samples)[self.token_slice], self.times_s)


def encode_audio_stream(encoder: AudioEncoder, sound: Iterable[Waveform]) -> AudioTokens | None:
    """Encode sound of any length; None where it is shorter than one token.

    sound: contiguous chunks.
    """
    encoded = [segment.encode(encoder) for segment in segments(sound)]
    if not encoded:
        return None
    return AudioTokens(
        np.concatenate([each.tokens for each in encoded]), np.concatenate([each.times_s for each in encoded])
    )


def segments(sound: Iterable[Waveform]) -> Iterator[Segment]:
    """Contiguous chunks of sound, split anew.

    The cuts lie at fixed times from the start, so that no token depends on how the caller split them, nor
    on which segments are encoded; only one is in memory.
    """
    first = 0  # token of the sound
    for start_s, samples, token_slice in _split(sound):
        count = len(range(len(samples) // TOKEN_HOP)[token_slice])
        if count:
            indices = np.arange(first, first + count, dtype=np.float64)
            yield Segment(samples, token_slice, start_s + (indices + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ))
        first += count


def _split(sound: Iterable[Waveform]) -> Iterator[tuple[float, NDArray[np.float32], slice]]:
    """Start of the sound (s), samples of a segment with its context, and which tokens are its own."""
    length, context = round(SEGMENT_S * SAMPLE_RATE_HZ), round(CONTEXT_S * SAMPLE_RATE_HZ)
    held = np.empty(0, dtype=np.float32)
    start_s, before = 0.0, 0  # samples of context at the front of `held`
    first = True
    for chunk in sound:
        start_s, first = (chunk.start_s, False) if first else (start_s, False)
        held = np.concatenate([held, chunk.samples])
        while len(held) >= before + length + context:
            token_slice = slice(before // TOKEN_HOP, (before + length) // TOKEN_HOP)
            yield start_s, held[: before + length + context], token_slice
            held = held[before + length - context :]
            before = context
    if len(held) > before:
        yield start_s, held, slice(before // TOKEN_HOP, None)
