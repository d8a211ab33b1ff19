"""Prefetching keeps items and their order and ends its thread; a live feed drops frames and counts them."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from auscan.media.audio import Waveform
from auscan.media.video import Frame
from auscan.pipeline.prefetch import MAX_WAITING_FRAMES, LiveFeed, prefetch


def test_all_items_are_returned_in_order() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert list(prefetch([], 3)) == []


def test_the_thread_stays_within_its_depth() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    for taken in prefetch(count(), 4):
        assert len(made) <= taken + 1 + 4 + 1  # taken, in the queue, and one waiting to be put


def test_an_error_is_raised_at_its_position() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("at the second")

    items = prefetch(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="at the second"):
        next(items)


def test_stopping_early_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            i = 0
            while True:
                i += 1
                yield i
        finally:
            closed.set()

    before = threading.active_count()
    items = prefetch(endless(), 2)
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_chain_of_threads_ends_when_its_last_link_is_closed() -> None:
    before = threading.active_count()
    first = prefetch(iter(range(1000)), 2)
    last = prefetch((i * i for i in first), 2)
    assert [next(last) for _ in range(4)] == [0, 1, 4, 9]
    last.close()
    first.close()
    assert threading.active_count() == before


def source(count: int) -> Iterator[Frame | Waveform]:
    for i in range(count):
        yield Frame(i, i / 100, np.zeros((1, 1, 3), np.uint8))
        yield Waveform(np.zeros(160, np.float32), i / 100)


def test_nothing_is_dropped_if_there_is_time() -> None:
    feed = LiveFeed(source(20), paced=True)
    items = list(feed)
    assert [item.index for item in items if isinstance(item, Frame)] == list(range(20))
    assert sum(isinstance(item, Waveform) for item in items) == 20
    assert feed.dropped == 0


def test_late_frames_are_dropped_and_counted_but_audio_never_is() -> None:
    feed = LiveFeed(source(100), paced=False)
    frames, waves = [], 0
    for item in feed:
        if isinstance(item, Frame):
            time.sleep(0.005)
            frames.append(item.index)
        else:
            waves += 1
    assert waves == 100
    assert MAX_WAITING_FRAMES <= len(frames) < 100
    assert frames == sorted(frames)
    assert feed.dropped == 100 - len(frames)


def test_an_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[Frame | Waveform]:
        yield from source(1)
        raise ValueError("unplugged")

    with pytest.raises(ValueError, match="unplugged"):
        list(LiveFeed(broken(), paced=False))
