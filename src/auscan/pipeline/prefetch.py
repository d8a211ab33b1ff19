"""Produce items in a background thread: ahead of their use for files, in real time for live sources.

`prefetch` runs one stage ahead of the next. Decoding, face detection and encoding spend their time in
libraries that release the interpreter lock, so one thread for each keeps the cores busy. Order and content of
the items do not change.

`LiveFeed` reads a camera, a stream or a paced file. It drops frames that cannot be processed in time, and
counts them. Audio is never dropped.

Inputs: an iterable. Returns: the same items; `LiveFeed` without the dropped frames.
See also: media/stream.py (reading a live source).
"""

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from queue import Empty, Full, Queue, SimpleQueue
from typing import TypeVar

from auscan.media.audio import Waveform
from auscan.media.video import Frame

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
