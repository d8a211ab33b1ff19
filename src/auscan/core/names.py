"""Names of files that are no text.

Linux lets a name be any bytes, such as Latin-1 from an old archive; Python hands them on as lone surrogates.
What auscan writes is UTF-8 and could not name such a file, so that nobody could tell what a result is of.

In: a path.  Out: whether it can be written down, and how to show it.
"""

import os
from pathlib import Path


def is_text(path: str | Path) -> bool:
    """Whether a path can be written as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: str | Path) -> str:
    """A path as text; bytes that are no UTF-8 are escaped (\\xe9)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
