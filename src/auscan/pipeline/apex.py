"""Cut faces out of a source once more, where their events are highest.

In: a Result, its source, and the evidence if it was kept.  Out: crops with what the network went by there.
Not here: which events (results/report.py), how it looks (results/heat.py).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.faces.align import SIDE, crop_face
from auscan.media.video import read_frames
from auscan.results.evidence import Evidence, read_evidence
from auscan.results.report import Apex
from auscan.results.result import Result


def cut_apexes(
    result: Result,
    events: pd.DataFrame,
    source: Path,
    evidence: Path | None,
    folder_rate_hz: float | None = None,
) -> list[Apex]:
    """The face at the apex of each event, in the order of the events.

    events: rows of `result.events`, at most one a face and AU
    evidence: its evidence.parquet; without, the crops are cut by the points of the tracks, and faces without
    a track, as in a result read back, are left out
    Raises MediaError where the source can no longer be read up to the last apex.
    """
    frames = set(events["apex_frame"].tolist())
    rows = result.evidence if evidence is None else read_evidence(evidence, frames)
    apexes: dict[tuple[int, str], Apex] = {}
    for frame in read_frames(source, folder_rate_hz, frames):  # one at a time, as they may be large
        here = events[events["apex_frame"] == frame.index]
        for face_id, au, peak in zip(here["face_id"], here["AU"], here["peak"], strict=True):
            row = None if rows is None else _row(rows, frame.index, face_id)
            points = _points(result, frame.index, face_id) if row is None else row.points[0]
            if points is not None:
                crop = crop_face(frame.image, points, SIDE if row is None else row.side)
                apexes[face_id, au] = Apex(int(face_id), au, frame.time_s, float(peak), crop, row)
    order = zip(events["face_id"], events["AU"], strict=True)
    return [apexes[key] for key in order if key in apexes]


def _row(rows: Evidence, frame: int, face_id: int) -> Evidence | None:
    found = rows.rows((rows.frames == frame) & (rows.face_ids == face_id))
    return found if len(found) else None


def _points(result: Result, frame: int, face_id: int) -> NDArray[np.float32] | None:
    """The five points [5, 2] of a face in a frame; None where the result has no track of it."""
    for track in result.tracks:
        if track.face_id == face_id:
            points: NDArray[np.float32] = track.points[int(np.searchsorted(track.frames, frame))]
            return points
    return None
