"""Write a result as py-feat Fex CSV, with every column of its Detector 0.6 in the same order.

Filled columns: frame (from 0), face box and score, AU probabilities (the unit of py-feat, too), Identity
(`Person_0`), input and approx_time (minutes:seconds; a Fex has no other time). A frame without a face has
empty cells, as in py-feat.

All other columns are empty: landmarks, head pose, emotions, the face embedding and AUs that auscan does not
detect. Pose is empty because py-feat defines its angles differently. `feat.utils.io.read_feat` can read
the file.

Inputs: the data of a result.
Writes: NAME_pyfeat.csv.
"""

from pathlib import Path
from typing import Final

from auscan.results.exports.content import ExportData, stem, trained_aus
from auscan.results.exports.tabular import format_numbers, write_columns
from auscan.results.table import BOX_COLUMNS

BOX: Final = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
AUS: Final = tuple(
    f"AU{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
)
EMOTIONS: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

COLUMNS: Final[tuple[str, ...]] = (
    *(*BOX, "FaceScore"),
    *(f"{axis}_{i}" for axis in "xy" for i in range(68)),
    *("Pitch", "Roll", "Yaw"),
    *AUS,
    *EMOTIONS,
    *("Identity", *(f"Identity_{i}" for i in range(1, 513))),
    *("input", "frame", "approx_time"),
)
"""Columns of py-feat, in the order of its `detect_video`."""


def write_pyfeat(data: ExportData, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    table = data.table
    success = (table["success"] == 1).tolist()
    seconds = table["timestamp"].clip(lower=0).astype(int).tolist()
    known = {
        "frame": [str(frame) for frame in table["frame"].tolist()],
        **{name: format_numbers(table[column], 3) for name, column in zip(BOX, BOX_COLUMNS, strict=True)},
        "FaceScore": format_numbers(table["confidence"].where(table["success"] == 1), 6),
        **{name: format_numbers(table[name], 6) for name in trained_aus(data) if name in AUS},
        "Identity": [
            f"Person_{face}" if is_found else ""
            for face, is_found in zip(table["face_id"].tolist(), success, strict=True)
        ],
        "input": [data.info.source] * len(table),
        "approx_time": [f"{second // 60:02d}:{second % 60:02d}" for second in seconds],
    }
    path = folder / f"{stem(data)}_pyfeat.csv"
    write_columns(path, COLUMNS, known)
    return [path]
