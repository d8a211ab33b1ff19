"""Write submissions to the Aff-Wild2 challenge and check them against the organisers' template.

There are two kinds of template, distinguished by their first line:

    one file     the header `image_location,AU1,...,AU26`, then a row per frame, `track/00001.jpg`, followed
    by
                 nothing (edition 5) or by meaningless placeholder labels (edition 6 and later)
    per track    no header, a track name per line (editions 1 to 3), or `name,frames` if the number of frames
                 is given; the submission is then one file per track

Header and locations are kept unchanged, because a submission repeats them byte for byte. The check is strict
because only five submissions are allowed, the labels are hidden, and a file that is shifted by one row scores
badly without any error.

The number of frames differs between tools, so a track's scores may be a frame or two shorter or longer than
the template: the last prediction is then repeated, or surplus scores are cut. A larger difference indicates a
mistake and is refused.

Inputs: scores of every track (scores.py), the path of a template, a `Decision`.
Returns: one file in the order of the template, or a folder with a file per track; values 0 and 1, never -1.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS, au_columns, canonical_name
from auscan.core.environment import atomic_path, is_plain_name
from auscan.core.errors import InputError
from auscan.training.smoothing import final_scores
from auscan.training.thresholds import Decision

TRACK_HEADER: Final[str] = ",".join(f"AU{int(name[2:])}" for name in AFFWILD2_AUS)
"""First line of the file of one track."""
ALLOWED_DIFFERENCE: Final[int] = 2
"""Frames by which a track's scores may be shorter or longer than the template."""

_IMAGE_NAME = re.compile(r"(\d{5,})\.jpg")
_FIRST_COLUMN: Final[str] = "image_location"
_ROWS: Final[tuple[str, ...]] = tuple(
    ",".join(str(code >> place & 1) for place in reversed(range(len(AFFWILD2_AUS))))
    for code in range(2 ** len(AFFWILD2_AUS))
)
"""Text of each of the 4096 possible rows."""
_CODE_OF_ROW: Final[dict[str, int]] = {text: code for code, text in enumerate(_ROWS)}
_BIT_VALUES: Final[NDArray[np.int64]] = 2 ** np.arange(len(AFFWILD2_AUS) - 1, -1, -1)


@dataclass(frozen=True)
class FileTemplate:
    """Template of a single file with R rows."""

    header: str
    """First line, without its line ending."""
    locations: tuple[str, ...]
    """[R] text before the first comma."""
    tracks: tuple[str, ...]
    """[R] text before the last slash of the location."""
    frames: tuple[int, ...]
    """[R] number in the image's file name, from 1."""


@dataclass(frozen=True)
class TrackTemplate:
    """Template with one file per track, in order."""

    tracks: tuple[str, ...]
    frames: tuple[int | None, ...]
    """Number of rows of each track; None if the template does not state it."""


@dataclass(frozen=True)
class Submission:
    """Summary of a submission."""

    tracks: int
    rows: int
    active: dict[str, float]
    """Share of the rows in which each AU is 1."""


@dataclass(frozen=True)
class Repairs:
    """Numbers of rows that were filled in or cut to match the template."""

    repeated: int
    """Rows beyond the last score of their track, which they repeat."""
    cut: int
    """Scores beyond the last row of their track, which are left out."""
    without_face: int
    """Rows of frames without a detected face; their scores come from the frames around."""
    without_score: int
    """Rows of tracks that have no score of some AU at all; that AU is 0."""
    tracks_left_out: int
    """Tracks with scores that are not in the template."""
    aus_left_out: tuple[str, ...]
    """AUs with scores that a submission does not have."""


def write_submission(
    scores: pd.DataFrame,
    template: Path,
    out: Path,
    decision: Decision | None = None,
    allowed_difference: int = ALLOWED_DIFFERENCE,
) -> tuple[Submission, Repairs]:
    """Write the submission to `out`, a file or (per-track template) a new folder; returns its summary.

    `out` is created only if it passes `check_submission`.
    Raises InputError if the template or scores are invalid, the scores or the decision lack an AU of
    Aff-Wild2, a track has no scores, or the length of one differs by more than `allowed_difference` frames.
    """
    expected = read_template(template)
    scored = au_columns(scores.columns)
    scores = _select_aus(scores)
    decision = (decision or Decision(AFFWILD2_AUS)).for_aus(AFFWILD2_AUS)
    rows = _template_rows(expected, scores)
    repeated, cut = _check_lengths(rows, scores, allowed_difference, template)
    final = final_scores(scores, rows, decision.windows)
    lines = [_ROWS[code] for code in decision.predict(final.probabilities) @ _BIT_VALUES]
    if isinstance(expected, FileTemplate):
        with atomic_path(out) as temporary:
            rows_text = map(",".join, zip(expected.locations, lines, strict=True))
            _write_lines(temporary, expected.header, rows_text)
            submission = check_submission(temporary, template)
    else:
        with _atomic_folder(out) as folder:
            for track, of in rows.groupby("track", sort=False).indices.items():
                _write_lines(folder / f"{track}.txt", TRACK_HEADER, (lines[row] for row in of))
            submission = check_submission(folder, template)
    return submission, Repairs(
        repeated=repeated,
        cut=cut,
        without_face=int((~final.has_face).sum()),
        without_score=int(np.isnan(final.probabilities).any(axis=1).sum()),
        tracks_left_out=len(set(scores["track"]) - set(expected.tracks)),
        aus_left_out=tuple(name for name in scored if name not in AFFWILD2_AUS),
    )


