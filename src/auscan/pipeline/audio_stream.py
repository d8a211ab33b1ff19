"""The sound of a video as audio tokens, heard in step with the picture and kept on the disk.

Only what a face can hear is encoded: hours of sound beside a few faces are read and measured, and no more.

In: the waveform, a chunk at a time, and the moments at which there are faces.  Out: the tokens so far.
Not here: reading the sound (media/audio.py), encoding it (inference/stages.py).

Sound that arrives bit by bit, as audio tokens.

A token near the edge of what has arrived lacks the sound after it; the encoder hears silence in its place. So
the last second is encoded anew each time it is asked for, and a token is kept for good only when a second
of sound follows it. Cut as by `inference.stages.listen`: asked once, at the end, it gives the same tokens.

In: stretches of sound with their times.  Out: the tokens so far.
Not here: recording (media/stream.py), asking the sound (inference/).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.engine import CONTEXT_S, SEGMENT_S, AudioTokens, Segment, Stages, segments
from auscan.inference.score_track import earshot_s
from auscan.media.audio import JITTER_S, Waveform
from auscan.pipeline.prefetch import ahead
from auscan.pipeline.track import DiskRows


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


CONTEXT = round(CONTEXT_S * SAMPLE_RATE_HZ)
SEGMENT = round(SEGMENT_S * SAMPLE_RATE_HZ)


class LiveSound:
    """Takes sound in, gives tokens out, forgets what is no longer needed."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._start_s = 0.0
        self._arrived = 0  # samples since the start
        self._settled = 0  # samples whose tokens are for good
        self._forgotten = 0  # tokens
        self._held = np.empty(0, np.float32)  # from a second before what is settled
        self._tokens: NDArray[np.float32] | None = None

    def push(self, sound: Waveform) -> None:
        """The next stretch; a pause before it becomes zeros, what was there already is dropped."""
        if self._arrived == 0:
            self._start_s = sound.start_s
        samples = sound.samples
        missing = round((sound.start_s - self._start_s) * SAMPLE_RATE_HZ) - self._arrived
        if missing > JITTER_S * SAMPLE_RATE_HZ:
            samples = np.concatenate([np.zeros(missing, np.float32), samples])
        elif missing < -JITTER_S * SAMPLE_RATE_HZ:
            samples = samples[-missing:]
        self._held = np.concatenate([self._held, samples])
        self._arrived += len(samples)

    def tokens(self) -> AudioTokens | None:
        """All tokens that were not forgotten, the last second's still provisional; None if there are none."""
        while len(self._held) >= self._before + SEGMENT + CONTEXT:
            encoded = self._encode(self._before + SEGMENT + CONTEXT)
            self._settle(encoded[: SEGMENT // TOKEN_HOP])
        fresh = self._encode(len(self._held))
        ready = max(0, len(self._held) - self._before - CONTEXT) // TOKEN_HOP
        self._settle(fresh[:ready])
        kept = fresh if self._tokens is None else np.concatenate([self._tokens, fresh[ready:]])
        if not len(kept):
            return None
        first_s = self._start_s + self._forgotten * TOKEN_HOP / SAMPLE_RATE_HZ
        times_s = first_s + (np.arange(len(kept)) + 0.5) * TOKEN_HOP / SAMPLE_RATE_HZ
        return AudioTokens(kept, times_s)

    def forget(self, before_s: float) -> None:
        """Let go of tokens that nobody will ask for again."""
        if self._tokens is None or not np.isfinite(before_s):
            return
        gone = int((before_s - self._start_s) * SAMPLE_RATE_HZ) // TOKEN_HOP - self._forgotten
        gone = min(max(gone, 0), len(self._tokens))
        self._tokens = self._tokens[gone:].copy()
        self._forgotten += gone

    @property
    def _before(self) -> int:
        """Samples at the front of what is held whose tokens are settled."""
        return min(self._settled, CONTEXT)

    def _encode(self, count: int) -> NDArray[np.float32]:
        """Tokens of the first samples held, without those that are settled."""
        return self._stages.encode_sound(self._held[:count])[self._before // TOKEN_HOP :]

    def _settle(self, tokens: NDArray[np.float32]) -> None:
        if not len(tokens):
            return
        self._tokens = tokens if self._tokens is None else np.concatenate([self._tokens, tokens])
        front = self._before + len(tokens) * TOKEN_HOP
        self._settled += len(tokens) * TOKEN_HOP
        self._held = self._held[front - self._before :].copy()
