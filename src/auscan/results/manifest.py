"""Read and append the manifest: one JSON line for each processed input.

    OUT/manifest.jsonl              of a run over all inputs
    OUT/manifest.2-of-8.jsonl       of the second of eight shards; shards share OUT but not a manifest

A line is written and synced after its result is in place, so every recorded result exists. Files are only
appended to; the last line of an input counts. An interrupted run may leave an incomplete last line, which is
ignored.

A manifest may come from another person, and its names become paths that a run replaces and deletes. So
`read_lines` checks every name before it is used, and raises InputError for a name that is not plain.

Inputs: records.
Returns: records, read back.
See also: batch/plan.py (inputs to process), result.py (results).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Final, Literal

from auscan.core.environment import PLAIN_NAME_RULE, is_plain_name
from auscan.core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: two runs into one folder are not protected there
    fcntl = None  # type: ignore[assignment]

MANIFESTS: Final[str] = "manifest*.jsonl"
"""Matches the manifests of all runs and shards in a folder."""


SHARED_FIELDS: Final = frozenset({"model", "model_sha256", "config", "versions", "host"})
"""Fields with few distinct values; records share one object for each value to save memory."""


MAX_VALUE_LENGTH: Final[int] = 100
"""Characters of a value that a message shows at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRecord:
    """One line of a manifest: an input, its state when it was read, its result, and the run that made it."""

    path: str
    """Path of the input, as given or found."""
    key: str
    """Stable identity of the input across runs (media/discover.py)."""
    status: Literal["done", "failed"]
    """Outcome."""
    rows: int = 0
    """Rows of the table."""
    seconds: float = 0.0
    """Processing time, seconds."""
    error_class: str | None = None
    """Class name of the error; None if it is done."""
    error: str | None = None
    """Message of the error; None if it is done."""
    warnings: Sequence[str] = field(default_factory=list)
    """Warnings of the run."""
    folder: str | None = None
    """Name of the result folder in OUT; None if there are no files."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Size in bytes of each file in the folder, by name."""
    sha256: str | None = None
    """SHA-256 of the input's content; None if it was not read."""
    size: int | None = None
    """Size of the input, bytes."""
    mtime_ns: int | None = None
    """Modification time of the input, ns."""
    model: str
    """Id of the checkpoint."""
    model_sha256: str
    """SHA-256 of the checkpoint."""
    config: Mapping[str, Any]
    """Options that change the output."""
    versions: Mapping[str, str]
    """Versions by package name."""
    host: str
    """Name of the machine."""
    ended: str
    """End of processing, UTC; sorts as text."""


