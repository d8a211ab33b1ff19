"""Run `auscan live`: stream action units from a camera, URL or file as JSON lines.

With --mjpeg, `MjpegPage` also serves the annotated frames as MJPEG on 127.0.0.1. Frames are drawn only while
a browser is connected.
Returns: one line per frame and face on stdout; messages on stderr; http://127.0.0.1:PORT.
See also: pipeline/live.py (detection), pipeline/audio_stream.py (dropped frames), results/figures/overlay.py.
"""

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from auscan.cli.model_options import (
    BackendOption,
    DeviceOption,
    KeepAllOption,
    ModelOption,
    OperatingPointOption,
    ThreadsOption,
)
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.core.config import CheckpointConfig
    from auscan.media.clock import ClockLog
    from auscan.media.video import Frame
    from auscan.pipeline.live import Row
    from auscan.results.figures.overlay import Painter

MAX_PENDING_FRAMES = 64
"""Frames kept until their rows are available; older frames are not shown."""
JPEG_QUALITY = 80
"""JPEG quality, percent."""


class MjpegPage:
    """HTTP server of annotated frames; does nothing if `port` is None."""

    def __init__(self, port: int | None, config: "CheckpointConfig") -> None:
        self._port, self._config = port, config
        self._frames: deque[Frame] = deque(maxlen=MAX_PENDING_FRAMES)
        self._painter: Painter | None = None
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        if self._port is not None:
            try:
                self._server = _Server(("127.0.0.1", self._port), _Handler)
            except OSError as error:
                raise InputError(
                    f"Cannot listen on port {self._port} ({error.strerror}). Give another port with --mjpeg."
                ) from error
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
            typer.echo(f"auscan: live view at http://127.0.0.1:{self._server.server_port}", err=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.show(None)
            self._server.shutdown()
            self._server.server_close()

    def add(self, frame: "Frame") -> None:
        """Keep a frame until `show` gets its rows."""
        if self._server is not None and self._server.viewers:
            self._frames.append(frame)

    def show(self, rows: "list[Row]") -> None:
        """Draw and send the newest frame that `rows` contain."""
        if self._server is None or not rows:
            return
        index = rows[-1]["frame"]
        frames = [frame for frame in self._frames if frame.index == index]
        if frames:
            self._server.show(self._paint(frames[0], [row for row in rows if row["frame"] == index]))

    def _paint(self, frame: "Frame", rows: "list[Row]") -> bytes:
        import cv2
        import numpy as np

        from auscan.results.figures.overlay import DrawnFace, Painter

        if self._painter is None:
            height, width = frame.image.shape[:2]
            self._painter = Painter(height, width, self._config.au_names, self._config.thresholds)
        faces = [
            DrawnFace(
                int(row["face_id"] or 0),
                (float(row["x"] or 0), float(row["y"] or 0), float(row["w"] or 0), float(row["h"] or 0)),
                np.array(
                    [np.nan if row[name] is None else row[name] for name in self._config.au_names], np.float32
                ),
                np.array([row[f"{name}_c"] == 1 for name in self._config.au_names]),
                str(row["reason"]),
            )
            for row in rows
            if row["success"]
        ]
        picture = cv2.cvtColor(self._painter.paint(frame.image, faces), cv2.COLOR_RGB2BGR)
        return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


class _Server(ThreadingHTTPServer):
    """HTTP server that sends the newest picture to all connected browsers."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.changed = threading.Condition()
        self.picture: bytes | None = b""
        """Newest picture, JPEG; None after the end of the stream."""
        self.number = 0
        self.viewers = 0

    def show(self, picture: bytes | None) -> None:
        with self.changed:
            self.picture, self.number = picture, self.number + 1
            self.changed.notify_all()

    def wait_for_picture(self, number: int) -> tuple[int, bytes] | None:
        """Wait until the picture number differs from `number`; return (number, JPEG), None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.number != number)
            return None if self.picture is None else (self.number, self.picture)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        self.server.viewers += 1
        try:
            self._stream()
        except OSError:
            pass  # the browser closed the connection
        finally:
            self.server.viewers -= 1

    def _stream(self) -> None:
        seen = self.server.number
        while (picture := self.server.wait_for_picture(seen)) is not None:
            seen, jpeg = picture
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n")

    def log_message(self, *args: Any) -> None:
        """Disable request logging."""


