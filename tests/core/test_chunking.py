"""Chunks cover every row once, in order."""

import pytest

from auscan.core.chunking import chunk_slices


@pytest.mark.parametrize("count", [0, 1, 6, 7, 20])
@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize("start", [0, 5])
def test_chunks_cover_every_row_once_and_none_is_too_long(count: int, length: int, start: int) -> None:
    rows = list(range(40))
    chunks = chunk_slices(count, length, start)
    assert [row for chunk in chunks for row in rows[chunk]] == rows[start : start + count]
    assert all(0 < chunk.stop - chunk.start <= length for chunk in chunks)
    assert all(chunk.stop - chunk.start == length for chunk in chunks[:-1])
