"""Write a result as tables: a wide CSV for SPSS and R, JSON Lines, and CSV with another program's columns.

The wide CSV has one row for each frame and a group of columns for each face:

    frame  time  f0_found  f0_conf  f0_qual  f0_au01 ... f0_au26  f0_au01c ... f0_au26c  f1_found ...

`f0_au12` is the probability, `f0_au12c` is 1 if the AU is active, and `f0_au12b` is the value above the
person baseline if the result has one. An empty cell is unknown. Names begin with a letter and
contain no dots or spaces, so SPSS and R accept them. A second file describes each variable.

JSON Lines have one line for each row of the table, as `auscan live` prints them; null is unknown.

Inputs: the data of a result.
Writes: NAME_wide.csv and NAME_wide_labels.csv, or NAME.jsonl.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import atomic_path
from auscan.results.exports.content import ExportData, face_ids, stem, trained_aus
from auscan.results.table import frame_times_s


def write_columns(path: Path, columns: Sequence[str], known: Mapping[str, Sequence[str]]) -> None:
    """Write a CSV file with `columns` in this order; columns that are not in `known` are empty.

    known: [R] cells by column name. Hundreds of empty columns cost one comma each here; in a DataFrame they
    would be slow and large.
    """
    unknown = [name for name in known if name not in columns]
    assert not unknown, unknown
    cells: list[Iterable[str]] = [known.get(name, repeat("")) for name in columns]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells, strict=False))  # repeat("") is endless


def format_numbers(values: "pd.Series[float]", decimals: int) -> list[str]:
    """Return each number as text with `decimals` decimals; NaN (unknown) becomes an empty cell."""
    array = values.to_numpy(np.float64)
    return ["" if value != value else f"{value:.{decimals}f}" for value in array.tolist()]


def write_wide(data: ExportData, folder: Path) -> list[Path]:
    """Write both files into `folder`; return their paths."""
    frames = data.table["frame"].drop_duplicates().to_numpy()
    columns: dict[str, object] = {"frame": frames, "time": frame_times_s(data.table)}
    labels = {
        "frame": "index of the decoded frame, from 0",
        "time": "seconds, presentation time in the video",
    }
    for face in face_ids(data):
        rows = data.table[data.table["face_id"] == face].set_index("frame").reindex(frames)
        columns[f"f{face}_found"] = rows["success"].notna().astype(int).to_numpy()
        labels[f"f{face}_found"] = f"Face {face}: 1 in frames where it was found"
        for name, (column, label) in _variables(data).items():
            values = rows[column].astype("Int8") if column.endswith("_c") else rows[column]  # 1, not 1.0
            columns[f"f{face}_{name}"] = values.array
            labels[f"f{face}_{name}"] = f"Face {face}: {label}"
    label_table = pd.DataFrame({"variable": list(labels), "label": list(labels.values())})
    paths = [folder / f"{stem(data)}_wide.csv", folder / f"{stem(data)}_wide_labels.csv"]
    for path, table in zip(paths, (pd.DataFrame(columns), label_table), strict=True):
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")
    return paths


def _variables(data: ExportData) -> dict[str, tuple[str, str]]:
    """Return the table column and the label of each variable of a face, by variable name."""
    kinds = {
        "": ("", "probability 0 to 1"),
        "c": ("_c", "1 active, 0 not"),
        "r": ("_r", "intensity 0 to 5"),
        "b": ("_b", "above the baseline"),
    }
    return {
        "conf": ("confidence", "confidence of the face detector, 0 to 1"),
        "qual": ("quality", "how well it can be read, 0 to 1"),
        **{
            f"{name.lower()}{end}": (f"{name}{tail}", f"{name} {ACTION_UNITS[name].meaning}, {meaning}")
            for end, (tail, meaning) in kinds.items()
            for name in trained_aus(data)
            if f"{name}{tail}" in data.table
        },
    }


DECIMALS = 6
"""Decimals of a number in JSON Lines."""


def write_jsonl(data: ExportData, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    path = folder / f"{stem(data)}.jsonl"
    names = list(data.table.columns)
    columns = [data.table[name].tolist() for name in names]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in zip(*columns, strict=True):
            line = dict(zip(names, map(_json_value, row), strict=True))
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return [path]


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else round(value, DECIMALS)
    return value
