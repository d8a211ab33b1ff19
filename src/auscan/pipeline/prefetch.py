"""Let one part of the work run ahead of the next, in a thread of its own.

Decoding, face work and encoding each spend their time in libraries that let other threads run meanwhile, so
a thread for each keeps the cores busy. Order and content stay as they were: threads change when something is
made, never what.

In: anything that gives items one by one.  Out: the same items.

Keep up with a source that does not wait: what cannot be worked on in time is left out, and counted.

In: frames and sound as they come, from a camera, a stream or a file.  Out: the same, less the frames for
which there was no time.  Sound is never left out.
Not here: reading the source (media/stream.py).
"""

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from queue import Empty, Full, Queue, SimpleQueue
from typing import TypeVar

from auscan.media.audio import Waveform
from auscan.media.video import Frame

T = TypeVar("T")

POLL_S = 0.1
"""How soon the thread notices that nobody wants the rest."""


class _EndOfItems:
    """Stands in the queue after the last item; carries what went wrong, if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """The items in their order, made by a thread that is at most `depth` of them ahead.

    What they raise is raised here, at their place. Whoever stops early closes this generator (or drops it):
    the thread then ends after the item at hand, and `items` is closed in the thread that ran it.
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
    except BaseException as error:  # it belongs to whoever takes the items
        end = _EndOfItems(error)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    _put(end, queue, cancelled)


def _put(item: T | _EndOfItems, queue: "Queue[T | _EndOfItems]", cancelled: threading.Event) -> bool:
    """Wait for room; False if nobody wants the item any more."""
    while not cancelled.is_set():
        try:
            queue.put(item, timeout=POLL_S)
        except Full:
            continue
        return True
    return False


def _drain(queue: "Queue[T | _EndOfItems]") -> None:
    """Make room, so that a waiting thread goes on at once."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


MAX_WAITING_FRAMES = 8
"""Frames that may wait; more would only make every row later."""


class LiveFeed:
    """Reads a source in a thread of its own; iterate over it."""

    def __init__(self, items: Iterator[Frame | Waveform], paced: bool) -> None:
        """paced: give frames no sooner than their time says, as a file would be shown."""
        self.dropped = 0
        """Frames left out so far."""
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
        offset_s: float | None = None  # how far the clock of the frames is ahead of ours
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
        except BaseException as error:  # it belongs to whoever takes the items
            self._queue.put(error)
