"""Draw the attributions of one face in one frame over its crop, which is cut from the source again.

Inputs: an evidence.parquet, its source, a frame. Returns: a picture [H, W, 3] RGB.
See also: results/figures/heat.py (drawing), results/attributions.py (the file).
"""

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.environment import atomic_path
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
    """Draw the heat map of one AU, or a sheet of all AUs: [H, W, 3] RGB.

    attributions_file: evidence.parquet of `source`    frame: number as in the table
    face_id: as in the table; needed only if the frame has several faces

    Raises InputError if the AU, the frame or the face does not exist, or `attributions_file` is no
    attributions file; MediaError if the source cannot be read up to the frame.
    """
    row = _select_row(read_attributions(attributions_file, range(frame, frame + 1)), frame, face_id)
    if au is not None and au not in row.au_names:
        raise InputError(f"{attributions_file} has no {au}. Choose one of {', '.join(row.au_names)}.")
    decoded = _read_frame(Path(source), frame, folder_rate_hz, progress)
    crop = crop_face(decoded.image, row.points[0], row.side)
    return draw_sheet(crop, row) if au is None else draw_au(crop, row, au)


def check_picture_suffix(path: Path) -> None:
    """Raise InputError unless the suffix is .png, .jpg or .jpeg."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{path.name} is not a picture file name. Use a name that ends in .png or .jpg.")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture [H, W, 3] RGB to `path`, whose suffix chooses the format."""
    check_picture_suffix(path)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _select_row(rows: Attributions, frame: int, face_id: int | None) -> Attributions:
    """Return the row of `face_id`, or the only row of the frame."""
    face_ids = ", ".join(map(str, rows.face_ids))
    if not len(rows):
        raise InputError(
            f"Frame {frame} has no face in the attributions file. Choose a frame with `success` 1."
        )
    if face_id is None and len(rows) > 1:
        raise InputError(f"Frame {frame} has the faces {face_ids}. Choose one by its face_id.")
    chosen = rows if face_id is None else rows.rows(rows.face_ids == face_id)
    if not len(chosen):
        raise InputError(f"Frame {frame} has no face {face_id}. Its faces: {face_ids}.")
    return chosen


def _read_frame(source: Path, index: int, folder_rate_hz: float | None, progress: Progress | None) -> Frame:
    with closing(read_frames(source, folder_rate_hz)) as frames:  # type: ignore[type-var]
        for frame in frames:
            if progress is not None:
                progress(frame.index, index)
            if frame.index == index:
                return frame
    raise InputError(
        f"{source.name} has no frame {index}. Give the source from which the attributions file was made."
    )
