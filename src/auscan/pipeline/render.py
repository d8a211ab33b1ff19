"""Show a result: decode its source once more and draw the overlay or the report.

Why again: keeping the frames of a long video in memory while it is scored is not possible.
In: a Result, the source it came from, where to write.  Out: a file.
Not here: how the pictures look (results/overlay.py, results/report.py).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform, read_waveform
from auscan.media.images import is_image, read_image
from auscan.media.video import read_frames
from auscan.results.overlay import write_overlay, write_overlay_picture
from auscan.results.report import write_report
from auscan.results.result import Result

LEVEL_STEP_S = 0.05
"""Length of the stretches whose sound level is measured, seconds."""

SILENCE_DB = -90.0
"""Level written for silence, whose logarithm does not exist; 16-bit sound cannot go much below."""


def overlay_name(source: Path) -> str:
    """File name for the overlay of `source`: a picture gives a picture, all else a video."""
    return "overlay.png" if is_image(source) else "overlay.mp4"


def render_overlay(
    result: Result, source: str | Path, path: str | Path, folder_rate_hz: float | None = None
) -> None:
    """Write `source` with boxes and AU bars to `path`, sound kept; see `overlay_name` for the suffix.

    folder_rate_hz: pictures per second where `source` is a folder of numbered pictures.
    Raises MediaError where the source can no longer be read.
    """
    source, path = Path(source), Path(path)
    if is_image(source):
        write_overlay_picture(path, read_image(source), result.table, result.info.thresholds)
        return
    sound_source = source if result.info.has_audio else None
    frames = read_frames(source, folder_rate_hz)
    write_overlay(path, frames, result.table, result.info.thresholds, sound_source)


def render_report(result: Result, source: str | Path, path: str | Path) -> None:
    """Write the HTML report of `result` to `path`; the source is read for its sound level alone.

    Raises MediaError where the sound of the source can no longer be read.
    """
    chunks = read_waveform(source) if result.info.has_audio else None
    write_report(Path(path), result, None if chunks is None else sound_level(chunks))


def sound_level(chunks: Iterable[Waveform]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contiguous sound -> middle times [L] s and root mean square level [L] in dB of full scale, every 50 ms.

    Chunks should hold whole steps, as those of 30 s do; what is left of each is a shorter step.
    """
    step = round(LEVEL_STEP_S * SAMPLE_RATE_HZ)
    times: list[float] = []
    levels: list[float] = []
    for chunk in chunks:
        starts = np.arange(0, len(chunk.samples), step)
        lengths = np.diff(np.append(starts, len(chunk.samples)))
        power = np.add.reduceat(np.square(chunk.samples, dtype=np.float64), starts) / lengths  # [steps]
        times += (chunk.start_s + (starts + lengths / 2) / SAMPLE_RATE_HZ).tolist()
        levels += np.maximum(10 * np.log10(np.maximum(power, 1e-12)), SILENCE_DB).tolist()
    return np.asarray(times), np.asarray(levels)
