"""Read a stored result from its folder.

Inputs: a folder that `auscan detect` or `Result.save` wrote.
Returns: a Result.
See also: attributions.py (attributions are large and are read separately).
"""

import json
from pathlib import Path
from typing import Any

from auscan.core.aus import check_au_names
from auscan.core.errors import InputError
from auscan.results.events import SOUND_FILE, read_speech
from auscan.results.result import SUMMARY_FILE, Result, RunInfo
from auscan.results.table import TABLE_FILE, read_result_table


def read_result(folder: str | Path) -> Result:
    """Read the result in a folder: table, sound and run information; events are computed again.

    Its `tracks` are empty, because the five points are not stored, and its `attributions` are None.
    Raises InputError if the folder has no result, or files of different results.
    """
    folder = Path(folder)
    table = read_result_table(folder / TABLE_FILE)
    path = folder / SUMMARY_FILE
    try:
        info = _run_info(json.loads(path.read_text(encoding="utf-8")))
        sound = read_speech(folder / SOUND_FILE) if (folder / SOUND_FILE).exists() else None
        return Result(table, (), info, sound=sound)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not belong to the table beside it: {error!r}. "
            "Give a folder that `auscan detect` wrote."
        ) from error


def _run_info(summary: dict[str, Any]) -> RunInfo:
    source = summary["source"]  # becomes the name of exported files
    if not isinstance(source, str) or "\0" in source:
        raise ValueError(f"its source is {source!a}, not a file name")
    return RunInfo(
        source=source,
        duration_s=summary["duration_s"],
        frames=summary["frames"],
        has_audio=summary["modalities"]["audio"],
        seconds=summary["seconds"],
        model=summary["model"],
        reference=summary["reference"],
        operating_point=summary["operating_point"],
        au_names=check_au_names(summary["thresholds"]),
        thresholds=tuple(summary["thresholds"].values()),
        untrained_aus=tuple(summary["untaught"]),
        keep_all=summary["keep_all"],
        baseline=summary["baseline"],
        command=summary["command"],
        versions=summary["versions"],
        sound_offset_s=summary.get("sound_offset_s"),  # auscan 0.1 did not search for it
        warnings=tuple(summary["warnings"]),
    )
