"""A spooled array returns the rows that were written, in memory and on disk."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from auscan.pipeline import track as module
from auscan.pipeline.track import SpooledArray


@pytest.mark.parametrize("in_memory_bytes", [10, 2**21])
def test_any_slice_equals_the_appended_rows(monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", in_memory_bytes)
    data = np.random.default_rng(0).standard_normal((50, 3, 2)).astype(np.float32)
    rows = SpooledArray((3, 2))
    for start in range(0, 50, 7):
        rows.append(data[start : start + 7])
    assert rows.shape == (50, 3, 2)
    assert len(rows) == 50
    for part in (slice(None), slice(3, 9), slice(45, 80), slice(9, 9)):
        assert_array_equal(rows[part], data[part])


@pytest.mark.parametrize("in_memory_bytes", [10, 2**21])
def test_allocated_rows_can_be_written_in_any_order(
    monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", in_memory_bytes)
    zeros = SpooledArray.allocate((6, 2))
    assert_array_equal(zeros[:], np.zeros((6, 2)))
    zeros[4:6] = np.float32([[1, 2], [3, 4]])
    zeros[0:2] = 7.0
    assert_array_equal(zeros[:], [[7, 7], [7, 7], [0, 0], [0, 0], [1, 2], [3, 4]])


def test_changing_a_slice_does_not_change_the_array() -> None:
    rows = SpooledArray((2,))
    rows.append(np.ones((3, 2), np.float32))
    rows[:][0] = 5
    assert_array_equal(rows[:], np.ones((3, 2)))


def test_the_dtype_uint8_is_kept() -> None:
    rows = SpooledArray((3,), np.uint8)
    rows.append(np.array([[0, 1, 255]], np.uint8))
    rows.append(np.array([[7, 8, 9]], np.uint8))
    assert rows[:].dtype == np.uint8
    assert rows[:].tolist() == [[0, 1, 255], [7, 8, 9]]
    assert rows[1:2].tolist() == [[7, 8, 9]]
