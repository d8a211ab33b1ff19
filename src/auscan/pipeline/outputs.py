"""Cut faces out of a source once more, where their events are highest.

In: a Result, its source, and the evidence if it was kept.  Out: crops with what the network went by there.
Not here: which events (results/figures/report.py), how it looks (results/figures/heat.py).

Show a result: decode its source once more and draw the overlay or the report.

Why again: keeping the frames of a long video in memory while it is scored is not possible.
In: a Result, the source it came from, where to write.  Out: a file.
Not here: how the pictures look (results/figures/).

One input from its file to its folder: the table while it grows, then all that is made of it.

In: a source, a loaded engine, what to make (`Options`).  Out: files in a folder, and the Result.
Not here: the work on the frames (detect.py), many inputs (batch/).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.config import Options, with_operating_point
from auscan.core.environment import VERSION
from auscan.faces.align import SIDE, crop_face
from auscan.inference.engine import InferenceEngine
from auscan.media.images import is_image, read_image
from auscan.media.video import read_frames
from auscan.pipeline.detect import Progress, detect
from auscan.results.attributions import (
    ATTRIBUTIONS_FILE,
    Attributions,
    AttributionsWriter,
    attributions_metadata,
    read_attributions,
)
from auscan.results.baseline import MIN_BASELINE_FRAMES
from auscan.results.figures.overlay import write_overlay, write_overlay_picture
from auscan.results.figures.report import Apex, pictured_events, write_report
from auscan.results.result import Result
from auscan.results.table import TableWriter, table_metadata


def crop_apexes(
    result: Result,
    events: pd.DataFrame,
    source: Path,
    attributions_file: Path | None,
    folder_rate_hz: float | None = None,
) -> list[Apex]:
    """The face at the apex of each event, in the order of the events.

    events: rows of `result.events`, at most one a face and AU
    attributions_file: its evidence.parquet; without, the crops are cut by the points of the tracks, and faces
    without a track, as in a result read back, are left out
    Raises MediaError where the source can no longer be read up to the last apex.
    """
    frames = set(events["apex_frame"].tolist())
    rows = result.attributions if attributions_file is None else read_attributions(attributions_file, frames)
    apexes: dict[tuple[int, str], Apex] = {}
    for frame in read_frames(source, folder_rate_hz, frames):  # one at a time, as they may be large
        frame_events = events[events["apex_frame"] == frame.index]
        for face_id, au, peak in zip(
            frame_events["face_id"], frame_events["AU"], frame_events["peak"], strict=True
        ):
            row = None if rows is None else _attributions_at(rows, frame.index, face_id)
            points = _points_at(result, frame.index, face_id) if row is None else row.points[0]
            if points is not None:
                crop = crop_face(frame.image, points, SIDE if row is None else row.side)
                apexes[face_id, au] = Apex(int(face_id), au, frame.time_s, float(peak), crop, row)
    order = zip(events["face_id"], events["AU"], strict=True)
    return [apexes[key] for key in order if key in apexes]


def _attributions_at(rows: Attributions, frame: int, face_id: int) -> Attributions | None:
    found = rows.rows((rows.frames == frame) & (rows.face_ids == face_id))
    return found if len(found) else None


def _points_at(result: Result, frame: int, face_id: int) -> NDArray[np.float32] | None:
    """The five points [5, 2] of a face in a frame; None where the result has no track of it."""
    for track in result.tracks:
        if track.face_id == face_id:
            points: NDArray[np.float32] = track.points[int(np.searchsorted(track.frames, frame))]
            return points
    return None


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
    attributions_file: Path | None = None,
    folder_rate_hz: float | None = None,
) -> None:
    """Write the HTML report of `result` to `path`; the source is read for the faces at the apex of events.

    attributions_file: the evidence.parquet of the run, if it was kept; it is drawn over these faces.
    Raises MediaError where the source can no longer be read.
    """
    apexes = crop_apexes(result, pictured_events(result), Path(source), attributions_file, folder_rate_hz)
    write_report(Path(path), result, apexes)


def write_result(
    source: Path,
    folder: Path,
    engine: InferenceEngine,
    options: Options,
    command: str,
    progress: Progress | None = None,
) -> Result:
    """Run one input and write its files into `folder`; return the result.

    command: what to type to get this result again
    Raises MediaError for the input.
    """
    config, point = with_operating_point(engine.config, options.operating_point), options.operating_point
    described = source.name, config.name, config.thresholds, config.untrained_aus, VERSION
    metadata = table_metadata(*described, operating_point=point, baseline=options.baseline)
    with (
        TableWriter(folder, metadata) as writer,
        _attributions_writer(source, folder, engine, options) as attributions_writer,
    ):
        result = detect(
            source,
            model=engine,
            operating_point=point,
            folder_rate_hz=options.as_video_hz,
            keep_all=options.keep_all,
            baseline=options.baseline,
            progress=progress,
            rows=writer.write,
            attributions=False if attributions_writer is None else attributions_writer.write,
        )
    result = replace(result, info=replace(result.info, command=command))
    result.save_derived(folder)
    if options.overlay:
        render_overlay(result, source, folder / overlay_name(source), options.as_video_hz)
    file = folder / ATTRIBUTIONS_FILE
    try:
        if options.report:
            drawn_file = None if attributions_writer is None else file
            render_report(result, source, folder / "report.html", drawn_file, options.as_video_hz)
    finally:
        if not options.attributions:
            file.unlink(missing_ok=True)  # kept for the report alone, or an earlier run's
    return result


def missing_baseline_warning(result: Result) -> str | None:
    """A sentence on the faces that are not judged for want of a baseline, which nobody expects; or None."""
    levels = result.resting_levels() or {}
    unscored = [str(face_id) for face_id, level in levels.items() if all(value != value for value in level)]
    if not unscored:
        return None
    return (
        f"{result.info.source}: {len(unscored)} of {len(levels)} faces have fewer than "
        f"{MIN_BASELINE_FRAMES} judged frames to take a baseline from ({result.info.baseline}), "
        "and are not judged."
    )


def _attributions_writer(
    source: Path, folder: Path, engine: InferenceEngine, options: Options
) -> AbstractContextManager[AttributionsWriter | None]:
    """The file that evidence goes to, if it is asked for, or if the report can show it."""
    if not options.attributions and not (options.report and engine.has_attributions):
        return nullcontext()
    metadata = attributions_metadata(
        source.name, engine.config.name, engine.config.network.visual.crop_size, VERSION
    )
    return AttributionsWriter(folder / ATTRIBUTIONS_FILE, metadata)
