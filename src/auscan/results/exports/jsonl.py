"""JSON Lines: a row of the table a line, as `auscan live` prints them; null is unknown.

In: a Result.  Out: NAME.jsonl.
"""

import json
from pathlib import Path

from auscan.results.atomic import atomic_path
from auscan.results.exports.content import stem
from auscan.results.result import Result

DECIMALS = 6


def write_jsonl(result: Result, folder: Path) -> list[Path]:
    """Write the file into `folder`; return its path."""
    path = folder / f"{stem(result)}.jsonl"
    names = list(result.table.columns)
    columns = [result.table[name].tolist() for name in names]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in zip(*columns, strict=True):
            line = dict(zip(names, map(_plain, row), strict=True))
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return [path]


def _plain(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else round(value, DECIMALS)
    return value
