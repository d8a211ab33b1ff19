"""Show a result: decode its source once more and draw the overlay or the report.

Why again: keeping the frames of a long video in memory while it is scored is not possible.
In: a Result, the source it came from, where to write.  Out: a file.
Not here: how the pictures look (results/overlay.py, results/report.py).
"""

from pathlib import Path

from auscan.media.images import is_image, read_image
from auscan.media.video import read_frames
from auscan.pipeline.apex import cut_apexes
from auscan.results.overlay import write_overlay, write_overlay_picture
from auscan.results.report import pictured_events, write_report
from auscan.results.result import Result


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
    write_overlay(path, frames, result.table, result.info.thresholds, sound_source, result.sound)


def render_report(
    result: Result,
    source: str | Path,
    path: str | Path,
    evidence: Path | None = None,
    folder_rate_hz: float | None = None,
) -> None:
    """Write the HTML report of `result` to `path`; the source is read for the faces at the apex of events.

    evidence: the evidence.parquet of the run, if it was kept; it is drawn over these faces.
    Raises MediaError where the source can no longer be read.
    """
    apexes = cut_apexes(result, pictured_events(result), Path(source), evidence, folder_rate_hz)
    write_report(Path(path), result, apexes)
