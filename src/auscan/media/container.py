"""Open a media file and decode one of its streams, turning everything that can go wrong into one clear line.

Shared by video.py and audio.py. FFmpeg stops quietly where a file was cut off, so the end that was reached is
compared with the one the container promised. PyAV keeps FFmpeg silent unless a caller turns its log on.

In: a path.  Out: decoded frames of one stream, in order.
Not here: what is made of the frames (video.py, audio.py), finding files (discover.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import av

from auscan.core.environment import display_path, is_utf8
from auscan.core.errors import MediaError
from auscan.media.truncation import is_truncated, lacks_index

FORMATS_WITH_DURATION = ("mov", "matroska", "avi")
"""Containers that write their length down. Elsewhere FFmpeg may guess it from the bit rate, no proof."""

END_TOLERANCE_S = 0.5
"""How much earlier than promised a stream may end: headers round, edit lists trim, the last frame may lack a
duration. Frames may be rare as well, so the longest pause between two of them is added."""


def check_file(path: Path) -> os.stat_result:
    """What the disk says of a file.

    Raises MediaError unless it is a file with something in it that may be read, and has a name.
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
        raise MediaError(f"{path} may not be read. Change its permissions.")
    if state.st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes). Copy or export it again.")
    return state


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """The file as PyAV's InputContainer, closed at the end; MediaError if FFmpeg cannot make sense of it."""
    check_file(path)
    try:
        # An absolute path: FFmpeg would take the start of "12:30.mp4" for a protocol.
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise _open_error(path, error) from error
    with container:
        # FFmpeg makes do with half an index; then streams or frames are missing.
        if not container.streams or (is_truncated(path) and lacks_index(path)):
            raise _open_error(path)
        yield container


def decode(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Every frame of one stream, once and in order, as PyAV frames.

    Raises MediaError, after the last good frame, where decoding breaks or where the file was cut off.
    """
    if stream.codec_context is None:
        raise MediaError(f"{path} has a {stream.type} stream in an unknown format. {re_encode_hint(path)}")
    stream_span, container_span = _PacketSpan(), _PacketSpan()
    try:
        for packet in container.demux():
            container_span.add(packet)
            # Not packet.stream_index: it is 0 in the empty packet that flushes a decoder at the end.
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
    """How far in time the packets read so far stretch, seconds."""

    first_s: float | None = None
    last_s: float = 0.0
    end_s: float = 0.0
    pause_s: float = 0.0

    def add(self, packet: Any) -> None:
        """Take one packet in; those that an edit list hides do not count."""
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
    """Did the packets end well before the time that the header promised?"""
    if stream_span.first_s is None or not container.format.name.startswith(FORMATS_WITH_DURATION):
        return False
    if stream.duration:
        declared_s = float(stream.duration * stream.time_base)
        reached_s = stream_span.end_s - stream_span.first_s
    elif container.duration:
        # Matroska: one length for all streams; some writers count from 0, others from the first frame.
        declared_s = container.duration / av.time_base
        reached_s = max(container_span.end_s, container_span.end_s - (container_span.first_s or 0.0))
    else:
        return False
    return reached_s < declared_s - END_TOLERANCE_S - stream_span.pause_s


def _open_error(path: Path, error: Exception | None = None) -> MediaError:
    """What to say about a file that FFmpeg refuses, or in which it finds nothing."""
    if lacks_index(path):
        return MediaError(
            f"{path} is cut off: the index that mp4 and mov files keep at their end is missing. Copy or "
            f"record the whole file again."
        )
    if error is None or isinstance(error, av.error.InvalidDataError):
        return MediaError(
            f"{path} is not a video that FFmpeg can read, whatever its name says. Give a video or a picture."
        )
    return MediaError(f"{path} cannot be opened ({_reason(error)}). Copy or export it again.")


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without error number and path."""
    return str(getattr(error, "strerror", None) or error)


def re_encode_hint(path: Path) -> str:
    """What to do about a file whose streams are broken."""
    return f"Re-encode it and try again: ffmpeg -i {path} -c:v libx264 -c:a aac repaired.mp4"
