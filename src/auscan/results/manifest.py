"""What became of each input: one line of JSON each, in files that only ever grow.

    OUT/manifest.jsonl              of a run over all inputs
    OUT/manifest.2-of-8.jsonl       of the second of eight shards; shards share OUT, but no manifest

A line is written and synced when its result is in its place, so it never promises what is not there. The
last line on an input is the one that counts. A run may be killed while it writes: a line that is cut off is
no line.

A manifest may come from somebody else, and its names become paths that a run replaces and deletes. So
`read_lines` checks every name before it is used, and raises InputError for one that is not plain.

In: records.  Out: lines, and records again.
Not here: which inputs are to be done (batch/plan.py), the results (result.py).
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
except ImportError:  # Windows, where two runs into one folder are on their own
    fcntl = None  # type: ignore[assignment]

MANIFESTS: Final[str] = "manifest*.jsonl"
"""Matches the manifests of all runs and shards in a folder."""


SHARED_FIELDS: Final = frozenset({"model", "model_sha256", "config", "versions", "host"})
"""What thousands of lines have in common; in memory they share it."""


MAX_VALUE_LENGTH: Final[int] = 100
"""Characters of a value that a message shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRecord:
    """One line: an input, what it was when it was read, what was made of it, and by what."""

    path: str
    """As given or found."""
    key: str
    """What the input is known by from run to run (media/discover.py)."""
    status: Literal["done", "failed"]
    rows: int = 0
    seconds: float = 0.0
    error_class: str | None = None
    """Name of the class; None where it is done."""
    error: str | None = None
    warnings: Sequence[str] = field(default_factory=list)
    folder: str | None = None
    """Where the files are, below OUT; None where there are none."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file in the folder."""
    sha256: str | None = None
    """Of the input's content; None where it was not read."""
    size: int | None = None
    """Bytes of the input."""
    mtime_ns: int | None = None
    """When it was last changed."""
    model: str
    model_sha256: str
    config: Mapping[str, Any]
    """All options that change what is written."""
    versions: Mapping[str, str]
    host: str
    ended: str
    """When, in UTC; sorts as text."""


def to_json_line(record: ManifestRecord) -> str:
    """The record as a line of JSON, without its end.  File names that are no UTF-8 are escaped."""
    text = json.dumps(asdict(record), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def append(manifest: Path, record: ManifestRecord) -> None:
    """Put a line at the end and on the disk, in one piece even where others write to the same file.

    Raises OSError where it cannot be written.
    """
    with manifest.open("ab+") as file, _locked(file):
        line = to_json_line(record).encode() + b"\n"
        file.write(line if _ends_with_newline(file) else b"\n" + line)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Nobody else appends meanwhile, and the end of the file stays where it is."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks; shards do not share a manifest
            fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file unlocks it


def _ends_with_newline(file: IO[bytes]) -> bool:
    """Whether the last line, if there is one, was written to its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of all manifests in a folder, whatever they hold; what is no line is left out.

    Raises InputError for a manifest that may not be read, and for a line whose names cannot be used as paths.
    """
    for manifest in sorted(out.glob(MANIFESTS)):
        with _open_manifest(manifest) as file:
            for number, line in enumerate(file, 1):
                content = _parse_line(line)
                if isinstance(content, dict):
                    _check_names(content, f"{manifest}, line {number}")
                    yield content


def _parse_line(line: str) -> object:
    """The content of a line; None for one that is no JSON."""
    with suppress(ValueError, RecursionError):  # cut off, a number too long, nested too deep
        return json.loads(line)
    return None


def _check_names(line: Mapping[str, Any], location: str) -> None:
    """Raise InputError for a name that could lead out of its folder, or a value of another type."""
    if not (line.get("folder") is None or is_plain_name(line["folder"])):
        raise _invalid_record(
            location, f"the folder {_format_value(line['folder'])} is not {PLAIN_NAME_RULE}"
        )
    is_older = "key" not in line  # left out by `read_records`
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
"""Types of the other values of a line, and their names in messages."""


def _is_path(text: str) -> bool:
    """Whether the system can be asked for a path; bytes that are no UTF-8 come as lone surrogates."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _format_value(value: object) -> str:
    """A value for a message: printable, in one line and short, as a line may hold anything."""
    text = ascii(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def _invalid_record(location: str, reason: str) -> InputError:
    return InputError(
        f"{location}: {reason}. auscan detect does not write such a line. "
        "Nothing was touched. Remove that line, or use another folder."
    )


def _open_manifest(manifest: Path) -> IO[str]:
    try:
        return manifest.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{manifest} cannot be read ({error.strerror}). Change its permissions.") from error


def read_records(out: Path) -> list[ManifestRecord]:
    """The records of all manifests in a folder, the oldest first; lines of another make are left out.

    Raises InputError as `read_lines`.
    """
    known = {each.name for each in fields(ManifestRecord)}
    shared: dict[str, Any] = {}
    records = []
    for line in read_lines(out):
        for name in SHARED_FIELDS & line.keys():
            line[name] = shared.setdefault(repr(line[name]), line[name])
        try:
            records.append(ManifestRecord(**{name: value for name, value in line.items() if name in known}))
        except TypeError:  # of a manifest before there were keys
            continue
    return sorted(records, key=lambda record: record.ended)


def latest(records: Iterable[ManifestRecord]) -> dict[str, ManifestRecord]:
    """The last record of each input, by key.  records: the oldest first."""
    return {record.key: record for record in records}


def folders(records: Iterable[ManifestRecord]) -> dict[str, str]:
    """The folder of each input that ever had one, by key.  records: the oldest first."""
    return {record.key: record.folder for record in records if record.folder is not None}


def has_same_content(known: ManifestRecord | None, record: ManifestRecord) -> bool:
    """Whether a known result is of the content that was just read."""
    return (
        known is not None
        and known.status == record.status == "done"
        and known.sha256 is not None
        and known.sha256 == record.sha256
    )


def is_same_failure(known: ManifestRecord, record: ManifestRecord) -> bool:
    """Whether an input failed once more in just the same way, so that there is nothing to add."""
    comparable = [replace(each, seconds=0.0, host="", ended="") for each in (known, record)]
    return record.status == "failed" and comparable[0] == comparable[1]


def is_whole(out: Path, record: ManifestRecord) -> bool:
    """Whether the files of a result are there, in the size they had."""
    folder = out / (record.folder or "")
    if not all(map(is_plain_name, record.files)):
        return False
    try:
        return bool(record.files) and all(
            (folder / name).stat().st_size == size for name, size in record.files.items()
        )
    except OSError:
        return False
