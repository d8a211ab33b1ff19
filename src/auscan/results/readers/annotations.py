"""Read Aff-Wild2 annotation files: one line for each frame, twelve values a line, -1 for not annotated.

Line k after the header belongs to frame k, counted from 1, so no line may be left out: an invalid line
becomes a row of -1 and a warning.

Inputs: a text file.
Returns: labels int8 [N, A], and warnings.
See also: datasets/ (files of tracks, lists and templates of the test set).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError

NOT_ANNOTATED: Final[int] = -1
"""Label of an AU that was not annotated in a frame."""

FIRST_EDITION: Final[tuple[str, ...]] = ("AU01", "AU02", "AU04", "AU06", "AU12", "AU15", "AU20", "AU25")
"""The eight columns of edition 1; AU20 is left out."""

COLUMN_ORDERS: Final[dict[int, tuple[str, ...]]] = {
    len(AFFWILD2_AUS): AFFWILD2_AUS,
    len(FIRST_EDITION): FIRST_EDITION,
}
"""AUs of a file by its number of columns. Headers are not read, because their spelling varies."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels of one track."""

    labels: NDArray[np.int8]
    """[N, A] 1 active, 0 inactive, -1 not annotated; row k - 1 is frame k."""
    warnings: tuple[str, ...]
    """Problems found in the file, one sentence each."""


def read_annotations(path: Path) -> Annotations:
    """Read one annotation file, skipping its first line.

    Accepted are carriage returns, spaces at line ends, empty lines at the end, a missing last line end and
    `1.0` for `1`.  Raises InputError if there are no label lines.
    """
    header, *lines = _lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path} has no label lines. Unpack the annotations again.")
    column_order = _column_order(lines, path)
    # Labels change slowly: of thousands of lines few differ, and each is parsed once.
    parsed = {line: _parse(line, column_order) for line in set(lines)}
    labels = np.array([parsed[line].values for line in lines], np.int8)  # [N, A]
    return Annotations(labels, tuple(_warnings(header, lines, parsed, column_order)))


def label_value(text: str) -> int | None:
    """Return 1, 0 or -1 for `1`, `1.0`, ` -1 ` and so on; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0, 1, NOT_ANNOTATED) else None


@dataclass(frozen=True)
class _ParsedLine:
    values: tuple[int, ...]
    """[A] one label for each of AFFWILD2_AUS."""
    problem: str | None = None
    """Why the line is invalid, or None."""


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _fields(line: str) -> list[str]:
    """Return the fields of a line; a trailing comma does not start another field."""
    return [field.strip() for field in line.strip().removesuffix(",").split(",")]


def _column_order(lines: Iterable[str], path: Path) -> tuple[str, ...]:
    """Return the AUs of the columns, for the most frequent column count that is known."""
    count = Counter(len(_fields(line)) for line in lines)
    known = [columns for columns, _ in count.most_common() if columns in COLUMN_ORDERS]
    if not known:
        raise InputError(
            f"{path} has {count.most_common(1)[0][0]} columns, not {len(AFFWILD2_AUS)} (or "
            f"{len(FIRST_EDITION)} as in edition 1). Check that it is an AU annotation file."
        )
    return COLUMN_ORDERS[known[0]]


def _parse(line: str, column_order: Sequence[str]) -> _ParsedLine:
    fields = _fields(line)
    if len(fields) != len(column_order):
        problem = "empty" if not line.strip() else f"with other than {len(column_order)} columns"
        return _ParsedLine((NOT_ANNOTATED,) * len(AFFWILD2_AUS), problem)
    values = dict(zip(column_order, (label_value(field) for field in fields), strict=True))
    row = tuple(_label_or_missing(values.get(name)) for name in AFFWILD2_AUS)
    return _ParsedLine(row, "with a value other than 0, 1 or -1" if None in values.values() else None)


def _label_or_missing(value: int | None) -> int:
    return NOT_ANNOTATED if value is None else value


def _warnings(
    header: str, lines: Sequence[str], parsed: dict[str, _ParsedLine], column_order: Sequence[str]
) -> Iterable[str]:
    fields = _fields(header)
    if len(fields) == len(column_order) and all(label_value(field) is not None for field in fields):
        yield "its first line contains labels, but was skipped as the header"
    problems = Counter(parsed[line].problem for line in lines)
    for problem, count in sorted((t, n) for t, n in problems.items() if t is not None):
        first = next(k for k, line in enumerate(lines, start=1) if parsed[line].problem == problem)
        yield f"{count} label lines {problem}, the first for frame {first}: taken as not annotated"
    if len(column_order) != len(AFFWILD2_AUS):
        yield f"only {len(column_order)} columns, read as edition 1's {', '.join(column_order)}"
