"""Write a result as OpenFace CSV, with every column of FeatureExtraction 2.x in the same order.

Filled columns: frame (from 1), face_id, timestamp, confidence, success, the angles `pose_R.` in radians, the
presences `AU.._c` and, if the model computes them, the intensities `AU.._r` (0 to 5, the unit of the model,
not FACS A to E). A frame without a face has face_id 0 and success 0, as in OpenFace. AUs without a column in
OpenFace, such as AU24, are left out.

OpenFace's axes point right, down and away from the camera, so `pose_Rx` is positive for looking down,
`pose_Ry` for turning to the left of the picture (auscan's yaw with the other sign) and `pose_Rz` for a
clockwise roll. Its angles come from a 3D fit with the camera's focal length; auscan's are estimates from the
picture alone and differ from them away from the centre of the picture.

All other columns are empty: gaze, eyes, the position of the head, landmarks, shape and AUs that the model
does not detect. Without intensities `AU.._r` is empty, because a probability is not an intensity. The columns
are present because programs select OpenFace's columns by name or position.

Inputs: the data of a result.
Writes: NAME_openface.csv.
"""

from pathlib import Path
from typing import Final

import numpy as np

from auscan.results.exports.content import ExportData, stem, trained_aus
from auscan.results.exports.tabular import format_numbers, write_columns

INTENSITIES: Final[tuple[str, ...]] = tuple(
    f"{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)
"""AU numbers with an intensity column."""
PRESENCES: Final[tuple[str, ...]] = tuple(sorted((*INTENSITIES, "28")))
"""AU numbers with a presence column."""

POSE: Final[dict[str, tuple[str, int]]] = {
    "pose_Rx": ("pitch", 1),
    "pose_Ry": ("yaw", -1),
    "pose_Rz": ("roll", 1),
}
"""Column of the table and sign by column of OpenFace."""

_EYE, _FACE, _MODES = range(56), range(68), range(34)

COLUMNS: Final[tuple[str, ...]] = (
    *("frame", "face_id", "timestamp", "confidence", "success"),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y"),
    *(f"eye_lmk_{axis}_{i}" for axis in "xyXYZ" for i in _EYE),
    *(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"),
    *(f"{axis}_{i}" for axis in "xyXYZ" for i in _FACE),
    *("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"),
    *(f"p_{i}" for i in _MODES),
    *(f"AU{number}_r" for number in INTENSITIES),
    *(f"AU{number}_c" for number in PRESENCES),
)
"""The 714 columns of OpenFace, in the order of RecorderCSV.cpp of version 2.2."""


def write_openface(data: ExportData, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    table = data.table
    found = table["success"] == 1
    known = {
        "frame": [str(frame + 1) for frame in table["frame"].tolist()],
        "face_id": [str(face) for face in table["face_id"].where(found, 0).tolist()],
        "timestamp": format_numbers(table["timestamp"], 6),
        "confidence": format_numbers(table["confidence"], 3),
        "success": [str(success) for success in table["success"].tolist()],
    }
    for column, (name, sign) in POSE.items():
        known[column] = format_numbers(sign * np.radians(table[name]), 3)
    for name in trained_aus(data):
        if f"{name}_c" in COLUMNS:
            known[f"{name}_c"] = format_numbers(table[f"{name}_c"], 0)
        if f"{name}_r" in COLUMNS and f"{name}_r" in table:
            known[f"{name}_r"] = format_numbers(table[f"{name}_r"], 2)
    path = folder / f"{stem(data)}_openface.csv"
    write_columns(path, COLUMNS, known)
    return [path]
