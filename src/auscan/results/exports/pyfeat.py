"""py-feat's Fex CSV: the columns of its Detector 0.6, column for column.

What auscan knows stands where py-feat would put it: frame (from 0), the face's box and score, the
probabilities of eleven or twelve AUs, which are py-feat's unit too, Identity (`Person_0`), input and
approx_time (minutes:seconds; Fex has no other time). Landmarks, head pose, emotions, the face embedding and
the AUs that auscan does not read are there and empty. Pose is among them: py-feat's angles are of another
definition. A frame without a face has empty cells, as py-feat writes it. `feat.utils.io.read_feat` takes it.

In: a Result.  Out: NAME_pyfeat.csv.
"""

from pathlib import Path
from typing import Final

from auscan.results.exports.content import stem, trained_aus
from auscan.results.exports.tabular import format_numbers, write_columns
from auscan.results.result import Result
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
"""py-feat's columns in the order in which its `detect_video` puts them together."""


def write_pyfeat(result: Result, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    table = result.table
    success = (table["success"] == 1).tolist()
    seconds = table["timestamp"].clip(lower=0).astype(int).tolist()
    known = {
        "frame": [str(frame) for frame in table["frame"].tolist()],
        **{name: format_numbers(table[column], 3) for name, column in zip(BOX, BOX_COLUMNS, strict=True)},
        "FaceScore": format_numbers(table["confidence"].where(table["success"] == 1), 6),
        **{name: format_numbers(table[name], 6) for name in trained_aus(result)},
        "Identity": [
            f"Person_{face}" if is_found else ""
            for face, is_found in zip(table["face_id"].tolist(), success, strict=True)
        ],
        "input": [result.info.source] * len(table),
        "approx_time": [f"{second // 60:02d}:{second % 60:02d}" for second in seconds],
    }
    path = folder / f"{stem(result)}_pyfeat.csv"
    write_columns(path, COLUMNS, known)
    return [path]
