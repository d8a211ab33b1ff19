"""Keep up with a source that does not wait: what cannot be worked on in time is left out, and counted.

In: frames and sound as they come, from a camera, a stream or a file.  Out: the same, less the frames for
which there was no time.  Sound is never left out.
Not here: reading the source (media/stream.py).
"""

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

from auscan.media.audio import Waveform
from auscan.media.video import Frame

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
