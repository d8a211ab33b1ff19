"""Run stages in background threads, and encode audio as audio tokens while its frames are processed.

`prefetch` runs one stage ahead of the next. Decoding, face detection and encoding spend their time in
libraries that release the interpreter lock, so one thread for each keeps the cores busy. Order and content
of the items do not change.

`LiveFeed` reads a camera, a stream or a paced file. It drops frames that cannot be processed in time, and
counts them. Audio is never dropped.

`AudioTokenReader` (files) encodes only the segments within reach of a face and stores their tokens on disk.
The rest of the audio is read, because its loudness is measured, but not encoded.

`AudioTokenBuffer` (live) encodes audio that arrives in pieces. A token near the end of the received audio
lacks the samples after it, and the encoder pads them with silence. The last second is therefore encoded
again on each call; a token is final once a second of audio follows it. Segments are those of
`inference.engine.encode_audio_stream`: called once, at the end, it returns the same tokens. For an encoder
with normalise: file, the level of the audio received so far takes the place of the level of the file, which
is not known yet.

Inputs: an iterable; chunks of samples at 16 kHz with their times in seconds; for a file also the times of
frames with faces.
Returns: the same items; audio tokens [Ta, Da] with their times [Ta] in seconds.
See also: media/audio.py (reading), media/stream.py (recording), inference/engine.py (the encoder).
"""

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue, SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.inference.engine import (
    CONTEXT_S,
    SEGMENT_S,
    AudioLevel,
    AudioLevelMeter,
    AudioTokens,
    InferenceEngine,
    Segment,
    segments,
)
from auscan.inference.score_track import reading_margin_s
from auscan.media.audio import JITTER_S, Waveform
from auscan.media.video import Frame
from auscan.pipeline.track import SpooledArray

T = TypeVar("T")
"""Type of an item."""

POLL_S = 0.1
"""Interval in seconds at which a waiting thread checks whether it was cancelled."""


class _EndOfItems:
    """End of the queue, with the exception that ended the iteration or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """Yield the items in order, produced by a thread that is at most `depth` items ahead.

    An exception of `items` is raised here, at its position. To stop early, close or delete this generator:
    the thread ends after its current item and closes `items` itself.
    """
    queue: Queue[T | _EndOfItems] = Queue(depth)
    cancelled = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, queue, cancelled), daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _EndOfItems):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        cancelled.set()
        _drain(queue)
        thread.join()


def _produce(items: Iterable[T], queue: "Queue[T | _EndOfItems]", cancelled: threading.Event) -> None:
    end = _EndOfItems(None)
    iterator = iter(items)
    try:
        for item in iterator:
            if not _put(item, queue, cancelled):
                break
    except BaseException as error:  # raised again in the consumer
        end = _EndOfItems(error)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    _put(end, queue, cancelled)


def _put(item: T | _EndOfItems, queue: "Queue[T | _EndOfItems]", cancelled: threading.Event) -> bool:
    """Put an item into the queue, waiting for a free place; return False if cancelled."""
    while not cancelled.is_set():
        try:
            queue.put(item, timeout=POLL_S)
        except Full:
            continue
        return True
    return False


def _drain(queue: "Queue[T | _EndOfItems]") -> None:
    """Empty the queue, so that a waiting producer continues at once."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


MAX_WAITING_FRAMES = 8
"""Maximum number of waiting frames; a longer queue would only delay every row."""


class LiveFeed:
    """Iterable over the frames and audio of a live source, which is read in a background thread."""

    def __init__(self, items: Iterator[Frame | Waveform], paced: bool) -> None:
        """Create the feed.

        paced: yield no frame before its time, as when a file is played
        """
        self.dropped = 0
        """Number of frames dropped so far."""
        self._items, self._paced = items, paced
        self._queue: SimpleQueue[Frame | Waveform | BaseException | None] = SimpleQueue()
        self._free_slots = threading.Semaphore(MAX_WAITING_FRAMES)
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame | Waveform]:
        threading.Thread(target=self._read, daemon=True).start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Frame):
                    self._free_slots.release()
                yield item
        finally:
            self._stopped.set()

    def _read(self) -> None:
        offset_s: float | None = None  # time of a frame minus time of the monotonic clock
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                if isinstance(item, Frame):
                    clock_s = time.monotonic()
                    offset_s = item.time_s - clock_s if offset_s is None else offset_s
                    if self._paced:
                        self._stopped.wait(max(0.0, item.time_s - offset_s - clock_s))
                    if not self._free_slots.acquire(blocking=False):
                        self.dropped += 1
                        continue
                self._queue.put(item)
            self._queue.put(None)
        except BaseException as error:  # raised again in the consumer
            self._queue.put(error)