REPORT_EVERY_S = 5.0
"""Least time between two messages about dropped frames, seconds."""


def live(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Camera number, file, or RTSP or HTTP URL.")
    ],
    model: ModelOption = "nano",
    operating_point: OperatingPointOption = "default",
    lag: Annotated[
        str,
        typer.Option("--lag", metavar="SECONDS", help="Look-ahead of each row; delays the output."),
    ] = "0.5s",
    keep_all: KeepAllOption = False,
    mjpeg: Annotated[
        int | None,
        typer.Option("--mjpeg", metavar="PORT", help="Show annotated frames at http://127.0.0.1:PORT."),
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Stream action units from a camera, URL or file as JSON lines."""
    from auscan.inference.load import load_engine
    from auscan.media.clock import ClockLog
    from auscan.media.stream import is_file, read_stream
    from auscan.media.video import Frame
    from auscan.pipeline.audio_stream import LiveFeed
    from auscan.pipeline.live import LiveDetector

    clock = ClockLog()
    feed = LiveFeed(read_stream(source, clock), paced=is_file(source))
    reporter, repairs = DropReporter(), ClockReporter(source, clock)
    lag_s, engine = _seconds(lag), load_engine(model, backend, device, threads)
    detector = LiveDetector(engine, lag_s=lag_s, operating_point=operating_point, keep_all=keep_all)
    with detector, MjpegPage(mjpeg, detector.config) as page:
        for item in feed:
            if isinstance(item, Frame):
                page.add(item)
                rows = detector.push(item.image, item.time_s, index=item.index)
            else:
                detector.push_audio(item)
                rows = []
            _print(rows, feed.dropped)
            page.show(rows)
            reporter.report(feed.dropped)
            repairs.report()
        repairs.report(at_end=True)
        _print(detector.finish(), feed.dropped)


class DropReporter:
    """Prints the number of dropped frames, at most every REPORT_EVERY_S."""

    def __init__(self) -> None:
        self._count, self._at_s = 0, -REPORT_EVERY_S

    def report(self, count: int) -> None:
        """Print the total number of dropped frames if it has grown."""
        if count > self._count and time.monotonic() - self._at_s >= REPORT_EVERY_S:
            self._count, self._at_s = count, time.monotonic()
            typer.echo(
                f"auscan: {count} frames dropped so far; this machine is too slow for all frames", err=True
            )


class ClockReporter:
    """Prints the repairs of the clock, at most every REPORT_EVERY_S."""

    def __init__(self, source: str, clock: "ClockLog") -> None:
        self._source, self._clock = source, clock
        self._printed: set[str] = set()
        self._at_s = -REPORT_EVERY_S

    def report(self, at_end: bool = False) -> None:
        """Print the sentences that are new or have changed."""
        if not at_end and time.monotonic() - self._at_s < REPORT_EVERY_S:
            return
        for sentence in self._clock.warnings(self._source):
            if sentence not in self._printed:
                self._printed.add(sentence)
                self._at_s = time.monotonic()
                typer.echo(f"auscan: {sentence}", err=True)


def _print(rows: "list[Row]", dropped: int) -> None:
    for row in rows:
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
        typer.echo(json.dumps({**rounded, "dropped": dropped}))


def _seconds(text: str) -> float:
    """Parse '0.5s' or '0.5' as seconds."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f"--lag {text} is not a time. Give seconds, e.g. 0.5s.")
    return seconds
