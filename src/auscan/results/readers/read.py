"""Read codings from a file of any supported format.

    a folder, aus.parquet, aus.csv   a result of auscan
    .eaf                             ELAN
    .csv                             OpenFace or py-feat
    .txt                             Aff-Wild2: one line for each frame, twelve labels

Inputs: a path.
Returns: a coding for each face.
"""

from pathlib import Path

import numpy as np

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.read import open_result, result_folder
from auscan.results.readers.annotations import read_annotations
from auscan.results.readers.coding import Coding, FrameCoding
from auscan.results.readers.elan import read_elan
from auscan.results.readers.toolkits import is_openface, is_pyfeat, read_openface, read_pyfeat
from auscan.results.result import Result
from auscan.results.table import (
    BOX_COLUMNS,
    active_columns,
    by_face,
    frame_times_s,
    intensity_columns,
    value_column,
)

SUPPORTED_INPUTS = (
    "Give a folder that `auscan detect` wrote, an .eaf of ELAN, a CSV of OpenFace or py-feat, "
    "or a .txt of Aff-Wild2."
)


def read_codings(path: str | Path) -> list[Coding]:
    """Return a coding for each face.  Raises InputError if the format is unknown or there is no face."""
    path = Path(path)
    codings = _read_by_format(path)
    if not codings:
        raise InputError(f"{path} has no face.")
    return codings


def _read_by_format(path: Path) -> list[Coding]:
    if result_folder(path) is not None:
        return [*codings_from_result(open_result(path), path.resolve().name)]
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a result of auscan. {SUPPORTED_INPUTS}")
    kind = path.suffix.lower()
    if kind == ".eaf":
        return [*read_elan(path)]
    if kind == ".csv" and is_openface(path):
        return [*read_openface(path)]
    if kind == ".csv" and is_pyfeat(path):
        return [*read_pyfeat(path)]
    if kind == ".txt":
        return [_read_affwild2(path)]
    raise InputError(f"{path} is not a supported coding file. {SUPPORTED_INPUTS}")


def codings_from_result(result: Result, name: str) -> list[FrameCoding]:
    """Return a coding of all frames for each face; frames without the face or unscored are unknown."""
    table, au_names = result.table, result.info.au_names
    frames = table["frame"].drop_duplicates().to_numpy(np.int64)
    times_s = frame_times_s(table)
    columns = [value_column(table, au) for au in au_names]
    codings = []
    for face, rows in by_face(table):
        face_rows = rows.set_index("frame").reindex(frames)
        events = result.events[result.events["face_id"] == face]
        labels = face_rows[active_columns(au_names)].to_numpy(np.float32)
        intensities = None
        if set(intensity_columns(au_names)) <= set(table):
            values = face_rows[intensity_columns(au_names)].to_numpy(np.float32)
            intensities = np.where(np.isnan(labels), np.nan, values).astype(np.float32)
        codings.append(
            FrameCoding(
                name=name,
                face=face,
                au_names=au_names,
                frames=frames,
                times_s=times_s,
                labels=labels,
                probabilities=face_rows[columns].to_numpy(np.float32),
                intensities=intensities,
                events=events[["AU", "onset", "offset"]].reset_index(drop=True),
                boxes=face_rows[list(BOX_COLUMNS)].to_numpy(np.float32),
            )
        )
    return codings


def _read_affwild2(path: Path) -> FrameCoding:
    """Read an Aff-Wild2 annotation file as face 0, without times."""
    labels = read_annotations(path).labels
    return FrameCoding(
        name=path.name,
        face=0,
        au_names=AFFWILD2_AUS,
        frames=np.arange(len(labels), dtype=np.int64),
        times_s=None,
        labels=np.where(labels < 0, np.nan, labels).astype(np.float32),
    )
