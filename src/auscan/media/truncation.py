"""Detect truncated media files from their outermost headers.

Containers store the size of each part in bytes before the part. If a part extends past the end of the file,
the file is truncated: by a full disk, a broken download, or a copy made during recording.

Inputs: a path. Returns: bool; False for formats without sizes.
See also: container.py (raises the error). The decoder finds damage within a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""Types of the first box, by which mp4 and mov files are recognized."""
MP4_DATA_BOXES = (b"moov", b"moof", b"mdat")
"""Boxes that are checked. Others are not, because cameras append data that is not a box."""

EBML_MAGIC, SEGMENT_MAGIC = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""First bytes of a Matroska file, and of its segment."""

RIFF_TOLERANCE_BYTES = 1024
"""Tolerance for the size of a RIFF: some writers include its header and padding, others do not."""


def lacks_index(path: Path) -> bool:
    """Return whether this is an mp4 or mov file without a complete index (moov). Recorders write it last."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in MP4_FIRST_BOXES:
            return False
        boxes = dict(_mp4_boxes(file, size))
    # Pictures in this container (heic, avif) have the box `meta` instead.
    return boxes.get(b"moov", size + 1) > size and b"meta" not in boxes


def is_truncated(path: Path) -> bool:
    """Return whether the end of this mp4, mov, mkv, webm or avi file is missing."""
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
    """Yield the type and the end (bytes from the start) of each outermost box; `size`: bytes of the file."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 0:  # the box extends to the end of the file
            length = size - end
        if length == 1:  # the length has 64 bits
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # not a box
            return
        end += length
        yield kind, end


def _matroska_end(file: BinaryIO) -> int:
    """Return the end of the segment, bytes from the start; 0 if unknown, as in live recordings."""
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
    """Read an EBML number of 1 to 8 bytes: the leading zero bits are the number of bytes that follow.

    Returns None if the size is unknown.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") - (1 << (7 * (more + 1)))
    return None if value == (1 << (7 * (more + 1))) - 1 else value
