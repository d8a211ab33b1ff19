"""Process camera pictures from a WebSocket and send back rows of the table.

    to the server     8 bytes: time in seconds as little-endian float64; then a JPEG picture
    to the page       {"index": 17, "rows": [...]} for each processed picture

The page limits the number of unanswered pictures, so no queue builds up on a slow machine. Audio is not sent:
detection is visual only. The size of a JPEG is checked before decoding: a few kilobytes can claim
65,535 x 65,535 pixels, which is 13 GB decoded.
Inputs: a WebSocket. Returns: messages until either side closes the connection.
See also: pipeline/live.py (rows).
"""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import cv2
import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from auscan.core.errors import AuscanError, InputError
from auscan.pipeline.live import LiveDetector, Row
from auscan.server.settings import StudioSettings

MAX_PIXELS: Final[int] = 4096 * 2304
"""Largest picture that is decoded, pixels."""
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG markers followed by the picture size: SOF0 to SOF15 without DHT, JPG and DAC."""


def read_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG to [H, W, 3] RGB. Raises InputError if it is no JPEG, damaged or above MAX_PIXELS."""
    height, width = jpeg_size(data)
    if height * width > MAX_PIXELS:
        raise InputError(f"The picture has {width} x {height} px; the limit is {MAX_PIXELS} px.")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError("The JPEG picture is damaged.")
    return np.asarray(image, np.uint8)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return height and width from the header, pixels. Raises InputError if there is no JPEG header."""
    offset = 2
    while data[:2] == b"\xff\xd8" and offset + 9 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker in _FRAME_HEADERS:
            return int.from_bytes(data[offset + 5 : offset + 7], "big"), int.from_bytes(
                data[offset + 7 : offset + 9], "big"
            )
        offset += 2 + max(length, 2)
    raise InputError("The data are not a JPEG picture.")


REFUSED: Final[int] = 1003
"""Close code: invalid data."""
BUSY: Final[int] = 1013
"""Close code: try again later."""
LAG_S: Final[float] = 0.3
"""Look-ahead of a row, seconds."""


class CameraSessions:
    """Counter of live sessions with a limit."""

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self._open = 0

    @contextmanager
    def reserve(self) -> Iterator[bool]:
        """Reserve a session for the `with` block; yield False if the limit is reached."""
        free = self._open < self.settings.max_cameras
        self._open += free
        try:
            yield free
        finally:
            self._open -= free


def add_live(app: FastAPI, sessions: CameraSessions) -> None:
    """Add the WebSocket route to an application."""

    @app.websocket("/api/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        with sessions.reserve() as free:
            if not free:
                await socket.close(BUSY, "The maximum number of cameras is in use.")
                return
            try:
                await _serve(socket, sessions.settings.model)
            except WebSocketDisconnect:
                pass
            except AuscanError as error:
                await socket.close(REFUSED, str(error)[:120])


async def _serve(socket: WebSocket, model: str) -> None:
    """Send the thresholds, then the rows of each picture."""
    detector = await run_in_threadpool(LiveDetector, model, lag_s=LAG_S)
    with detector:
        thresholds = dict(zip(detector.config.au_names, detector.config.thresholds, strict=True))
        await socket.send_json({"thresholds": thresholds})
        last_s, index = -math.inf, 0
        while True:
            time_s, picture = _split_message(await socket.receive_bytes())
            if not last_s <= time_s < math.inf:
                raise InputError("Picture times must be finite and must not decrease.")
            rows = await run_in_threadpool(_process_picture, detector, time_s, picture)
            await socket.send_json({"index": index, "rows": rows})
            last_s, index = time_s, index + 1


def _process_picture(detector: LiveDetector, time_s: float, picture: bytes) -> list[Row]:
    return detector.push(read_jpeg(picture), time_s)


def _split_message(message: bytes) -> tuple[float, bytes]:
    if len(message) <= 8:
        raise InputError("A message must contain eight bytes of time and a JPEG picture.")
    seconds: tuple[Any, ...] = struct.unpack("<d", message[:8])
    return float(seconds[0]), message[8:]
