"""Open a stored result for export, and find its video.

Inputs: the folder or table that `auscan detect` wrote.
Returns: a Result, the path of its input, and values that several formats need.
See also: write.py (formats).
"""

from pathlib import Path

from auscan.core.environment import is_plain_name
from auscan.core.errors import InputError
from auscan.results.manifest import read_lines
from auscan.results.read import read_result
from auscan.results.result import Result
from auscan.results.table import CSV_FILE, TABLE_FILE, by_face, frame_durations_s, frame_times_s

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


def stem(result: Result) -> str:
    """Return the file name of the input without its suffix; exports are named after it."""
    return Path(result.info.source).stem


def trained_aus(result: Result) -> tuple[str, ...]:
    """Return the AUs that the model was trained on, in order."""
    return tuple(name for name in result.info.au_names if name not in result.info.untrained_aus)


def face_ids(result: Result) -> tuple[int, ...]:
    """Return the face_id of every face, in order."""
    return tuple(face for face, _ in by_face(result.table))


def end_s(result: Result) -> float:
    """Return the end of the last frame, seconds; 0 if there are no frames."""
    times_s = frame_times_s(result.table)
    return float(times_s[-1] + frame_durations_s(times_s)[-1]) if len(times_s) else 0.0