def _select_aus(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with the AUs of Aff-Wild2 alone, in their order."""
    scored = au_columns(scores.columns)
    missing = [name for name in AFFWILD2_AUS if name not in scored]
    if missing:
        raise InputError(
            f"A submission needs the twelve AUs of Aff-Wild2, but the scores lack {', '.join(missing)}. "
            "Score the tracks with a network that has them."
        )
    others = [column for column in scores.columns if column not in scored]
    return scores[[*others, *AFFWILD2_AUS]]


def check_submission(path: Path, template: Path) -> Submission:
    """Read `path` and compare it with the template, byte by byte.

    Raises InputError with the file and line of the first fault: another header; a missing, surplus, repeated
    or misplaced row; a value other than 0 and 1; a space; CRLF; a missing final line ending; unchanged
    placeholder labels; a missing or surplus file of a track.
    """
    expected = read_template(template)
    if isinstance(expected, FileTemplate):
        return _check_file(path, expected, template)
    return _check_folder(path, expected)


def read_template(path: Path) -> FileTemplate | TrackTemplate:
    """Read a template of either kind.

    Raises InputError with the line if it is invalid: other columns, a location that is not track/number.jpg,
    a repeated location or track, no rows.
    """
    lines = _read_lines(path)
    template: FileTemplate | TrackTemplate
    if lines and lines[0].lstrip("\ufeff").split(",")[0].strip() == _FIRST_COLUMN:
        template = _read_file_template(lines, path)
    else:
        template = _read_track_template(lines, path)
    if not template.tracks:
        raise InputError(f"{path} has no rows. Give the template provided by the organisers.")
    return template


def _read_lines(path: Path) -> list[str]:
    """Return the lines without their endings (LF or CRLF) and without blank lines at the end of the file."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a template: {error}.") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read_file_template(lines: list[str], path: Path) -> FileTemplate:
    _check_header(lines[0], path)
    locations = [line.partition(",")[0] for line in lines[1:]]
    tracks, frames = [], []
    first_line: dict[tuple[str, int], int] = {}
    for number, location in enumerate(locations, start=2):
        track, _, image = location.rpartition("/")
        match = _IMAGE_NAME.fullmatch(image)
        if not track or match is None or int(match[1]) < 1:
            raise InputError(f"{path}, line {number}: {location!r} does not have the form track/00001.jpg.")
        key = (track, int(match[1]))
        if key in first_line:
            raise InputError(f"{path}, line {number}: {location} is already in line {first_line[key]}.")
        first_line[key] = number
        tracks.append(track)
        frames.append(int(match[1]))
    return FileTemplate(lines[0], tuple(locations), tuple(tracks), tuple(frames))


def _check_header(header: str, path: Path) -> None:
    try:
        names = [canonical_name(name) for name in header.split(",")[1:]]
    except InputError as error:
        raise InputError(f"{path}, line 1: {error}") from error
    if names != list(AFFWILD2_AUS):
        raise InputError(f"{path}, line 1: the columns should be {_FIRST_COLUMN},{TRACK_HEADER}.")


def _read_track_template(lines: list[str], path: Path) -> TrackTemplate:
    tracks: list[str] = []
    frames: list[int | None] = []
    for number, line in enumerate(lines, start=1):
        name, comma, expected = (part.strip() for part in line.partition(","))
        # The name becomes a file name, so it must not point outside the folder.
        if name.startswith(".") or not is_plain_name(name):
            raise InputError(
                f"{path}, line {number}: {line!r} is not a track. A template is either one file with the "
                f"header {_FIRST_COLUMN},{TRACK_HEADER} or a list with a track name or name,frames per line."
            )
        if comma and not re.fullmatch(r"0*[1-9]\d*", expected):
            raise InputError(f"{path}, line {number}: {expected!r} is not a number of frames.")
        if name in tracks:
            raise InputError(f"{path}, line {number}: track {name} is repeated.")
        tracks.append(name)
        frames.append(int(expected) if comma else None)
    return TrackTemplate(tuple(tracks), tuple(frames))


def _template_rows(template: FileTemplate | TrackTemplate, scores: pd.DataFrame) -> pd.DataFrame:
    """Return track and frame of every row to write. A track of unstated length is as long as its scores."""
    if isinstance(template, FileTemplate):
        return pd.DataFrame({"track": template.tracks, "frame": template.frames})
    last = scores.groupby("track")["frame"].max()
    stated = zip(template.tracks, template.frames, strict=True)
    lengths = [int(last.get(track, 1)) if frames is None else frames for track, frames in stated]
    return pd.DataFrame(
        {
            "track": np.repeat(np.asarray(template.tracks, dtype=object), lengths),
            "frame": np.concatenate([np.arange(1, length + 1) for length in lengths]),
        }
    )


