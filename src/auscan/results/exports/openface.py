"""OpenFace's CSV: the header that its FeatureExtraction 2.x writes, column for column.

What auscan knows stands where OpenFace would put it: frame (from 1), face_id, timestamp, confidence, success
and the presences `AU.._c`. All other columns are there and empty: gaze, eyes, pose, landmarks, shape, AUs
that auscan does not read, and every intensity `AU.._r`, since a probability is none. They are there because
programs ask for all of OpenFace's columns by name or by place; they are empty because nothing is invented.
Pose is among them: OpenFace's angles are those of a 3D fit in the camera's world, ours are not. AU24, which
OpenFace does not read, is left out. A frame without a face has face_id 0 and success 0, as OpenFace writes
it.

In: a Result.  Out: NAME_openface.csv.
"""

from pathlib import Path
from typing import Final

from auscan.results.exports.content import stem, trained_aus
from auscan.results.exports.tabular import format_numbers, write_columns
from auscan.results.result import Result

INTENSITIES: Final[tuple[str, ...]] = tuple(
    f"{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)
"""AUs of which OpenFace gives an intensity."""
PRESENCES: Final[tuple[str, ...]] = tuple(sorted((*INTENSITIES, "28")))
"""AUs of which it says whether they are there."""

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
"""OpenFace's 714 columns, in the order of RecorderCSV.cpp of version 2.2."""


def write_openface(result: Result, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    table = result.table
    found = table["success"] == 1
    known = {
        "frame": [str(frame + 1) for frame in table["frame"].tolist()],
        "face_id": [str(face) for face in table["face_id"].where(found, 0).tolist()],
        "timestamp": format_numbers(table["timestamp"], 6),
        "confidence": format_numbers(table["confidence"], 3),
        "success": [str(success) for success in table["success"].tolist()],
    }
    for name in trained_aus(result):
        if f"{name}_c" in COLUMNS:
            known[f"{name}_c"] = format_numbers(table[f"{name}_c"], 0)
    path = folder / f"{stem(result)}_openface.csv"
    write_columns(path, COLUMNS, known)
    return [path]
