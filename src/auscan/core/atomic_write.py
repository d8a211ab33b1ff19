"""Write a file whole or not at all.

Why: a run that is killed half-way must not leave half a table or half a video under the final name.
In: the final path.  Out: a temporary path in the same folder (so that the rename cannot cross file systems).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Missing parent folders are made. The suffix is kept, as writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - the one call whose atomicity is the point
    finally:
        temporary.unlink(missing_ok=True)
