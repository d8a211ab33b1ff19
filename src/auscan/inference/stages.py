"""What a stage is: the contract between the pipeline and whatever engine runs the network.

The network is three stages with plain arrays between them (design: section 3). The pipeline knows this
file only; it cannot tell which engine answers.

    look     crops of one face            -> frame embeddings, AU tokens, refined points
    listen   sound of the whole input     -> audio tokens
    follow   one track and the sound      -> logits

In and out: numpy.  Not here: the engines (with_torch.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, CheckpointConfig
from auscan.media.audio import Waveform

SEGMENT_S = 20.0
"""Sound is encoded in segments of this length, counted from its start, however the file was chunked."""
CONTEXT_S = 1.0
"""Sound on each side that a segment may hear, but whose tokens are thrown away."""


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """What the visual stage knows of T frames of one face."""

    embedding: NDArray[np.float32]
    """[T, d]."""
    au_tokens: NDArray[np.float32]
    """[T, A, da]."""
    points: NDArray[np.float32]
    """[T, 5, 2] px of the crop."""
    last_patches: NDArray[np.float32]
    """[N, Dv]; goes into the next call for the same face."""


@dataclass(frozen=True, slots=True)
class AudioTokens:
    """The sound of an input as the temporal stage hears it."""

    tokens: NDArray[np.float32]
    """[Ta, Da]."""
    times_s: NDArray[np.float64]
    """[Ta] on the clock of the frames."""


class Stages(Protocol):
    """The three stages of one checkpoint."""

    @property
    def config(self) -> CheckpointConfig:
        """The checkpoint's answers about itself."""

    def look(self, crops: NDArray[np.uint8], previous: NDArray[np.float32] | None) -> FaceFeatures:
        """crops [T, S, S, 3] RGB of one face in order of time; previous [N, Dv], None at its first frame."""

    def encode_sound(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """samples [M] at 16 kHz -> tokens [M // 320, Da]."""

    def follow(
        self,
        embedding: NDArray[np.float32],
        au_tokens: NDArray[np.float32],
        times_s: NDArray[np.float64],
        sound: AudioTokens | None,
    ) -> NDArray[np.float32]:
        """One whole track [T, d], [T, A, da], [T] s and the sound, None if there is none -> logits [T, A]."""


def load(checkpoint: str | Path = "nano") -> Stages:
    """The stages of a shipped checkpoint or of a folder.

    Raises CheckpointError where it cannot be found or does not fit.
    """
    from auscan.inference.with_torch import TorchStages  # torch loads here, not with the pipeline

    return TorchStages(checkpoint)


def listen(stages: Stages, sound: Iterable[Waveform]) -> AudioTokens | None:
    """Encode sound of any length; None where it is shorter than one token.

    sound: contiguous stretches.  The cuts lie at fixed times from the start, so that no token depends on
    how the caller stretched them, and only one segment is in memory.
    """
    tokens: list[NDArray[np.float32]] = []
    start_s: float | None = None
    for chunk_start_s, samples, own in _segments(sound):
        start_s = chunk_start_s if start_s is None else start_s
        encoded = stages.encode_sound(samples)
        tokens.append(encoded[own])
    if start_s is None or not sum(map(len, tokens)):
        return None
    joined = np.concatenate(tokens)
    times_s = start_s + (np.arange(len(joined), dtype=np.float64) + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)
    return AudioTokens(joined, times_s)


def _segments(sound: Iterable[Waveform]) -> Iterator[tuple[float, NDArray[np.float32], slice]]:
    """Start of the sound (s), samples of a segment with its context, and which tokens are its own."""
    length, context = round(SEGMENT_S * SAMPLE_RATE_HZ), round(CONTEXT_S * SAMPLE_RATE_HZ)
    held = np.empty(0, dtype=np.float32)
    start_s, before = 0.0, 0  # samples of context at the front of `held`
    first = True
    for stretch in sound:
        start_s, first = (stretch.start_s, False) if first else (start_s, False)
        held = np.concatenate([held, stretch.samples])
        while len(held) >= before + length + context:
            own = slice(before // TOKEN_HOP, (before + length) // TOKEN_HOP)
            yield start_s, held[: before + length + context], own
            held = held[before + length - context :]
            before = context
    if len(held) > before:
        yield start_s, held, slice(before // TOKEN_HOP, None)
