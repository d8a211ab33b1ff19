"""`auscan live`: action units of a camera, a stream or a file while it runs, as JSON lines.

In: the words of the command line.  Out: a line a frame and face on stdout; remarks on stderr.
Not here: the work itself (pipeline/live.py), leaving out frames (pipeline/feed.py), the page (mjpeg.py).
"""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.engine import (
    BackendOption,
    DeviceOption,
    KeepAllOption,
    OperatingPointOption,
    ThreadsOption,
)
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.pipeline.live import Row

SAY_EVERY_S = 5.0
"""Seconds between two remarks about frames that were left out."""


def live(
    source: Annotated[str, typer.Argument(help="A camera's number, a file, or an RTSP or HTTP URL.")],
    model: Annotated[str, typer.Option("--model", help="A shipped model or a checkpoint folder.")] = "nano",
    operating_point: OperatingPointOption = "default",
    lag: Annotated[
        str, typer.Option("--lag", metavar="SECONDS", help="How far ahead a row may look, like 0.5s.")
    ] = "0.5s",
    keep_all: KeepAllOption = False,
    mjpeg: Annotated[
        int | None, typer.Option("--mjpeg", metavar="PORT", help="Show it on http://127.0.0.1:PORT.")
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Print the action units of SOURCE as it runs, a JSON line a frame and face."""
    from auscan.cli.mjpeg import Page
    from auscan.inference.stages import load
    from auscan.media.stream import is_file, read_stream
    from auscan.media.video import Frame
    from auscan.pipeline.feed import LiveFeed
    from auscan.pipeline.live import LiveDetector

    feed = LiveFeed(read_stream(source), paced=is_file(source))
    said = Said()
    lag_s, stages = _seconds(lag), load(model, backend, device, threads)
    detector = LiveDetector(stages, lag_s=lag_s, operating_point=operating_point, keep_all=keep_all)
    with detector, Page(mjpeg, detector.config) as page:
        for item in feed:
            if isinstance(item, Frame):
                page.add(item)
                rows = detector.push(item.image, item.time_s, index=item.index)
            else:
                detector.hear(item)
                rows = []
            _print(rows, feed.dropped)
            page.show(rows)
            said.dropped(feed.dropped)
        _print(detector.finish(), feed.dropped)


class Said:
    """Speaks of frames left out, now and then."""

    def __init__(self) -> None:
        self._count, self._at_s = 0, -SAY_EVERY_S

    def dropped(self, count: int) -> None:
        """So many were left out until now."""
        if count > self._count and time.monotonic() - self._at_s >= SAY_EVERY_S:
            self._count, self._at_s = count, time.monotonic()
            typer.echo(f"auscan: {count} frames left out so far; this machine is too slow for all", err=True)


def _print(rows: "list[Row]", dropped: int) -> None:
    for row in rows:
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
        typer.echo(json.dumps({**rounded, "dropped": dropped}))


def _seconds(text: str) -> float:
    """'0.5s' or '0.5' as seconds."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f"--lag {text} is no time. Give seconds, like 0.5s.")
    return seconds
