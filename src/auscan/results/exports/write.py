"""Write a result in the formats of other programs.

    frames   openface, pyfeat, wide, jsonl
    events   elan, textgrid, bids

Inputs: the data of a result and names of formats.
Writes: files.
See also: one module for each format, and docs/exports.md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from auscan.core.errors import InputError
from auscan.results.exports.bids import write_bids
from auscan.results.exports.content import ExportData
from auscan.results.exports.openface import write_openface
from auscan.results.exports.pyfeat import write_pyfeat
from auscan.results.exports.tabular import write_jsonl, write_wide
from auscan.results.exports.tiers import write_elan, write_textgrid

FORMATS: Final[tuple[str, ...]] = ("openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl")
"""Names of the formats."""


def export_result(data: ExportData, formats: Sequence[str], folder: Path, media: Path | None) -> list[Path]:
    """Write a result in each of `formats` into `folder`, which is created if missing; return the files.

    media: path of the input, for the link in the .eaf of ELAN.
    Raises InputError for an unknown format, before any file is written, and if an .eaf or TextGrid exists.
    """
    writers: dict[str, Callable[[ExportData, Path], list[Path]]] = {
        "openface": write_openface,
        "pyfeat": write_pyfeat,
        "elan": partial(write_elan, media=media),
        "textgrid": write_textgrid,
        "bids": write_bids,
        "wide": write_wide,
        "jsonl": write_jsonl,
    }
    for name in formats:
        if name not in writers:
            raise InputError(f"{name!r} is not an export format. Use one of {', '.join(FORMATS)}.")
    return [path for name in dict.fromkeys(formats) for path in writers[name](data, folder)]
