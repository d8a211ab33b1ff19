"""Let one part of the work run ahead of the next, in a thread of its own.

Decoding, face work and encoding each spend their time in libraries that let other threads run meanwhile, so
a thread for each keeps the cores busy. Order and content stay as they were: threads change when something is
made, never what.

In: anything that gives items one by one.  Out: the same items.
"""

import threading
from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from typing import TypeVar

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
