"""Let the C library keep what was freed.

A step of training on a CPU makes and drops the same large tensors again and again. glibc gives their pages
back to the system each time and has them filled with zeros anew, which is a tenth of the time of a step.

In: nothing.  Out: a setting of this process, which then keeps its peak of memory until it ends.
Not here: how much memory a step needs.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The names of mallopt's settings in malloc.h."""
LARGEST_HELD = 32 * 2**20
"""Bytes; glibc refuses to hold larger pieces than this in its own store."""


def keep_freed_memory() -> None:
    """From now on, what this process frees is kept for its next allocation; without glibc nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_HELD)
        mallopt(TRIM_THRESHOLD, -1)  # never
