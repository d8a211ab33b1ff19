"""Convert a result folder to the data of the page: table columns, events, attributions, exports.

Numbers are sent as binary arrays, so the page shows the exact values of the table.

Inputs: a folder written by `auscan detect`. Returns: bytes, JSON, and files to download.
See also: results/table.py (columns), routes.py (routes).
"""

import base64
import json
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auscan.faces.align import crop_transform
from auscan.results.attributions import ATTRIBUTIONS_FILE, read_attributions
from auscan.results.events import NO_BASELINE, find_events
from auscan.results.read import read_result
from auscan.results.result import SUMMARY_FILE, Result
from auscan.results.table import BOX_COLUMNS, TABLE_FILE, active_columns, intensity_columns, value_column

MAX_ATTRIBUTION_FRAMES: Final[int] = 64
"""Largest number of frames in one response with attributions."""

_PAGE_COLUMNS: Final[dict[str, Any]] = {
    "timestamp": np.float64,
    "frame": np.int32,
    "face_id": np.int32,
    **dict.fromkeys(BOX_COLUMNS, np.float32),
}


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text("utf-8"))
    return summary


def table_for_page(folder: Path, baseline: str = NO_BASELINE) -> bytes:
    """Return the table as a line of JSON, {"rows", "columns": {name: type}, "reasons"}, and binary columns.

    Columns are little-endian, widest types first, and the line is padded to a multiple of 8 bytes, so that
    each column is aligned to its type. `reason` is an index into `reasons`. AU columns contain the values
    compared with the thresholds: probabilities, or probabilities relative to a baseline. `AU.._r` are the
    intensities, if the result has them.
    """
    result = _read(folder, baseline)
    table, au_names = result.table, result.info.au_names
    reasons, reason = np.unique(table["reason"].to_numpy(str), return_inverse=True)
    columns = {name: table[name].to_numpy(kind) for name, kind in _PAGE_COLUMNS.items()}
    columns |= {name: table[value_column(table, name)].to_numpy(np.float32) for name in au_names}
    columns |= {
        name: table[name].to_numpy(np.float32) for name in intensity_columns(au_names) if name in table
    }
    columns["reason"] = reason.astype(np.uint8)
    columns["judged"] = table[active_columns(au_names)].notna().any(axis=1).to_numpy(np.uint8)
    types = {name: column.dtype.name for name, column in columns.items()}
    head = json.dumps({"rows": len(table), "columns": types, "reasons": reasons.tolist()}).encode()
    line = head + b" " * (-(len(head) + 1) % 8) + b"\n"
    return b"".join([line, *(_little_endian(column).tobytes() for column in columns.values())])


def events_for_page(
    folder: Path, thresholds: Sequence[float] | None = None, baseline: str = NO_BASELINE
) -> str:
    """Return the events at thresholds [A], default those of the result, as a JSON list of objects."""
    result = _read(folder, baseline)
    events = find_events(result.table, tuple(thresholds or result.info.thresholds), speech=result.sound)
    return events.to_json(orient="records")


def export(folder: Path, format_name: str, out: Path, media_name: str, baseline: str = NO_BASELINE) -> Path:
    """Write a result to `out` in an export format; return the file, or a ZIP archive of several files.

    media_name: the user's file name of the video, which ELAN expects beside its file.
    """
    paths = _read(folder, baseline).export(to=format_name, folder=out, media=out / media_name)
    if len(paths) == 1:
        return paths[0]
    archive_path = out / f"{format_name}.zip"
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.relative_to(out))
    return archive_path


def attributions_for_page(folder: Path, first: int) -> list[dict[str, Any]]:
    """Return the attributions of each face in up to MAX_ATTRIBUTION_FRAMES frames from `first` on.

    `to_frame`: matrix [2, 3] from crop to frame pixels, row by row. Bytes: 255 means 1.
    """
    attributions = read_attributions(folder / ATTRIBUTIONS_FILE, range(first, first + MAX_ATTRIBUTION_FRAMES))
    return [
        {
            "frame": int(attributions.frames[row]),
            "face_id": int(attributions.face_ids[row]),
            "side": attributions.side,
            "to_frame": _inverse(crop_transform(attributions.points[row], attributions.side))
            .ravel()
            .tolist(),
            "patches": _encode_array(attributions.patch_bytes[row]),
            "attention": _encode_array(attributions.attention_bytes[row]),
            "gates": _encode_array(attributions.gate_bytes[row]),
            "audio_gate": int(attributions.audio_gate_bytes[row]),
        }
        for row in range(len(attributions))
    ]


def has_attributions(folder: Path) -> bool:
    """Return whether the result has an attributions file."""
    return (folder / ATTRIBUTIONS_FILE).exists()


def _read(folder: Path, baseline: str) -> Result:
    return _read_cached(folder, (folder / TABLE_FILE).stat().st_mtime_ns, baseline)


@lru_cache(maxsize=4)
def _read_cached(folder: Path, changed_ns: int, baseline: str) -> Result:
    stored = read_result(folder)
    return stored if baseline == stored.info.baseline else stored.with_baseline(baseline)


def _little_endian(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def _encode_array(values: NDArray[Any]) -> dict[str, str]:
    return {
        "type": values.dtype.name,
        "data": base64.b64encode(_little_endian(values).tobytes()).decode("ascii"),
    }


def _inverse(transform: NDArray[np.float32]) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.linalg.inv(np.vstack([transform.astype(np.float64), [0, 0, 1]]))
    return matrix[:2]
