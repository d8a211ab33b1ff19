"""Draw the overlay and the report of a result.

Both decode the source again, because the frames of a long video do not fit into memory.

Inputs: a Result and its source. Returns: files.
See also: detect.py (`write_result`), results/figures/ (drawing).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_face
from auscan.media.audio import decode_sound
from auscan.media.discover import is_image, read_image
from auscan.media.video import read_frames
from auscan.results.attributions import (
    Attributions,
    read_attributions,
)
from auscan.results.figures.overlay import write_overlay, write_overlay_picture
from auscan.results.figures.report import Apex, pictured_events, write_report
from auscan.results.result import Result


def crop_apexes(
    result: Result,
    events: pd.DataFrame,
    source: Path,
    attributions_file: Path | None,
    folder_rate_hz: float | None = None,
) -> list[Apex]:
    """Cut out the face at the apex of each event, in the order of the events.

    events: rows of `result.events`, at most one for each face and AU
    attributions_file: evidence.parquet of the result. If None, faces are cut by the points of their tracks;
    faces without a track are omitted, as in a result that was read from disk.

    Raises MediaError if the source cannot be read up to the last apex.
    """
    frames = set(events["apex_frame"].tolist())
    rows = result.attributions if attributions_file is None else read_attributions(attributions_file, frames)
    apexes: dict[tuple[int, str], Apex] = {}
    for frame in read_frames(source, folder_rate_hz, frames):  # frames are large: hold one at a time
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
    """Return the attributions of a face in a frame; None if there are none."""
    found = rows.rows((rows.frames == frame) & (rows.face_ids == face_id))
    return found if len(found) else None


def _points_at(result: Result, frame: int, face_id: int) -> NDArray[np.float32] | None:
    """Return the points [5, 2] of a face in a frame, px; None if the result has no track of the face."""
    for track in result.tracks:
        if track.face_id == face_id:
            points: NDArray[np.float32] = track.points[int(np.searchsorted(track.frames, frame))]
            return points
    return None


def overlay_name(source: Path) -> str:
    """Return the file name of the overlay of `source`: .png for a picture, else .mp4."""
    return "overlay.png" if is_image(source) else "overlay.mp4"


def render_overlay(
    result: Result, source: str | Path, path: str | Path, folder_rate_hz: float | None = None
) -> None:
    """Write `source` with boxes, AU bars and its audio to `path`; see `overlay_name` for the suffix.

    folder_rate_hz: pictures per second, if `source` is a folder of numbered pictures

    Raises MediaError if the source cannot be read.
    """
    source, path = Path(source), Path(path)
    if is_image(source):
        write_overlay_picture(path, read_image(source), result.table, result.info.thresholds)
        return
    sound_frames = decode_sound(source) if result.info.has_audio else None
    frames = read_frames(source, folder_rate_hz)
    write_overlay(path, frames, result.table, result.info.thresholds, sound_frames, result.sound)


def render_report(
    result: Result,
    source: str | Path,
    path: str | Path,
    attributions_file: Path | None = None,
    folder_rate_hz: float | None = None,
) -> None:
    """Write the HTML report of `result` to `path`; the source is read to show faces at the apex of events.

    attributions_file: evidence.parquet of the result, to draw heat maps over these faces; None for none
    folder_rate_hz: pictures per second, if `source` is a folder of numbered pictures

    Raises MediaError if the source cannot be read.
    """
    apexes = crop_apexes(result, pictured_events(result), Path(source), attributions_file, folder_rate_hz)
    write_report(Path(path), result, apexes)
