"""The sound of a video as audio tokens, heard in step with the picture and kept on the disk.

Only what a face can hear is encoded: hours of sound beside a few faces are read and measured, and no more.

In: the waveform, a chunk at a time, and the moments at which there are faces.  Out: the tokens so far.
Not here: reading the sound (media/audio.py), encoding it (inference/stages.py).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auscan.inference.follow import earshot_s
from auscan.inference.stages import AudioTokens, Segment, Stages, segments
from auscan.media.audio import Waveform
from auscan.pipeline.ahead import ahead
from auscan.pipeline.rows import DiskRows


class Soundtrack:
    """Reads no further than it is asked to, and one segment ahead; encodes what somebody hears."""

    def __init__(self, stages: Stages, chunks: Iterator[Waveform] | None) -> None:
        """chunks: of the whole sound; None where there is none."""
        self._stages, self._earshot_s = stages, earshot_s(stages)
        self._segments = ahead(() if chunks is None else segments(chunks), 1)
        self._read_s = -np.inf
        self._unheard: list[Segment] = []  # those that a later frame may still hear
        self._tokens: DiskRows | None = None
        self._times_s: list[NDArray[np.float64]] = []
        self.is_there = False
        """Whether there is any sound, as far as it was read."""

    def listen(self, time_s: float, is_heard: bool) -> None:
        """Go on to a frame, never back; is_heard: somebody in it hears what is around it.

        At infinity the sound is read to its end.
        """
        first_s, last_s = time_s - self._earshot_s, time_s + self._earshot_s
        self._unheard = [segment for segment in self._unheard if segment.times_s[-1] >= first_s]
        while self._read_s < last_s:
            segment = next(self._segments, None)
            self._read_s = np.inf if segment is None else segment.times_s[-1]
            self.is_there |= segment is not None
            if segment is not None and self._read_s >= first_s:
                self._unheard.append(segment)
        while is_heard and self._unheard:
            self._encode(self._unheard.pop(0))

    def _encode(self, segment: Segment) -> None:
        heard = segment.encode(self._stages)
        if self._tokens is None:
            self._tokens = DiskRows(heard.tokens.shape[1:])
        self._tokens.append(heard.tokens)
        self._times_s.append(heard.times_s)

    @property
    def tokens(self) -> AudioTokens | None:
        """What was heard so far; None where that is not one token."""
        if self._tokens is None:
            return None
        return AudioTokens(self._tokens.as_array(), np.concatenate(self._times_s))

    def close(self) -> None:
        """Hear no more."""
        self._segments.close()
