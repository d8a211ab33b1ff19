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


class _End:
    """Stands in the queue after the last item; carries what went wrong, if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The items in their order, made by a thread that is at most `depth` of them ahead.

    What they raise is raised here, at their place. Whoever stops early closes this generator (or drops it):
    the thread then ends after the item at hand, and `items` is closed in the thread that ran it.
    """
    queue: Queue[T | _End] = Queue(depth)
    unwanted = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, queue, unwanted), daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        unwanted.set()
        _empty(queue)
        thread.join()


def _fill(items: Iterable[T], queue: "Queue[T | _End]", unwanted: threading.Event) -> None:
    end = _End(None)
    iterator = iter(items)
    try:
        for item in iterator:
            if not _put(item, queue, unwanted):
                break
    except BaseException as error:  # it belongs to whoever takes the items
        end = _End(error)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    _put(end, queue, unwanted)


def _put(item: T | _End, queue: "Queue[T | _End]", unwanted: threading.Event) -> bool:
    """Wait for room; False if nobody wants the item any more."""
    while not unwanted.is_set():
        try:
            queue.put(item, timeout=POLL_S)
        except Full:
            continue
        return True
    return False


def _empty(queue: "Queue[T | _End]") -> None:
    """Make room, so that a waiting thread goes on at once."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


ROOM = 8
"""Frames that may wait; more would only make every row later."""


class LiveFeed:
    """Reads a source in a thread of its own; iterate over it."""

    def __init__(self, items: Iterator[Frame | Waveform], paced: bool) -> None:
        """paced: give frames no sooner than their time says, as a file would be shown."""
        self.dropped = 0
        """Frames left out so far."""
        self._items, self._paced = items, paced
        self._queue: SimpleQueue[Frame | Waveform | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(ROOM)
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame | Waveform]:
        threading.Thread(target=self._read, daemon=True).start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Frame):
                    self._room.release()
                yield item
        finally:
            self._stopped.set()

    def _read(self) -> None:
        ahead_s: float | None = None  # how far the clock of the frames is ahead of ours
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                if isinstance(item, Frame):
                    now_s = time.monotonic()
                    ahead_s = item.time_s - now_s if ahead_s is None else ahead_s
                    if self._paced:
                        self._stopped.wait(max(0.0, item.time_s - ahead_s - now_s))
                    if not self._room.acquire(blocking=False):
                        self.dropped += 1
                        continue
                self._queue.put(item)
            self._queue.put(None)
        except BaseException as error:  # it belongs to whoever takes the items
            self._queue.put(error)