def to_json_line(record: ManifestRecord) -> str:
    """Return the record as JSON without a newline; file names that are not UTF-8 are escaped."""
    text = json.dumps(asdict(record), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def append(manifest: Path, record: ManifestRecord) -> None:
    """Append a line and sync it to disk; atomic, even if several processes append to the same file.

    Raises OSError if it cannot be written.
    """
    with manifest.open("ab+") as file, _locked(file):
        line = to_json_line(record).encode() + b"\n"
        file.write(line if _ends_with_newline(file) else b"\n" + line)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Hold an exclusive lock on the file, so that no other process appends meanwhile."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks; shards have a manifest each
            fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file unlocks it


def _ends_with_newline(file: IO[bytes]) -> bool:
    """Return whether the file is empty or ends with a newline."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of all manifests in a folder; lines that are not JSON objects are skipped.

    Raises InputError for a manifest that cannot be read, and for a line with names that are unsafe as paths.
    """
    for manifest in sorted(out.glob(MANIFESTS)):
        with _open_manifest(manifest) as file:
            for number, line in enumerate(file, 1):
                content = _parse_line(line)
                if isinstance(content, dict):
                    _check_names(content, f"{manifest}, line {number}")
                    yield content


def _parse_line(line: str) -> object:
    """Return the content of a line; None if it is not JSON."""
    with suppress(ValueError, RecursionError):  # cut off, a number too long, nested too deep
        return json.loads(line)
    return None


def _check_names(line: Mapping[str, Any], location: str) -> None:
    """Raise InputError for a name that could lead out of its folder, or a value of the wrong type."""
    if not (line.get("folder") is None or is_plain_name(line["folder"])):
        raise _invalid_record(
            location, f"the folder {_format_value(line['folder'])} is not {PLAIN_NAME_RULE}"
        )
    is_older = "key" not in line  # of an older version; `read_records` skips it
    files = {} if is_older else line.get("files", {})
    if not isinstance(files, dict):
        raise _invalid_record(location, f"files is {_format_value(files)}, not an object of names and sizes")
    for name, size in files.items():
        if not is_plain_name(name):
            raise _invalid_record(location, f"the file {_format_value(name)} is not {PLAIN_NAME_RULE}")
        if not isinstance(size, int):
            raise _invalid_record(
                location,
                f"the size of the file {_format_value(name)} is {_format_value(size)}, not a number of bytes",
            )
    for name, (kind, expected) in _VALUE_TYPES.items():
        if name in line and not isinstance(line[name], kind) and (name == "path" or not is_older):
            raise _invalid_record(location, f"{name} is {_format_value(line[name])}, not {expected}")
    for name in ("path", "key"):
        if name in line and not _is_path(line[name]):
            raise _invalid_record(
                location, f"{name} is {_format_value(line[name])}, which cannot name a file"
            )


_VALUE_TYPES: Final = {
    **dict.fromkeys(("path", "key", "status", "model", "model_sha256", "host", "ended"), (str, "text")),
    **dict.fromkeys(("error_class", "error", "sha256"), (str | None, "text or null")),
    **dict.fromkeys(("size", "mtime_ns"), (int | None, "a whole number or null")),
    **dict.fromkeys(("config", "versions"), (dict, "an object")),
    "rows": (int, "a whole number"),
    "seconds": (int | float, "a number"),
    "warnings": (list, "a list"),
}
"""Types of the other values of a line, and their descriptions in messages."""


def _is_path(text: str) -> bool:
    """Return whether the text can be a path; bytes that are not UTF-8 appear as lone surrogates."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _format_value(value: object) -> str:
    """Return a value for a message: printable, on one line, and short."""
    text = ascii(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def _invalid_record(location: str, reason: str) -> InputError:
    return InputError(
        f"{location}: {reason}. auscan detect does not write such a line. "
        "Nothing was changed. Remove that line, or use another folder."
    )


def _open_manifest(manifest: Path) -> IO[str]:
    try:
        return manifest.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{manifest} cannot be read ({error.strerror}). Change its permissions.") from error


def read_records(out: Path) -> list[ManifestRecord]:
    """Return the records of all manifests in a folder, oldest first; lines without all fields are skipped.

    Raises InputError like `read_lines`.
    """
    known = {each.name for each in fields(ManifestRecord)}
    shared: dict[str, Any] = {}
    records = []
    for line in read_lines(out):
        for name in SHARED_FIELDS & line.keys():
            line[name] = shared.setdefault(repr(line[name]), line[name])
        try:
            records.append(ManifestRecord(**{name: value for name, value in line.items() if name in known}))
        except TypeError:  # a line of an older version, without a key
            continue
    return sorted(records, key=lambda record: record.ended)


def latest(records: Iterable[ManifestRecord]) -> dict[str, ManifestRecord]:
    """Return the last record of each input, by key.  records: oldest first."""
    return {record.key: record for record in records}


def folders(records: Iterable[ManifestRecord]) -> dict[str, str]:
    """Return the last folder of each input that had one, by key.  records: oldest first."""
    return {record.key: record.folder for record in records if record.folder is not None}


def has_same_content(known: ManifestRecord | None, record: ManifestRecord) -> bool:
    """Return whether both records are results of the same content."""
    return (
        known is not None
        and known.status == record.status == "done"
        and known.sha256 is not None
        and known.sha256 == record.sha256
    )


def is_same_failure(known: ManifestRecord, record: ManifestRecord) -> bool:
    """Return whether an input failed again in the same way; then no new line is needed."""
    comparable = [replace(each, seconds=0.0, host="", ended="") for each in (known, record)]
    return record.status == "failed" and comparable[0] == comparable[1]


def is_whole(out: Path, record: ManifestRecord) -> bool:
    """Return whether all files of a result exist with their recorded sizes."""
    folder = out / (record.folder or "")
    if not all(map(is_plain_name, record.files)):
        return False
    try:
        return bool(record.files) and all(
            (folder / name).stat().st_size == size for name, size in record.files.items()
        )
    except OSError:
        return False
