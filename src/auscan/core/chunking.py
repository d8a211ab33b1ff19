"""Split long sequences into chunks of bounded length."""


def chunk_slices(count: int, length: int, start: int = 0) -> list[slice]:
    """Return slices of at most `length` rows that cover `count` rows from `start` on, in order."""
    stop = start + count
    return [slice(first, min(first + length, stop)) for first in range(start, stop, length)]
