"""Read pictures in motion: every frame once, in order, upright, with its time from the container.

Videos go through PyAV; a single picture is a video of one frame at time 0; a folder of numbered pictures is
one when a frame rate is given. Nothing is kept, so memory does not grow with the length.

In: a path.  Out: frames uint8 [H, W, 3] RGB with presentation times in seconds.
Not here: opening and decoding (container.py), pictures (images.py), sound (audio.py).
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
from auscan.media.container import decode, open_media
from auscan.media.images import is_image, numbered_images, read_image
from auscan.media.truncation import is_truncated

FALLBACK_RATE_HZ = 25.0
"""Spaces frames that have no time of their own in a file that names no rate either."""

ReadPicture = Callable[[], NDArray[np.uint8]]
"""Gives the picture of a frame, [H, W, 3] RGB, which costs more than decoding it."""

REORDER_DEPTH = 16
"""The most frames that H.264 and HEVC may hold back for reordering."""


@dataclass(frozen=True)
class Frame:
    """One decoded picture."""

    index: int
    """Counts decoded frames from 0."""
    time_s: float
    """Presentation time in the container's clock, not shifted: it may start late or below 0."""
    image: NDArray[np.uint8]
    """[H, W, 3] RGB, upright. H and W may change within a file."""


@dataclass(frozen=True)
class VideoInfo:
    """What can be known before reading all of it; None where the container does not say."""

    path: Path
    width: int
    """Pixels, once upright."""
    height: int
    """Pixels, once upright."""
    frames: int | None
    """The container's count, or duration times rate: for progress bars, not for sums."""
    duration_s: float | None
    rate_hz: float | None
    """Average frame rate."""
    has_audio: bool


def probe(path: Path | str, folder_rate_hz: float | None = None) -> VideoInfo:
    """Look at the header and the first frame of a video, a picture or a folder of pictures.

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
    path: Path | str, folder_rate_hz: float | None = None, only: Collection[int] | None = None
) -> Iterator[Frame]:
    """Every frame of a video, a picture, or (given `folder_rate_hz`) a folder of numbered pictures.

    only: indices of the frames that are wanted; nothing is read beyond the last of them, and the ones between
    are decoded, since others build on them, but not turned into pictures.

    Times are those of PyAV's `frame.time`. A frame without one follows the frame before by one period of the
    average rate; a time that would go back is held at the time before. The n-th picture of a folder is at
    n / folder_rate_hz, counted from 0, whatever its number.

    Raises MediaError where the input cannot be read, or, after the last good frame, where it breaks off.
    """
    for index, time_s, read_picture in _select_frames(_readable_frames(Path(path), folder_rate_hz), only):
        yield Frame(index, time_s, read_picture())


def frame_times(path: Path | str) -> NDArray[np.float64]:
    """When each frame of a video is shown, [F] s: the times of `read_frames` without the pictures.

    mp4 and mov stamp every packet, so nothing is decoded there: hundreds of times faster than reading the
    frames. What the decoder alone would find, damage in the middle, goes unnoticed. Other containers are
    decoded.

    Raises MediaError where the file cannot be read or is cut off.
    """
    path = Path(path)
    times_s = _packet_times(path)
    if times_s is None:
        times_s = [time_s for _, time_s in _timed_frames(path)]
    return np.asarray(times_s, np.float64)


def _packet_times(path: Path) -> list[float] | None:
    """The times [F] s that mp4 and mov files keep beside their packets; None where none can be trusted."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        if not container.format.name.startswith("mov") or is_truncated(path):
            return None
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        if not packets or any(packet.pts is None for packet in packets):
            return None
        # Packets come in decoding order, frames in that of their times.
        return sorted(float(packet.pts * packet.time_base) for packet in packets)


def _folder_images(folder: Path, rate_hz: float) -> list[Path]:
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise MediaError(
            f"{folder}: a frame rate of {rate_hz} Hz is no rate. Give frames per second, like 25."
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


def _readable_frames(path: Path, folder_rate_hz: float | None) -> Iterator[tuple[int, float, ReadPicture]]:
    """Index, time and a way to get the picture of every frame."""
    if folder_rate_hz is not None and path.is_dir():
        for index, image_path in enumerate(_folder_images(path, folder_rate_hz)):
            yield index, index / folder_rate_hz, partial(read_image, image_path)
    elif is_image(path):
        yield 0, 0.0, partial(read_image, path)
    else:
        for index, (frame, time_s) in enumerate(_timed_frames(path)):
            yield index, time_s, partial(to_rgb, frame)


def _select_frames(
    readable: Iterator[tuple[int, float, ReadPicture]], only: Collection[int] | None
) -> Iterator[tuple[int, float, ReadPicture]]:
    """Those of the indices in `only`, and nothing after the last; None: all."""
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


def _timed_frames(path: Path) -> Iterator[tuple[Any, float]]:
    """Every frame as PyAV gives it, with its time, seconds, that never goes back."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        period_s = 1.0 / float(stream.average_rate or FALLBACK_RATE_HZ)
        timed: Iterator[tuple[Any, float | None]] = (
            (frame, frame.time) for frame in decode(container, stream, path)
        )
        if container.format.name == "avi":
            timed = _sorted_times(timed)
        time_s: float | None = None
        for frame, stamp_s in timed:
            time_s = next_time(stamp_s, time_s, period_s)
            yield frame, time_s
        if time_s is None:
            raise _no_frames_error(path)


def video_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures; the cover picture of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    if container.streams.audio:
        raise MediaError(
            f"{path} has sound but no picture, and action units are read from faces. Give a video."
        )
    raise MediaError(f"{path} has no picture in it. Give a video or a picture.")


def next_time(stamp_s: float | None, previous_s: float | None, period_s: float) -> float:
    """The time of a frame from its own stamp and the frame before it; never back in time."""
    if previous_s is None:
        return 0.0 if stamp_s is None else stamp_s
    return previous_s + period_s if stamp_s is None else max(stamp_s, previous_s)


def _sorted_times(timed: Iterator[tuple[Any, float | None]]) -> Iterator[tuple[Any, float | None]]:
    """Frames as they come, with their times put in order.

    AVI keeps times in decoding order, so frames that were coded out of order arrive with swapped times.
    Frames come in display order: the n-th one has the n-th smallest time.
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
    """A PyAV frame of any pixel format as uint8 [H, W, 3] RGB, upright."""
    # One thread: the decoder's own threads already keep the other cores busy.
    image: NDArray[np.uint8] = np.ascontiguousarray(frame.to_ndarray(format="rgb24", threads=1))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return image if matrix is None else _upright(image, np.frombuffer(matrix, np.int32))


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Turn and mirror an image [H, W, 3] by the container's 3 x 3 display matrix, to the next quarter turn.

    x, y on the screen are a x + c y and b x + d y of the stored picture, with a, b = matrix[0:2] and
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
    return MediaError(f"{path} has a video stream but not one frame in it. Copy or export it again.")
