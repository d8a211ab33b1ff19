"""What the names of tracks say: the video behind a track, the recording behind a video, the promised rate.

    900-30-1280x720          <id>-<fps>-<W>x<H>          903        <id>
    901-60-1920x1080-2       the same, part 2            video900   video<k>      video900_1   part 1
    any of these + _left or _right: one of two persons in that video

Only endings are looked at: a name cut at its first `_` would lose the part of `video900_1`.

In: names.  Out: names, rates in Hz, folds.
Not here: which files there are (find.py).
"""

import hashlib
import re
from collections.abc import Iterable

from auscan.core.errors import InputError

SIDES = ("_left", "_right")

_SIZED = re.compile(r"(?P<source>\d+-(?P<rate>\d+(?:\.\d+)?)-\d+x\d+)(?:[-_]\d+)?")
_COUNTED = re.compile(r"(?P<source>video\d+)(?:[-_]\d+)?")


def video_name(track: str) -> str:
    """The video that a track was cut from: its name without one `_left` or `_right` at the end."""
    for side in SIDES:
        if track.endswith(side):
            return track.removesuffix(side)
    return track


def source_video(track: str) -> str:
    """The recording behind a track: side and part taken off. Tracks of one recording belong in one fold."""
    name = video_name(track)
    match = _SIZED.fullmatch(name) or _COUNTED.fullmatch(name)
    return match["source"] if match else name


def named_rate_hz(track: str) -> float | None:
    """The frame rate in the name. It is that of the upload, often not that of the file."""
    match = _SIZED.fullmatch(video_name(track))
    return float(match["rate"]) if match else None


def folds(source_videos: Iterable[str], k: int, seed: int = 0) -> dict[str, int]:
    """Deal recordings into k folds of equal size, or one more: name -> fold 0 to k - 1.

    Names of tracks may be given as well: sides and parts of one recording always share its fold. The same
    names, k and seed give the same folds, in whatever order and however often they come.

    Raises InputError if k is below 2 or above the number of recordings.
    """
    names = set(source_videos)
    sources = {source_video(name) for name in names}
    if not 2 <= k <= len(sources):
        raise InputError(
            f"{k} folds cannot be made of {len(sources)} source videos. Ask for 2 to {len(sources)} folds."
        )
    # Shuffled by a hash, which no version of any library will change.
    dealt = sorted(sources, key=lambda source: (hashlib.sha256(f"{seed}/{source}".encode()).digest(), source))
    fold = {source: number % k for number, source in enumerate(dealt)}
    return {name: fold[source_video(name)] for name in sorted(names)}
