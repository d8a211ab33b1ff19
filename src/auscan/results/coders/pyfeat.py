"""py-feat's Fex CSV: AUs as probabilities, frames from 0, no times.

An AU counts as active from 0.5 on. Faces are told apart by `Identity` where the file has it; without, a frame
with several faces cannot be read, since nobody knows which is which.

In: a CSV file.  Out: a coding a face.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.results.coders.coding import FrameCoding

ACTIVE_FROM = 0.5


def is_pyfeat(path: Path) -> bool:
    """Does this CSV file begin as py-feat's do?"""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        fields = {field.strip() for field in file.readline().split(",")}
    return {"frame", "FaceScore"} <= fields and any(name in fields for name in AU_NAMES)


def read_pyfeat(path: Path) -> list[FrameCoding]:
    """A coding for each face of the file.  Raises InputError where it is no such table."""
    try:
        table = pd.read_csv(path, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error
    table = table[table["FaceScore"].notna()]
    who = table["Identity"].astype(str) if "Identity" in table else pd.Series("", index=table.index)
    codings = []
    for face, (_, rows) in enumerate(table.groupby(who, sort=True)):
        rows = rows.sort_values("frame")
        if rows["frame"].duplicated().any():
            raise InputError(f"{path} has several faces in a frame and no Identity that tells them apart.")
        values = rows.reindex(columns=list(AU_NAMES)).to_numpy(np.float32)
        labels = np.where(np.isnan(values), np.nan, values >= ACTIVE_FROM).astype(np.float32)
        frames = rows["frame"].to_numpy(np.int64)
        codings.append(
            FrameCoding(
                name=path.name,
                face=face,
                frames=frames,
                times_s=None,
                labels=labels,
                values=values,
                scale="probability",
            )
        )
    return codings
