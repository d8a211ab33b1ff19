"""Read the frames of a video: each once, in order, upright, with its time from the container.

PyAV decodes videos. A picture is a video with one frame at time 0. A folder of numbered pictures is a video
if a frame rate is given. Frames are not kept, so memory does not grow with the length.

Inputs: a path. Returns: frames uint8 [H, W, 3] RGB with presentation times in seconds.
See also: container.py (opening and decoding), discover.py (pictures), audio.py (audio).
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.media.clock import ClockLog, repair_clock
from auscan.media.container import decode, is_truncated, open_media
from auscan.media.discover import is_image, numbered_images, read_image

FALLBACK_RATE_HZ = 25.0
"""Frame rate for frames without a timestamp in a file without a frame rate."""

ReadPicture = Callable[[], NDArray[np.uint8]]
"""Returns the image [H, W, 3] RGB of a frame; the conversion costs more than decoding."""

REORDER_DEPTH = 16
"""Largest number of frames that H.264 and HEVC delay for reordering."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    index: int
    """Number of the decoded frame, from 0."""
    time_s: float
    """Presentation time in seconds on the clock of the container, not shifted: may start above or below 0."""
    image: NDArray[np.uint8]
    """uint8 [H, W, 3] RGB, upright. H and W may change within a file."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of an input from its header and first frame; None if the container does not state them."""

    path: Path
    """Path of the input."""
    width: int
    """Width in pixels, upright."""
    height: int
    """Height in pixels, upright."""
    frames: int | None
    """Approximate number of frames, for progress bars: as in the header, or duration times rate."""
    duration_s: float | None
    """Duration in seconds."""
    rate_hz: float | None
    """Average frame rate."""
    has_audio: bool
    """Whether there is an audio stream."""


def probe(path: Path | str, folder_rate_hz: float | None = None) -> VideoInfo:
    """Read the properties of a video, a picture, or (given `folder_rate_hz`) a folder of numbered pictures.

    Raises MediaError as `read_frames` does.
    """
    path = Path(path)
    if folder_rate_hz is not None and path.is_dir():
        images = _folder_images(path, folder_rate_hz)
        height, width = read_image(images[0]).shape[:2]
        duration_s = len(images) / folder_rate_hz
        return VideoInfo(path, width, height, len(images), duration_s, folder_rate_hz, has_audio=False)
    if is_image(path):
        height, width = read_image(path).shape[:2]
        return VideoInfo(path, width, height, 1, None, None, has_audio=False)
    return _probe_video(path)


def read_frames(
    path: Path | str,
    folder_rate_hz: float | None = None,
    only: Collection[int] | None = None,
    log: ClockLog | None = None,
) -> Iterator[Frame]:
    """Yield every frame of a video, a picture, or (given `folder_rate_hz`) a folder of numbered pictures.

    only: indices of the frames to return. Reading stops after the last of them. The frames between them are
    decoded, because other frames depend on them, but not converted to RGB.
    log: gets the repairs of the clock

    Times are those of PyAV's `frame.time` on the repaired clock (clock.py). A frame without a time is one
    period of the average rate after the frame before. A time before that of the previous frame is replaced by
    the previous time. The n-th picture of a folder is at n / folder_rate_hz, counted from 0, regardless of
    the number in its name.

    Raises MediaError if the input cannot be read, or, after the last good frame, if the rest cannot be
    decoded.
    """
    for index, time_s, read_picture in _select_frames(
        _readable_frames(Path(path), folder_rate_hz, log), only
    ):
        yield Frame(index, time_s, read_picture())


def read_segment(
    path: Path | str,
    start_s: float,
    end_s: float,
    folder_rate_hz: float | None = None,
    log: ClockLog | None = None,
) -> Iterator[Frame]:
    """Yield the frames of `read_frames` with a time from `start_s` on and before `end_s`.

    Frames before them are decoded, because frames are numbered from the start of the file, but not converted
    to RGB. Reading stops after the last of them. Raises MediaError as `read_frames`.
    """
    for index, time_s, read_picture in _readable_frames(Path(path), folder_rate_hz, log):
        if time_s >= end_s:
            return
        if time_s >= start_s:
            yield Frame(index, time_s, read_picture())


def frame_times(path: Path | str, log: ClockLog | None = None) -> NDArray[np.float64]:
    """Return the presentation times [F] s of the frames of a video: those of `read_frames`.

    log: gets the repairs of the clock

    mp4 and mov store a time with every packet, so they are not decoded: hundreds of times faster than reading
    the frames, but damage within the file is not detected. Other containers are decoded.

    Raises MediaError if the file cannot be read or is truncated.
    """
    path = Path(path)
    times_s = _packet_times(path)
    if times_s is None:
        times_s = [time_s for _, time_s in _timed_frames(path, log)]
    return np.asarray(times_s, np.float64)


