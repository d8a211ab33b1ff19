"""Which formats there are, and writing a result in some of them.

    frames   openface, pyfeat, wide, jsonl
    events   elan, textgrid, bids

In: a Result and names of formats.  Out: files.
Not here: the formats themselves, one module each; what each holds: docs/exports.md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from auscan.core.errors import InputError
from auscan.results.exports.bids import write_bids
from auscan.results.exports.openface import write_openface
from auscan.results.exports.pyfeat import write_pyfeat
from auscan.results.exports.tabular import write_jsonl, write_wide
from auscan.results.exports.tiers import write_elan, write_textgrid
from auscan.results.result import Result

FORMATS: Final[tuple[str, ...]] = ("openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl")


def export_result(
    result: Result, formats: Sequence[str], folder: str | Path, media: Path | None = None
) -> list[Path]:
    """Write `result` in each of `formats` into `folder`, which is made if missing; return the files.

    media: where the input lies, for the link in ELAN's file.
    Raises InputError for a format that there is not, before anything is written.
    """
    writers: dict[str, Callable[[Result, Path], list[Path]]] = {
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
            raise InputError(f"{name!r} is no format of an export. Take {', '.join(FORMATS)}.")
    return [path for name in dict.fromkeys(formats) for path in writers[name](result, Path(folder))]
