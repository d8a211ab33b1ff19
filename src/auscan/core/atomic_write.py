"""Write a file completely or not at all.

A run that is killed while writing must not leave an incomplete table or video under the final name.

Inputs: the final path. Returns: a temporary path in the same folder, so that the rename stays on one file
system.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Creates missing parent folders. Keeps the suffix, because writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - this function exists for the atomicity of this call
    finally:
        temporary.unlink(missing_ok=True)
