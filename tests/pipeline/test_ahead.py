"""A thread that works ahead changes when things are made, never what, and never outlives its use."""

import threading
from collections.abc import Iterator

import pytest

from auscan.pipeline.ahead import ahead


def test_all_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))
    assert list(ahead([], 3)) == []


def test_the_thread_stays_within_its_depth() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    for taken in ahead(count(), 4):
        assert len(made) <= taken + 1 + 4 + 1  # taken, waiting, and the one in the thread's hand


def test_an_error_is_raised_at_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("at the second")

    items = ahead(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="at the second"):
        next(items)


def test_who_stops_early_leaves_no_thread_and_closes_the_source() -> None:
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
    items = ahead(endless(), 2)
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_chain_of_threads_ends_when_its_last_link_is_closed() -> None:
    before = threading.active_count()
    first = ahead(iter(range(1000)), 2)
    last = ahead((i * i for i in first), 2)
    assert [next(last) for _ in range(4)] == [0, 1, 4, 9]
    last.close()
    first.close()
    assert threading.active_count() == before
