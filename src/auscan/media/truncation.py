"""Tell from a file's outermost headers whether a part of it is missing.

Containers write the sizes of their parts in bytes before the parts. A part that reaches past the end of the
file was cut off: by a full disk, a broken download, a copy made during recording.

In: a path.  Out: yes or no; no for formats that do not say.
Not here: what to do about it (container.py), damage in the middle (the decoder finds it).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
MP4_DATA_BOXES = (b"moov", b"moof", b"mdat")
"""Only these count: cameras append data of their own that is no box at all."""

EBML_MAGIC, SEGMENT_MAGIC = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"

RIFF_TOLERANCE_BYTES = 1024
"""Writers disagree on whether a RIFF's size includes its own header and padding."""


def lacks_index(path: Path) -> bool:
    """Is this an mp4 or mov file without a whole index (moov)? Recorders write it last."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in MP4_FIRST_BOXES:
            return False
        boxes = dict(_mp4_boxes(file, size))
    # A picture in the same container (heic, avif) has a box `meta` in its place.
    return boxes.get(b"moov", size + 1) > size and b"meta" not in boxes


def is_truncated(path: Path) -> bool:
    """Is the end of this mp4, mov, mkv, webm or avi file missing?"""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in MP4_FIRST_BOXES:
            return any(end > size and kind in MP4_DATA_BOXES for kind, end in _mp4_boxes(file, size))
        if head[:4] == EBML_MAGIC:
            return _matroska_end(file) > size
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            riff = int.from_bytes(head[4:8], "little")
            return riff != 0xFFFFFFFF and riff > size + RIFF_TOLERANCE_BYTES
    return False


def _mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end, bytes from the start, of each outermost box; `size` is the length of the file."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 0:  # until the end of the file
            length = size - end
        if length == 1:  # did not fit into 32 bits
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # no box
            return
        end += length
        yield kind, end


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends, bytes from the start; 0 if it was left open, as live recordings are."""
    file.seek(len(EBML_MAGIC))
    header = _ebml_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(len(SEGMENT_MAGIC)) != SEGMENT_MAGIC:
        return 0
    segment = _ebml_size(file)
    return 0 if segment is None else file.tell() + segment


def _ebml_size(file: BinaryIO) -> int | None:
    """A number of 1 to 8 bytes; the zeros before its first one bit say how many follow. None: unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") - (1 << (7 * (more + 1)))
    return None if value == (1 << (7 * (more + 1))) - 1 else value