@dataclass(frozen=True, slots=True)
class SpooledAudioTokens:
    """Audio tokens stored in a temporary file (an `inference.score_track.AudioTokenSource`)."""

    tokens: SpooledArray
    """Tokens [Ta, Da], float32."""
    times_s: NDArray[np.float64]
    """Times [Ta] of their centres, seconds."""

    def shifted(self, offset_s: float) -> "SpooledAudioTokens":
        """Return the tokens with the offset of the sound taken from their times."""
        return SpooledAudioTokens(self.tokens, self.times_s - offset_s) if offset_s else self


class AudioTokenReader:
    """Reader of a file's audio; encodes the segments near faces and reads at most one segment ahead."""

    def __init__(
        self, engine: InferenceEngine, chunks: Iterator[Waveform] | None, level: AudioLevel | None = None
    ) -> None:
        """Start reading.

        chunks: the whole audio in contiguous chunks; None if the source has no audio.
        level: level of the whole audio, for an encoder with normalise: file
        """
        self._engine, self._margin_s = engine, reading_margin_s(engine)
        self._segments = prefetch(() if chunks is None else segments(chunks, level), 1)
        self._read_s = -np.inf
        self._unencoded: list[Segment] = []  # still within reach of a later frame
        self._tokens: SpooledArray | None = None
        self._times_s: list[NDArray[np.float64]] = []
        self.has_audio = False
        """Whether any audio has been read so far."""

    def advance(self, time_s: float, has_faces: bool) -> None:
        """Read up to the reach of the frame at `time_s`; encode the audio around it if `has_faces`.

        Times must not decrease. Infinity reads the audio to its end.
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
        """The tokens encoded so far; None if there are none."""
        if self._tokens is None:
            return None
        return SpooledAudioTokens(self._tokens, np.concatenate(self._times_s))

    def close(self) -> None:
        """Stop reading."""
        self._segments.close()


CONTEXT_SAMPLES = round(CONTEXT_S * SAMPLE_RATE_HZ)
"""Samples of context on each side of a segment."""
SEGMENT_SAMPLES = round(SEGMENT_S * SAMPLE_RATE_HZ)
"""Samples of a segment, without context."""


class AudioTokenBuffer:
    """Buffer of live audio and of its tokens; memory stays bounded if `drop_before` is called."""

    def __init__(self, engine: InferenceEngine, normalise: bool = False) -> None:
        """Create the buffer.

        normalise: measure the level of the audio so far, for an encoder with normalise: file
        """
        self._engine = engine
        self._level = AudioLevelMeter() if normalise else None
        self._start_s = 0.0
        self._received = 0  # samples since the start
        self._finished = 0  # samples whose tokens are final
        self._dropped = 0  # tokens
        self._buffer = np.empty(0, np.float32)  # begins up to a second before the first unfinished sample
        self._tokens: NDArray[np.float32] | None = None

    def push(self, audio: Waveform) -> None:
        """Append samples; a gap before them becomes zeros, samples that were already received are dropped."""
        if self._received == 0:
            self._start_s = audio.start_s
        samples = audio.samples
        missing = round((audio.start_s - self._start_s) * SAMPLE_RATE_HZ) - self._received
        if missing > JITTER_S * SAMPLE_RATE_HZ:
            samples = np.concatenate([np.zeros(missing, np.float32), samples])
        elif missing < -JITTER_S * SAMPLE_RATE_HZ:
            samples = samples[-missing:]
        self._buffer = np.concatenate([self._buffer, samples])
        if self._level is not None:
            self._level.push(samples)
        self._received += len(samples)

    def tokens(self) -> AudioTokens | None:
        """Return all tokens that were not dropped, those of the last second provisional; None if none."""
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
        """Drop the final tokens before a time, in seconds."""
        if self._tokens is None or not np.isfinite(before_s):
            return
        count = int((before_s - self._start_s) * SAMPLE_RATE_HZ) // TOKEN_HOP - self._dropped
        count = min(max(count, 0), len(self._tokens))
        self._tokens = self._tokens[count:].copy()
        self._dropped += count

    @property
    def _context(self) -> int:
        """Samples at the start of the buffer whose tokens are final."""
        return min(self._finished, CONTEXT_SAMPLES)

    def _encode(self, count: int) -> NDArray[np.float32]:
        """Encode the first `count` samples of the buffer; return their tokens without the final ones."""
        level = None if self._level is None else self._level.level
        return self._engine.encode_audio(self._buffer[:count], level)[self._context // TOKEN_HOP :]

    def _append_finished(self, tokens: NDArray[np.float32]) -> None:
        if not len(tokens):
            return
        self._tokens = tokens if self._tokens is None else np.concatenate([self._tokens, tokens])
        used = self._context + len(tokens) * TOKEN_HOP
        self._finished += len(tokens) * TOKEN_HOP
        self._buffer = self._buffer[used - self._context :].copy()
