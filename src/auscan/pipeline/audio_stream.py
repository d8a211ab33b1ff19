"""The sound of a video as audio tokens, heard in step with the picture and kept on the disk.

Only what a face can hear is encoded: hours of sound beside a few faces are read and measured, and no more.

In: the waveform, a chunk at a time, and the moments at which there are faces.  Out: the tokens so far.
Not here: reading the sound (media/audio.py), encoding it (inference/engine.py).

Sound that arrives bit by bit, as audio tokens.

A token near the edge of what has arrived lacks the sound after it; the encoder hears silence in its place. So
the last second is encoded anew each time it is asked for, and a token is kept for good only when a second
of sound follows it. Cut as by `inference.audio_segments.encode_audio_stream`: asked once, at the end, it
gives the same tokens.

In: stretches of sound with their times.  Out: the tokens so far.
Not here: recording (media/stream.py), asking the sound (inference/).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.audio_segments import CONTEXT_S, SEGMENT_S, Segment, segments
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.score_track import audio_margin_s
from auscan.media.audio import JITTER_S, Waveform
from auscan.pipeline.prefetch import prefetch
from auscan.pipeline.track import SpooledArray


@dataclass(frozen=True, slots=True)
class SpooledAudioTokens:
    """Audio tokens kept in a file (an `inference.score_track.AudioTokenSource`)."""

    tokens: SpooledArray
    """[Ta, Da]."""
    times_s: NDArray[np.float64]
    """[Ta]."""


class AudioTokenReader:
    """Reads no further than it is asked to, and one segment ahead; encodes what somebody hears."""

    def __init__(self, engine: InferenceEngine, chunks: Iterator[Waveform] | None) -> None:
        """chunks: of the whole sound; None where there is none."""
        self._engine, self._margin_s = engine, audio_margin_s(engine)
        self._segments = prefetch(() if chunks is None else segments(chunks), 1)
        self._read_s = -np.inf
        self._unencoded: list[Segment] = []  # those that a later frame may still hear
        self._tokens: SpooledArray | None = None
        self._times_s: list[NDArray[np.float64]] = []
        self.has_audio = False
        """Whether there is any sound, as far as it was read."""

    def advance(self, time_s: float, has_faces: bool) -> None:
        """Go on to a frame, never back; has_faces: whether the sound around it is needed.

        At infinity the sound is read to its end.
        """
        first_s, last_s = time_s - self._margin_s, time_s + self._margin_s
        self._unencoded = [segment for segment in self._unencoded if segment.times_s[-1] >= first_s]
        while self._read_s < last_s:
            segment = next(self._segments, None)
            self._read_s = np.inf if segment is None else segment.times_s[-1]
            self.has_audio |= segment is not None
            if segment is not None and self._read_s >= first_s:
                self._unencoded.append(segment)
        while has_faces and self._unencoded:
            self._encode(self._unencoded.pop(0))

    def _encode(self, segment: Segment) -> None:
        encoded = segment.encode(self._engine)
        if self._tokens is None:
            self._tokens = SpooledArray(encoded.tokens.shape[1:])
        self._tokens.append(encoded.tokens)
        self._times_s.append(encoded.times_s)

    @property
    def tokens(self) -> SpooledAudioTokens | None:
        """What was heard so far; None where that is not one token."""
        if self._tokens is None:
            return None
        return SpooledAudioTokens(self._tokens, np.concatenate(self._times_s))

    def close(self) -> None:
        """Hear no more."""
        self._segments.close()


CONTEXT_SAMPLES = round(CONTEXT_S * SAMPLE_RATE_HZ)
SEGMENT_SAMPLES = round(SEGMENT_S * SAMPLE_RATE_HZ)


class AudioTokenBuffer:
    """Takes sound in, gives tokens out, forgets what is no longer needed."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self._start_s = 0.0
        self._received = 0  # samples since the start
        self._finished = 0  # samples whose tokens are for good
        self._dropped = 0  # tokens
        self._buffer = np.empty(0, np.float32)  # from a second before what is settled
        self._tokens: NDArray[np.float32] | None = None

    def push(self, sound: Waveform) -> None:
        """The next stretch; a pause before it becomes zeros, what was there already is dropped."""
        if self._received == 0:
            self._start_s = sound.start_s
        samples = sound.samples
        missing = round((sound.start_s - self._start_s) * SAMPLE_RATE_HZ) - self._received
        if missing > JITTER_S * SAMPLE_RATE_HZ:
            samples = np.concatenate([np.zeros(missing, np.float32), samples])
        elif missing < -JITTER_S * SAMPLE_RATE_HZ:
            samples = samples[-missing:]
        self._buffer = np.concatenate([self._buffer, samples])
        self._received += len(samples)

    def tokens(self) -> AudioTokens | None:
        """All tokens that were not forgotten, the last second's still provisional; None if there are none."""
        while len(self._buffer) >= self._context + SEGMENT_SAMPLES + CONTEXT_SAMPLES:
            encoded = self._encode(self._context + SEGMENT_SAMPLES + CONTEXT_SAMPLES)
            self._append_finished(encoded[: SEGMENT_SAMPLES // TOKEN_HOP])
        latest = self._encode(len(self._buffer))
        finished = max(0, len(self._buffer) - self._context - CONTEXT_SAMPLES) // TOKEN_HOP
        self._append_finished(latest[:finished])
        tokens = latest if self._tokens is None else np.concatenate([self._tokens, latest[finished:]])
        if not len(tokens):
            return None
        first_s = self._start_s + self._dropped * TOKEN_HOP / SAMPLE_RATE_HZ
        times_s = first_s + (np.arange(len(tokens)) + 0.5) * TOKEN_HOP / SAMPLE_RATE_HZ
        return AudioTokens(tokens, times_s)

    def drop_before(self, before_s: float) -> None:
        """Let go of tokens that nobody will ask for again."""
        if self._tokens is None or not np.isfinite(before_s):
            return
        count = int((before_s - self._start_s) * SAMPLE_RATE_HZ) // TOKEN_HOP - self._dropped
        count = min(max(count, 0), len(self._tokens))
        self._tokens = self._tokens[count:].copy()
        self._dropped += count

    @property
    def _context(self) -> int:
        """Samples at the front of what is held whose tokens are settled."""
        return min(self._finished, CONTEXT_SAMPLES)

    def _encode(self, count: int) -> NDArray[np.float32]:
        """Tokens of the first samples held, without those that are settled."""
        return self._engine.encode_audio(self._buffer[:count])[self._context // TOKEN_HOP :]

    def _append_finished(self, tokens: NDArray[np.float32]) -> None:
        if not len(tokens):
            return
        self._tokens = tokens if self._tokens is None else np.concatenate([self._tokens, tokens])
        used = self._context + len(tokens) * TOKEN_HOP
        self._finished += len(tokens) * TOKEN_HOP
        self._buffer = self._buffer[used - self._context :].copy()
