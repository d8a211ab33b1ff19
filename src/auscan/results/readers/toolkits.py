"""Read the CSV files of OpenFace and py-feat.

OpenFace: frame (from 1), face_id, timestamp, confidence, success, AU01_r, ..., AU01_c, ... The presences
(`_c`) are the labels; intensities (`_r`) are 0 to 5. In rows without a face (success 0) both
are unknown, because OpenFace leaves stale numbers there.

py-feat (Fex): AU probabilities, frame (from 0), no times. Faces are separated by `Identity`. Without that
column a frame with several faces cannot be read.

Inputs: a CSV file.
Returns: a coding for each face.
See also: datasets/openface.py (OpenFace files as a data set), exports/ (writing).
"""

import re
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS, au_columns
from auscan.core.errors import InputError
from auscan.results.readers.coding import FrameCoding

REQUIRED_COLUMNS: Final[tuple[str, ...]] = ("frame", "timestamp", "success")
"""Columns that an OpenFace table must have."""


def is_openface(path: Path) -> bool:
    """Return whether the header of a CSV file is that of OpenFace."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        fields = {field.strip() for field in file.readline().split(",")}
    return {"confidence", "success"} <= fields and any(field.endswith("_c") for field in fields)


def read_openface_table(path: Path) -> pd.DataFrame:
    """Return the table with stripped column names and a face_id, sorted by face and frame.

    Raises InputError if it is not the table of a video with AUs.
    """
    try:
        table = pd.read_csv(path, skipinitialspace=True, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error
    table.columns = table.columns.str.strip()
    missing = [name for name in REQUIRED_COLUMNS if name not in table]
    if missing or not any(f"{name}_c" in table for name in ACTION_UNITS):
        missing_text = ", ".join(missing) or "presences (_c)"
        raise InputError(f"{path} is not an OpenFace table of a video with AUs: it lacks {missing_text}.")
    if "face_id" not in table:  # OpenFace 1 has no face_id
        table["face_id"] = 0
    return table.sort_values(["face_id", "frame"]).drop_duplicates(["face_id", "frame"])


def read_openface(path: Path) -> list[FrameCoding]:
    """Return a coding for each face of the file.  Raises InputError if it is not such a table."""
    table = read_openface_table(path)
    coded = table.columns[table.notna().any()]  # an export may have empty columns
    au_names = tuple(name for name in ACTION_UNITS if f"{name}_c" in coded)
    codings = []
    for face, rows in table.groupby("face_id", sort=True):
        found = rows["success"].to_numpy(np.float64)[:, None] == 1
        presences = rows.reindex(columns=[f"{name}_c" for name in au_names]).to_numpy(np.float32)
        intensities = rows.reindex(columns=[f"{name}_r" for name in au_names]).to_numpy(np.float32)
        known = found & np.isin(presences, (0, 1))
        has_values = not np.isnan(intensities).all()
        codings.append(
            FrameCoding(
                name=path.name,
                face=int(str(face)),
                au_names=au_names,
                frames=rows["frame"].to_numpy(np.int64) - 1,
                times_s=rows["timestamp"].to_numpy(np.float64),
                labels=np.where(known, presences, np.nan).astype(np.float32),
                intensities=np.where(found, intensities, np.nan).astype(np.float32) if has_values else None,
                boxes=_box_of_landmarks(rows, found[:, 0]),
            )
        )
    return codings


def _box_of_landmarks(rows: pd.DataFrame, found: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Return the boxes [T, 4] of the 2D landmarks, NaN without a face; None if the file has none."""
    sides = []
    for axis in "xy":
        names = [name for name in map(str, rows.columns) if re.fullmatch(rf"{axis}_\d+", name)]
        if not names:
            return None
        values = rows[names].to_numpy(np.float32)
        sides.append((values.min(axis=1), np.ptp(values, axis=1)))
    (left, width), (top, height) = sides
    boxes = np.stack([left, top, width, height], axis=1)
    return np.where(found[:, None], boxes, np.nan).astype(np.float32)


ACTIVE_THRESHOLD = 0.5
"""Probability from which an AU of py-feat counts as active."""
PYFEAT_BOX: Final[tuple[str, ...]] = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
"""Columns of the box of a face of py-feat, px."""


def is_pyfeat(path: Path) -> bool:
    """Return whether the header of a CSV file is that of py-feat."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        fields = {field.strip() for field in file.readline().split(",")}
    return {"frame", "FaceScore"} <= fields and any(name in fields for name in ACTION_UNITS)


def read_pyfeat(path: Path) -> list[FrameCoding]:
    """Return a coding for each face of the file.  Raises InputError if it is not such a table."""
    try:
        table = pd.read_csv(path, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error
    table = table[table["FaceScore"].notna()]
    identities = table["Identity"].astype(str) if "Identity" in table else pd.Series("", index=table.index)
    au_names = au_columns(table.columns[table.notna().any()])  # an export may have empty columns
    codings = []
    for face, (_, rows) in enumerate(table.groupby(identities, sort=True)):
        rows = rows.sort_values("frame")
        if rows["frame"].duplicated().any():
            raise InputError(f"{path} has several faces in a frame and no Identity column to separate them.")
        values = rows[list(au_names)].to_numpy(np.float32)
        labels = np.where(np.isnan(values), np.nan, values >= ACTIVE_THRESHOLD).astype(np.float32)
        frames = rows["frame"].to_numpy(np.int64)
        codings.append(
            FrameCoding(
                name=path.name,
                face=face,
                au_names=au_names,
                frames=frames,
                times_s=None,
                labels=labels,
                probabilities=values,
                boxes=rows[list(PYFEAT_BOX)].to_numpy(np.float32) if {*PYFEAT_BOX} <= {*rows} else None,
            )
        )
    return codings
