"""Read a live source: a camera, a network stream, or a file read as a stream.

Frames and audio are yielded in the order of arrival. A stream that breaks off ends without an error.

Inputs: the number of a camera, a path or a URL. Returns: frames and chunks of 16 kHz audio on one clock.
See also: clock.py (times that step), video.py, audio.py (whole files), pipeline/audio_stream.py (drops
frames if the reader is too slow).
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import MediaError
from auscan.media.audio import MonoResampler, Waveform, check_pause, check_rate
from auscan.media.clock import ClockLog, repair_clock
from auscan.media.container import check_file
from auscan.media.video import FALLBACK_RATE_HZ, Frame, next_time, to_rgb, video_stream

TIMEOUT_S = 10.0
"""Timeout of a network source, in seconds."""


def is_file(source: str) -> bool:
    """Return whether the source is a path, not the number of a camera or a URL."""
    return not source.isdecimal() and "://" not in source


def read_stream(source: str, log: ClockLog | None = None) -> Iterator[Frame | Waveform]:
    """Yield frames, numbered from 0, and audio, in the order in which they arrive.

    source: "0" for the first camera (without audio); a path; an RTSP or HTTP URL
    log: gets the repairs of the clock
    Raises MediaError if the source cannot be opened or decoded, or has no video.
    """
    if source.isdecimal():
        yield from _read_camera(int(source))
        return
    if is_file(source):
        check_file(Path(source))
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp://") else {}
    try:
        where = str(Path(source).absolute()) if is_file(source) else source
        with av.open(where, options=options, timeout=TIMEOUT_S, metadata_errors="replace") as container:
            yield from _read_container(container, Path(source), log)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{source} cannot be read ({error}). Check the address, or test it in a video player."
        ) from error


def _read_camera(number: int) -> Iterator[Frame]:
    """Yield frames of a camera with the time of their arrival in seconds, from 0."""
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise MediaError(f"Camera {number} cannot be opened. Connect it, or give another number.")
        started_s, index = time.monotonic(), 0
        while True:
            ok, image = camera.read()
            if not ok:
                return
            time_s = time.monotonic() - started_s
            yield Frame(index, time_s, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
            index += 1
    finally:
        camera.release()


def _read_container(container: Any, path: Path, log: ClockLog | None) -> Iterator[Frame | Waveform]:
    """Yield the frames and the audio of an open container in the order of its packets."""
    video = video_stream(container, path)
    video.thread_type = "AUTO"
    period_s = 1.0 / float(video.average_rate or FALLBACK_RATE_HZ)
    streams = [video, *container.streams.audio[:1]]
    resampler = MonoResampler()
    audio_end_s: float | None = None
    index, time_s = 0, None
    for packet in repair_clock(container.demux(streams), log):
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                time_s = next_time(frame.time, time_s, period_s, log)
                yield Frame(index, time_s, to_rgb(frame))
                index += 1
                continue
            check_rate(path, frame.sample_rate)
            for start_s, samples in resampler.push(frame):
                if start_s is not None:
                    check_pause(path, start_s if audio_end_s is None else audio_end_s, start_s)
                    audio_end_s = start_s
                assert audio_end_s is not None, "the first run has a time"
                yield Waveform(samples, audio_end_s)
                audio_end_s += len(samples) / SAMPLE_RATE_HZ
    for _, samples in resampler.finish():
        yield Waveform(samples, audio_end_s or 0.0)