def _check_lengths(rows: pd.DataFrame, scores: pd.DataFrame, allowed: int, template: Path) -> tuple[int, int]:
    """Return the numbers of frames that the scores lack and that they have in excess, over all tracks.

    Raises InputError if one track differs by more than `allowed`.
    """
    last, scored = rows.groupby("track")["frame"].max(), scores.groupby("track")["frame"].max()
    # Tracks without scores are dropped here; final_scores raises for them.
    short = (last - scored.reindex(last.index)).dropna().astype(np.int64)  # [tracks]
    wrong = short[short.abs() > allowed]
    if len(wrong):
        track = str(wrong.index[0])
        raise InputError(
            f"Track {track} ends at frame {last[track]} in {template} and at {scored[track]} in the scores, "
            f"and {len(wrong)} of {len(last)} tracks differ by more than {allowed} frames. Check that the "
            "scores belong to these videos; --allow-difference N accepts a difference of N frames."
        )
    return int(short.clip(lower=0).sum()), int((-short).clip(lower=0).sum())


def _check_file(path: Path, expected: FileTemplate, template: Path) -> Submission:
    raw = _read_bytes(path)
    if raw == template.read_bytes():
        raise InputError(
            f"{path} is the template itself, whose labels are placeholders. Submit predictions instead."
        )
    lines = _split_lines(raw, path)
    if lines[0] != expected.header:
        raise InputError(
            f"{path}, line 1: the header is {lines[0]!r}, but in the template {expected.header!r}."
        )
    rows = [line.partition(",") for line in lines[1:]]
    locations = tuple(location for location, _, _ in rows)
    if locations != expected.locations:
        raise InputError(f"{path}{_first_difference(locations, expected.locations)}")
    codes = [_parse_row(labels, path, number) for number, (_, _, labels) in enumerate(rows, start=2)]
    return _summarise(codes, len(set(expected.tracks)))


def _check_folder(path: Path, expected: TrackTemplate) -> Submission:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder. This template requires a folder with one file per track.")
    found = {file.name for file in path.iterdir()}
    required = {f"{track}.txt" for track in expected.tracks}
    for names, fault in ((required - found, "lacks"), (found - required, "should not contain")):
        if names:
            raise InputError(f"{path} {fault} {sorted(names)[0]} ({len(names)} in all).")
    codes = []
    for track, rows in zip(expected.tracks, expected.frames, strict=True):
        file = path / f"{track}.txt"
        lines = _split_lines(_read_bytes(file), file)
        if lines[0] != TRACK_HEADER:
            raise InputError(f"{file}, line 1: the header is {lines[0]!r}. It should be {TRACK_HEADER}.")
        if len(lines) == 1 or (rows is not None and len(lines) - 1 != rows):
            raise InputError(f"{file} has {len(lines) - 1} rows. It should have {rows or 'some'}.")
        codes += [_parse_row(labels, file, number) for number, labels in enumerate(lines[1:], start=2)]
    return _summarise(codes, len(expected.tracks))


def _first_difference(found: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """Describe the first difference between two lists of rows, as the end of a message."""
    twice = [location for location, number in Counter(found).items() if number > 1]
    if twice:
        return f": {twice[0]} is repeated ({len(twice)} such rows)."
    for number, (one, other) in enumerate(zip(found, expected, strict=False), start=2):
        if one != other:
            return f", line {number}: the row is {one!r}, but in the template {other!r}."
    return f" has {len(found)} rows, but the template has {len(expected)}."


def _parse_row(labels: str, path: Path, number: int) -> int:
    if labels not in _CODE_OF_ROW:
        raise InputError(
            f"{path}, line {number}: {labels!r} is not twelve values 0 or 1 separated by commas."
        )
    return _CODE_OF_ROW[labels]


def _summarise(codes: list[int], tracks: int) -> Submission:
    bits = np.asarray(codes)[:, None] // _BIT_VALUES % 2  # [R, A]
    return Submission(tracks, len(codes), dict(zip(AFFWILD2_AUS, bits.mean(axis=0).tolist(), strict=True)))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _split_lines(raw: bytes, path: Path) -> list[str]:
    """Return the lines of a file in which every line ends with a single LF."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.") from error
    if "\r" in text:
        number = text.partition("\r")[0].count("\n") + 1
        raise InputError(f"{path}, line {number}: the line contains a CR. End lines with LF.")
    if not text.endswith("\n"):
        raise InputError(f"{path} does not end with a line ending. It may be truncated; write it again.")
    return text.removesuffix("\n").split("\n")


def _write_lines(path: Path, header: str, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(header + "\n")
        file.writelines(line + "\n" for line in lines)


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path`, which must not exist, on success."""
    if path.exists():
        raise InputError(f"{path} already exists. Give a new folder, so that it contains no old files.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
