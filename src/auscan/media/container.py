"""Open a media file and decode one of its streams; report every failure as a one-line MediaError.

FFmpeg ends a truncated file without an error, so the end of the decoded stream is compared with the
duration in the header. Containers also store the size of each part in bytes before the part: if a part
extends past the end of the file, the file was truncated by a full disk, a broken download, or a copy made
during recording. PyAV keeps FFmpeg's log off unless a caller turns it on.

Inputs: a path. Returns: decoded frames of one stream, in order.
See also: clock.py (times that step), video.py, audio.py (use the frames), discover.py (finds files).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any, BinaryIO

import av

from auscan.core.environment import display_path, is_utf8
from auscan.core.errors import MediaError
from auscan.media.clock import ClockLog, repair_clock

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


FORMATS_WITH_DURATION = ("mov", "matroska", "avi")
"""Containers that store their duration. For others, FFmpeg may estimate it from the bit rate."""

END_TOLERANCE_S = 0.5
"""Tolerance, in seconds, for a stream that ends before its declared end: headers round, edit lists trim, the
last frame may have no duration. The longest gap between two frames is added, because frames may be rare."""


def check_file(path: Path) -> os.stat_result:
    """Return the stat result of a media file.

    Raises MediaError if the file does not exist, is a folder, is empty, cannot be read, or its name is not
    UTF-8.
    """
    if not is_utf8(path):
        raise MediaError(f"{display_path(path)} has a name that is not UTF-8. Rename it.")
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise MediaError(f"{path} cannot be reached ({_reason(error)}). Check the path.") from error
    if S_ISDIR(state.st_mode):
        raise MediaError(
            f"{path} is a folder, not a file. Give a frame rate (--as-video FPS) to read its numbered "
            f"pictures as a video."
        )
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path} cannot be read (Permission denied). Change its permissions.")
    if state.st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes). Copy or export it again.")
    return state


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """Open a file as PyAV's InputContainer; raise MediaError if FFmpeg cannot read it."""
    check_file(path)
    try:
        # Absolute path: FFmpeg would read the start of "12:30.mp4" as a protocol.
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise _open_error(path, error) from error
    with container:
        # FFmpeg accepts an incomplete index; then streams or frames are missing.
        if not container.streams or (is_truncated(path) and lacks_index(path)):
            raise _open_error(path)
        yield container


def decode(container: Any, stream: Any, path: Path, log: ClockLog | None = None) -> Iterator[Any]:
    """Yield every frame of one stream, once and in order, as PyAV frames with times of the repaired clock.

    log: gets the repairs of the clock
    Raises MediaError, after the last good frame, if decoding fails or the file is truncated.
    """
    if stream.codec_context is None:
        raise MediaError(f"{path} has a {stream.type} stream in an unknown format. {re_encode_hint(path)}")
    stream_span, container_span = _PacketSpan(), _PacketSpan()
    try:
        for packet in repair_clock(container.demux(), log):
            container_span.add(packet)
            # Not packet.stream_index: it is 0 in the empty packet that flushes a decoder.
            if packet.stream.index == stream.index:
                stream_span.add(packet)
                yield from packet.decode()
    except (av.FFmpegError, OSError) as error:
        if not is_truncated(path):
            raise MediaError(
                f"{path}: its {stream.type} cannot be decoded at {stream_span.last_s:.2f} s "
                f"({_reason(error)}). {re_encode_hint(path)}"
            ) from error
    if is_truncated(path) or _ends_early(container, stream, stream_span, container_span):
        raise MediaError(
            f"{path} is cut off: its {stream.type} stops at {stream_span.end_s:.2f} s. Copy the whole file "
            f"again, or keep the readable part: ffmpeg -i {path} -c copy readable{path.suffix}"
        )


@dataclass
class _PacketSpan:
    """Time span of the packets read so far, in seconds."""

    first_s: float | None = None
    last_s: float = 0.0
    end_s: float = 0.0
    pause_s: float = 0.0

    def add(self, packet: Any) -> None:
        """Extend the span by one packet; ignore packets that an edit list discards."""
        timestamp = packet.pts if packet.pts is not None else packet.dts
        if timestamp is None or packet.is_discard:
            return
        time_s = float(timestamp * packet.time_base)
        end_s = time_s + float((packet.duration or 0) * packet.time_base)
        if self.first_s is None:
            self.first_s, self.last_s, self.end_s = time_s, time_s, end_s
        self.pause_s = max(self.pause_s, time_s - self.last_s)
        self.first_s, self.last_s = min(self.first_s, time_s), max(self.last_s, time_s)
        self.end_s = max(self.end_s, end_s)


def _ends_early(container: Any, stream: Any, stream_span: _PacketSpan, container_span: _PacketSpan) -> bool:
    """Return whether the packets end earlier than the header declares, beyond `END_TOLERANCE_S`."""
    if stream_span.first_s is None or not container.format.name.startswith(FORMATS_WITH_DURATION):
        return False
    if stream.duration:
        declared_s = float(stream.duration * stream.time_base)
        reached_s = stream_span.end_s - stream_span.first_s
    elif container.duration:
        # Matroska stores one duration for all streams; writers count it from 0 or from the first frame.
        declared_s = container.duration / av.time_base
        reached_s = max(container_span.end_s, container_span.end_s - (container_span.first_s or 0.0))
    else:
        return False
    return reached_s < declared_s - END_TOLERANCE_S - stream_span.pause_s


def _open_error(path: Path, error: Exception | None = None) -> MediaError:
    """Return the error for a file that FFmpeg cannot open or in which it finds no stream."""
    if lacks_index(path):
        return MediaError(
            f"{path} is cut off: the index that mp4 and mov files keep at their end is missing. Copy or "
            f"record the whole file again."
        )
    if error is None or isinstance(error, av.error.InvalidDataError):
        return MediaError(
            f"{path} is not a video that FFmpeg can read, despite its suffix. Give a video or a picture."
        )
    return MediaError(f"{path} cannot be opened ({_reason(error)}). Copy or export it again.")


def _reason(error: Exception) -> str:
    """Return the text of FFmpeg or of the system, without error number and path."""
    return str(getattr(error, "strerror", None) or error)


def re_encode_hint(path: Path) -> str:
    """Return the advice for a file with broken streams."""
    return f"Re-encode it and try again: ffmpeg -i {path} -c:v libx264 -c:a aac repaired.mp4"
