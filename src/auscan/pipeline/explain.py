"""Show what the network went by in a face of a frame: cut the crop from the source again and draw over it.

In: an evidence.parquet, the source it came from, a frame.  Out: a picture.
Not here: how it looks (results/figures/heat.py).
"""

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.atomic_write import atomic_path
from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.faces.align import crop_face
from auscan.media.video import Frame, read_frames
from auscan.pipeline.detect import Progress
from auscan.results.attributions import Attributions, read_attributions
from auscan.results.figures.heat import draw_au, draw_sheet


def explain(
    source: str | Path,
    attributions_file: str | Path,
    frame: int,
    *,
    face_id: int | None = None,
    au: str | None = None,
    folder_rate_hz: float | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """The picture [H, W, 3] RGB of one face: of one AU, or the sheet of all.

    attributions_file: an evidence.parquet of `source`    frame: as in the table
    face_id: as in the table; may be left out where the frame has one face

    Raises InputError where there is no such AU or face, or the evidence is none; MediaError where the source
    cannot be read up to the frame.
    """
    if au is not None and au not in AU_NAMES:
        raise InputError(f"{au!r} is no action unit of auscan. Give one of {', '.join(AU_NAMES)}.")
    row = _select_row(read_attributions(attributions_file, range(frame, frame + 1)), frame, face_id)
    decoded = _read_frame(Path(source), frame, folder_rate_hz, progress)
    crop = crop_face(decoded.image, row.points[0], row.side)
    return draw_sheet(crop, row) if au is None else draw_au(crop, row, au)


def check_picture_suffix(path: Path) -> None:
    """Raise InputError for a suffix that is no picture's."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{path.name} is no name for a picture. Give one that ends in .png or .jpg.")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture [H, W, 3] RGB to `path`, whose suffix chooses the format."""
    check_picture_suffix(path)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _select_row(rows: Attributions, frame: int, face_id: int | None) -> Attributions:
    """The one row that is meant."""
    face_ids = ", ".join(map(str, rows.face_ids))
    if not len(rows):
        raise InputError(f"Frame {frame} has no face in the evidence. Take a frame with `success` 1.")
    if face_id is None and len(rows) > 1:
        raise InputError(f"Frame {frame} has the faces {face_ids}. Say which.")
    chosen = rows if face_id is None else rows.rows(rows.face_ids == face_id)
    if not len(chosen):
        raise InputError(f"Frame {frame} has no face {face_id}, but {face_ids}.")
    return chosen


def _read_frame(source: Path, index: int, folder_rate_hz: float | None, progress: Progress | None) -> Frame:
    with closing(read_frames(source, folder_rate_hz)) as frames:  # type: ignore[type-var]
        for frame in frames:
            if progress is not None:
                progress(frame.index, index)
            if frame.index == index:
                return frame
    raise InputError(f"{source.name} has no frame {index}. Give the source that the evidence was made from.")
