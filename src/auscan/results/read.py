"""Read a stored result from its folder, and find its input.

Inputs: a folder that `auscan detect` or `Result.save` wrote, or a table in it.
Returns: a Result; the path of its input.
See also: attributions.py (attributions are large and are read separately).
"""

import json
from pathlib import Path
from typing import Any

from auscan.core.aus import check_au_names
from auscan.core.environment import is_plain_name
from auscan.core.errors import InputError
from auscan.results.events import SOUND_FILE, read_speech
from auscan.results.manifest import read_lines
from auscan.results.result import SUMMARY_FILE, Result
from auscan.results.run_info import RunInfo
from auscan.results.table import CSV_FILE, TABLE_FILE, read_result_table


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


TABLE_FILES = (TABLE_FILE, CSV_FILE)
"""Files that name a result, besides its folder."""


def result_folder(path: Path) -> Path | None:
    """Return the folder of the result at `path`, a folder or a table in one; None if there is no result."""
    folder = path if path.is_dir() else path.parent
    names_result = path.is_dir() or path.name in TABLE_FILES
    return folder if names_result and (folder / TABLE_FILE).is_file() else None


def open_result(path: str | Path) -> Result:
    """Read the result at `path`, a folder or a table in one.  Raises InputError if there is no result."""
    folder = result_folder(Path(path))
    if folder is None:
        raise InputError(
            f"{path} is not a result. Give the folder that `auscan detect` wrote, or the table in it."
        )
    return read_result(folder)


def find_media(path: str | Path, source: str) -> Path | None:
    """Return the path of the input of the result at `path`; None if it is not found.

    Searched are the paths in the manifest, then the folder of the result and the folder above.
    """
    folder = result_folder(Path(path))
    if folder is None:
        return None
    folder = folder.resolve()
    candidates = [folder / source, folder.parent / source] if is_plain_name(source) else []
    lines = [line for line in read_lines(folder.parent) if line.get("folder") == folder.name]
    candidates = [*(Path(line["path"]) for line in reversed(lines) if "path" in line), *candidates]
    return next(
        (candidate for candidate in candidates if candidate.name == source and candidate.exists()), None
    )
