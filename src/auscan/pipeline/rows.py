"""Keep a long series of numbers on the disk, so that memory does not grow with the length of a video.

A face leaves about two kilobytes in every frame, half a gigabyte in two hours. They are written once and read
a stretch at a time, so a plain temporary file does; a mapped one would count as memory while it is in use.

In: rows of float32, or of bytes.  Out: any stretch of them.  A short series never touches the disk.
"""

import math
import tempfile
import weakref
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY_BYTES = 2**21
"""A series goes to the disk when it is longer."""


class DiskRows:
    """An array [n, ...] that grows, float32 unless told otherwise; knows of numpy what `follow` asks for."""

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._row_bytes = self._dtype.itemsize * math.prod(row_shape)
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="auscan-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # the rows live as long as they are used, not as a block

    @classmethod
    def room(cls, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Rows of zeros of a shape, to be written to by slices: an `inference.follow.Room`."""
        rows = cls(shape[1:])
        rows._count, size = shape[0], shape[0] * rows._row_bytes
        rows._file.truncate(size)  # a long one goes to the disk here; a short one does not grow by it
        if size:
            rows._file.seek(size - 1)
            rows._file.write(b"\0")
        return rows.as_array()

    def as_array(self) -> NDArray[np.float32]:
        """Itself, for those who ask for an array and only take its shape and slices."""
        return cast(NDArray[np.float32], self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows so far, and the shape of each."""
        return (self._count, *self._row_shape)

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows [m, ...] at the end."""
        self._count += len(rows)
        self[self._count - len(rows) : self._count] = rows

    def __getitem__(self, part: slice) -> NDArray[Any]:
        start, stop, _ = part.indices(self._count)
        self._file.seek(start * self._row_bytes)
        stored = self._file.read(max(0, stop - start) * self._row_bytes)
        return np.frombuffer(stored, self._dtype).reshape(-1, *self._row_shape).copy()

    def __setitem__(self, part: slice, rows: NDArray[Any] | float) -> None:
        start, stop, _ = part.indices(self._count)
        self._file.seek(start * self._row_bytes)
        block = np.broadcast_to(np.asarray(rows, self._dtype), (stop - start, *self._row_shape))
        self._file.write(block.tobytes())