def _packet_times(path: Path) -> list[float] | None:
    """Return the packet times [F] s of an mp4 or mov file, or None if they are missing or not reliable."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        if not container.format.name.startswith("mov") or is_truncated(path):
            return None
        log = ClockLog()
        packets = [p for p in repair_clock(container.demux(stream), log) if p.size and not p.is_discard]
        if not packets or log != ClockLog() or any(packet.pts is None for packet in packets):
            return None
        # Packets are in decoding order, frames in presentation order.
        return sorted(float(packet.pts * packet.time_base) for packet in packets)


def _folder_images(folder: Path, rate_hz: float) -> list[Path]:
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise MediaError(
            f"{folder}: {rate_hz} Hz is not a frame rate. Give frames per second above 0, such as 25."
        )
    return numbered_images(folder)


def _probe_video(path: Path) -> VideoInfo:
    with open_media(path) as container:
        stream = video_stream(container, path)
        first = next(decode(container, stream, path), None)
        if first is None:
            raise _no_frames_error(path)
        height, width = to_rgb(first).shape[:2]
        length = stream.duration * stream.time_base if stream.duration else None
        if length is None and container.duration:
            length = container.duration / av.time_base
        duration_s = float(length) if length else None
        rate_hz = float(stream.average_rate) if stream.average_rate else None
        frames = stream.frames or (round(duration_s * rate_hz) if duration_s and rate_hz else None)
        return VideoInfo(path, width, height, frames, duration_s, rate_hz, bool(container.streams.audio))


def _readable_frames(
    path: Path, folder_rate_hz: float | None, log: ClockLog | None = None
) -> Iterator[tuple[int, float, ReadPicture]]:
    """Yield index, time in seconds and a function that returns the image of every frame."""
    if folder_rate_hz is not None and path.is_dir():
        for index, image_path in enumerate(_folder_images(path, folder_rate_hz)):
            yield index, index / folder_rate_hz, partial(read_image, image_path)
    elif is_image(path):
        yield 0, 0.0, partial(read_image, path)
    else:
        for index, (frame, time_s) in enumerate(_timed_frames(path, log)):
            yield index, time_s, partial(to_rgb, frame)


def _select_frames(
    readable: Iterator[tuple[int, float, ReadPicture]], only: Collection[int] | None
) -> Iterator[tuple[int, float, ReadPicture]]:
    """Yield the frames with an index in `only` and stop after the last one; None: all frames."""
    if only is None:
        yield from readable
        return
    last = max(only, default=-1)
    if last < 0:
        return
    for frame in readable:
        if frame[0] in only:
            yield frame
        if frame[0] >= last:
            return


def _timed_frames(path: Path, log: ClockLog | None = None) -> Iterator[tuple[Any, float]]:
    """Yield every PyAV frame with its time in seconds, which never decreases."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        period_s = 1.0 / float(stream.average_rate or FALLBACK_RATE_HZ)
        timed: Iterator[tuple[Any, float | None]] = (
            (frame, frame.time) for frame in decode(container, stream, path, log)
        )
        if container.format.name == "avi":
            timed = _sorted_times(timed)
        time_s: float | None = None
        for frame, stamp_s in timed:
            time_s = next_time(stamp_s, time_s, period_s, log)
            yield frame, time_s
        if time_s is None:
            raise _no_frames_error(path)


def video_stream(container: Any, path: Path) -> Any:
    """Return the first video stream that is not a cover picture; raise MediaError if there is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    if container.streams.audio:
        raise MediaError(
            f"{path} has audio but no video stream, and action units are detected in faces. Give a video."
        )
    raise MediaError(f"{path} has no video stream. Give a video or a picture.")


def next_time(
    stamp_s: float | None, previous_s: float | None, period_s: float, log: ClockLog | None = None
) -> float:
    """Return the time of a frame, in seconds, from its timestamp and the frame before; it never decreases."""
    if previous_s is None:
        return 0.0 if stamp_s is None else stamp_s
    if stamp_s is None:
        return previous_s + period_s
    if stamp_s < previous_s and log is not None:
        log.add_late_frame(previous_s)
    return max(stamp_s, previous_s)


def _sorted_times(timed: Iterator[tuple[Any, float | None]]) -> Iterator[tuple[Any, float | None]]:
    """Yield frames in their order with their times sorted.

    AVI stores times in decoding order, so frames that were encoded out of order have swapped times. The
    decoder returns frames in display order: the n-th frame gets the n-th smallest time.
    """
    pending: deque[Any] = deque()
    times_s: list[float] = []
    for frame, time_s in timed:
        pending.append(frame)
        if time_s is not None:
            heapq.heappush(times_s, time_s)
        if len(pending) > REORDER_DEPTH:
            yield pending.popleft(), heapq.heappop(times_s) if times_s else None
    for frame in pending:
        yield frame, heapq.heappop(times_s) if times_s else None


def to_rgb(frame: Any) -> NDArray[np.uint8]:
    """Convert a PyAV frame of any pixel format to uint8 [H, W, 3] RGB, upright."""
    # One thread: the threads of the decoder already use the other cores.
    image: NDArray[np.uint8] = np.ascontiguousarray(frame.to_ndarray(format="rgb24", threads=1))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return image if matrix is None else _upright(image, np.frombuffer(matrix, np.int32))


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Rotate and flip an image [H, W, 3] by the 3 x 3 display matrix, rounded to a quarter turn.

    A point x, y of the stored image is displayed at a x + c y and b x + d y, with a, b = matrix[0:2] and
    c, d = matrix[3:5].
    """
    x_from_x, y_from_x, x_from_y, y_from_y = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(y_from_x) > abs(x_from_x):
        image, x_sign, y_sign = cv2.transpose(image), x_from_y, y_from_x
    else:
        x_sign, y_sign = x_from_x, y_from_y
    if x_sign < 0:
        image = cv2.flip(image, 1)
    if y_sign < 0:
        image = cv2.flip(image, 0)
    return image


def _no_frames_error(path: Path) -> MediaError:
    return MediaError(f"{path} has a video stream without frames. Copy or export it again.")
