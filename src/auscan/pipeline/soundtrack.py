"""The sound of a video as audio tokens, heard in step with the picture and kept on the disk.

In: the waveform, a chunk at a time.  Out: the tokens so far.
Not here: reading the sound (media/audio.py), encoding it (inference/stages.py).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.stages import AudioTokens, Stages, encode_segments, token_times
from auscan.media.audio import Waveform
from auscan.pipeline.ahead import ahead
from auscan.pipeline.rows import DiskRows


class Soundtrack:
    """Hears no further than it is asked to, and one segment ahead."""

    def __init__(self, stages: Stages, chunks: Iterator[Waveform] | None) -> None:
        """chunks: of the whole sound; None where there is none."""
        self._segments = ahead(() if chunks is None else encode_segments(stages, chunks), 1)
        self._start_s = 0.0
        self._end_s = -np.inf
        self._tokens: DiskRows | None = None

    def listen(self, until_s: float) -> None:
        """Hear at least up to a moment, or to the end of the sound."""
        while self._end_s < until_s:
            segment = next(self._segments, None)
            if segment is None:
                self._end_s = np.inf
            else:
                self._add(*segment)

    def _add(self, start_s: float, tokens: NDArray[np.float32]) -> None:
        if self._tokens is None:
            self._start_s, self._tokens = start_s, DiskRows(tokens.shape[1:])
        self._tokens.append(tokens)
        self._end_s = start_s + len(self._tokens) * TOKEN_HOP / SAMPLE_RATE_HZ

    @property
    def tokens(self) -> AudioTokens | None:
        """What was heard so far; None where that is not one token."""
        if self._tokens is None or not len(self._tokens):
            return None
        return AudioTokens(self._tokens.as_array(), token_times(self._start_s, len(self._tokens)))

    def close(self) -> None:
        """Hear no more."""
        self._segments.close()
