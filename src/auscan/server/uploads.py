"""Take a file in: its size is known and small enough before a byte is read, or it is counted as it comes.

In: the body of a request, and what the user calls the file.  Out: the file, under a name of our own.
Not here: whether it is a video, which is found out in a process of its own (jobs.py).
"""

import asyncio
import shutil
from pathlib import Path
from typing import Final

from fastapi import HTTPException, Request

from auscan.media.discover import MEDIA_SUFFIXES
from auscan.results.atomic import atomic_path
from auscan.server.settings import StudioSettings

SPARE_BYTES: Final[int] = 1024**3
"""Left free on the disk, for results."""
_NAME_LENGTH: Final[int] = 200


def shown_name(given: str) -> str:
    """The last part of a file name as text to show: no control characters, not endless."""
    last = given.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_NAME_LENGTH] or "unnamed"


def known_suffix(name: str) -> str:
    """The suffix of a video or picture, in small letters.  Refuses (415) any other."""
    suffix = Path(name).suffix.lower()
    if suffix not in MEDIA_SUFFIXES:
        known = " ".join(sorted(MEDIA_SUFFIXES))
        raise HTTPException(415, f"{name} is neither a video nor a picture by its name. Known: {known}.")
    return suffix


def check_announced(request: Request, settings: StudioSettings) -> None:
    """Refuse a body that says it is too large (413), or larger than the disk has room for (507)."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > settings.max_upload_bytes:
        raise _too_large(settings)
    if announced + SPARE_BYTES > shutil.disk_usage(settings.folder).free:
        raise HTTPException(507, "The disk of the results folder is nearly full. Make room and try again.")


async def receive(request: Request, path: Path, settings: StudioSettings) -> int:
    """Write a request's body to `path`, whole or not at all; its size in bytes.

    Refuses what grows too large (413), pauses too long (408) or is empty (400).
    """
    size = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        body = aiter(request.stream())
        while True:
            try:
                chunk = await asyncio.wait_for(anext(body), settings.idle_s)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise HTTPException(408, f"Nothing came for {settings.idle_s:.0f} s.") from None
            size += len(chunk)
            if size > settings.max_upload_bytes:
                raise _too_large(settings)
            file.write(chunk)
        if not size:
            raise HTTPException(400, "The file is empty.")
    return size


def _too_large(settings: StudioSettings) -> HTTPException:
    limit = settings.max_upload_bytes / 1024**3
    return HTTPException(413, f"A file may have {limit:.3g} GB. Start the Studio with another --max-gb.")
