"""Write and read the index of a data set, two tables with a row per frame and a row per track.

    frames.parquet   track, split, source_video, frame, image, has_image, timestamp, the AUs of the data set
                     (AU01, ...); AU01_covered, ... if the data set has covers.parquet
    tracks.parquet   files, counts, rates and warnings of each track
    report.md, report.json                                              (written by prepare.py)

Extraction, training, evaluation and submission read only the index, so they do not depend on the data set.
Each row of the labels or of the template is kept, with or without a picture.

Inputs: tracks.  Returns: the two tables.
See also: affwild2.py, disfa.py, bp4d.py, openface.py, own_labels.py (tracks), report.py (report).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS, check_au_names
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.datasets.clock import FrameClock
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.results.table import intensity_columns

FORMAT_NUMBER: Final[int] = 1
"""Format number of the index; increased if older indexes can no longer be read."""

METADATA_KEY: Final[bytes] = b"auscan"
"""Key of the metadata in the footers of both tables."""

_TEXT = pa.dictionary(pa.int32(), pa.string())


def frame_schema(au_names: Sequence[str]) -> Any:
    """Return the schema of frames.parquet for a data set with these AUs.

    frame: number in the video, from 1.  image: path below the data set's folder, null without a picture.
    timestamp: seconds on the clock of the video and its sound.  AUs: 1 active, 0 inactive, -1 not annotated.
    """
    return pa.schema(
        [
            ("track", _TEXT),
            ("split", _TEXT),
            ("source_video", _TEXT),
            ("frame", pa.int32()),
            ("image", pa.string()),
            ("has_image", pa.bool_()),
            ("timestamp", pa.float64()),
            *((name, pa.int8()) for name in au_names),
        ]
    )


FRAME_SCHEMA: Final = frame_schema(AFFWILD2_AUS)
"""Schema of frames.parquet for the AUs of Aff-Wild2."""


def cover_columns(au_names: Sequence[str]) -> list[str]:
    """Return optional columns of frames.parquet: 1 the AU's region is covered, 0 visible, -1 unknown."""
    return [f"{name}_covered" for name in au_names]


TRACK_SCHEMA: Final = pa.schema(
    [
        ("track", pa.string()),
        ("split", pa.string()),
        ("source_video", pa.string()),
        ("video", pa.string()),
        ("face", pa.string()),
        ("has_audio", pa.bool_()),
        ("image_folder", pa.string()),
        ("labels", pa.string()),
        ("coder", pa.string()),
        ("rows", pa.int64()),
        ("rows_labelled", pa.int64()),
        ("rows_partly_labelled", pa.int64()),
        ("rows_without_image", pa.int64()),
        ("rows_labelled_without_image", pa.int64()),
        ("images_beyond", pa.int64()),
        ("frames_decoded", pa.int64()),
        ("surplus", pa.int64()),
        ("rate_hz", pa.float64()),
        ("named_rate_hz", pa.float64()),
        ("is_uneven", pa.bool_()),
        ("time_source", pa.string()),
        ("start_s", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("positives", pa.list_(pa.int64())),
        ("annotated", pa.list_(pa.int64())),
        ("warnings", pa.list_(pa.string())),
    ]
)
"""Columns of tracks.parquet.

Paths are relative to the data set's folder.  video: file with the picture and the sound.  face: `Track.face`.
coder: who coded, if known.  rows_labelled: rows with labels of all AUs that the data set codes.
frames_decoded: frames of the video.  surplus: last row number minus frames_decoded.  Both are null without a
readable video.  positives, annotated: counts for each AU.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One face of one video over time: N rows, A action units.

    Raises ValueError if the arrays differ in length.
    """

    name: str
    """Name of the track."""
    split: str
    """train, val, test, or the name of a fold if the data set has folds."""
    source_video: str
    """Name of the recording; tracks of one recording must share a fold."""
    numbers: NDArray[np.int64]
    """Frame numbers [N] in the video, from 1."""
    labels: NDArray[np.int8]
    """Labels [N, A]: 1 active, 0 inactive, -1 not annotated."""
    images: Sequence[str | None]
    """Picture paths [N] below the data set's folder; None without a picture."""
    times_s: NDArray[np.float64]
    """Frame times [N] on the video's clock, seconds."""
    clock: FrameClock
    """Clock of the video."""
    video: str | None = None
    """Video file below the data set's folder."""
    image_folder: str | None = None
    """Picture folder below the data set's folder."""
    label_file: str | None = None
    """Label file or folder below the data set's folder."""
    named_rate_hz: float | None = None
    """Frame rate in the track's name."""
    images_beyond: int = 0
    """Number of pictures whose frame number has no row."""
    au_names: tuple[str, ...] = AFFWILD2_AUS
    """AUs of the columns of labels and covers."""
    coded: tuple[str, ...] = AFFWILD2_AUS
    """AUs that the data set codes."""
    coder: str | None = None
    """Who coded, if known."""
    face: str | None = None
    """Face of a track without pictures: 'largest' in each frame, or its face_id in `auscan detect`. None: the
    pictures show it."""
    covers: NDArray[np.int8] | None = None
    """Covers [N, A] of the AUs' regions: 1 covered, 0 visible, -1 unknown; None: all unknown."""
    intensities: NDArray[np.float32] | None = None
    """Intensities [N, A] from 0 to 5, NaN unknown; None: the data set has none."""
    warnings: tuple[str, ...] = ()
    """Warnings about the track's files."""

    def __post_init__(self) -> None:
        count = len(self.numbers)
        of_aus = [each for each in (self.labels, self.covers, self.intensities) if each is not None]
        shapes = (*(each.shape for each in of_aus), (len(self.images),), self.times_s.shape)
        expected = (*[(count, len(self.au_names))] * len(of_aus), (count,), (count,))
        if shapes != expected:
            raise ValueError(
                f"Track {self.name} has {count} numbers and {len(self.au_names)} AUs, but labels, covers, "
                f"intensities, images and times of shapes {shapes}."
            )


class IndexWriter:
    """Writer of an index; tracks are written one by one and not kept in memory."""

    def __init__(self, frames: Any, au_names: tuple[str, ...], covers: bool, intensities: bool) -> None:
        """Write rows to the ParquetWriter `frames`; see open_index_writer."""
        self._frames, self._au_names = frames, au_names
        self._covers, self._intensities = covers, intensities
        self._digest = hashlib.sha256()
        self.rows: list[dict[str, Any]] = []
        """Rows of tracks.parquet, one per track."""

    def add(self, track: Track) -> None:
        """Write the rows of a track as one row group.  Raises ValueError for a track with other AUs."""
        if track.au_names != self._au_names:
            raise ValueError(f"Track {track.name} has {track.au_names}, but the index {self._au_names}.")
        table = _frame_table(track)
        if self._covers:
            table = _with_columns(
                table, track.covers, cover_columns(track.au_names), NOT_ANNOTATED, pa.int8()
            )
        if self._intensities:
            names = intensity_columns(track.au_names)
            table = _with_columns(table, track.intensities, names, np.nan, pa.float32())
        self._frames.write_table(table, row_group_size=max(1, table.num_rows))
        self._digest.update(track.labels.tobytes() + track.times_s.tobytes() + track.name.encode())
        for optional in (track.covers, track.intensities):
            if optional is not None:
                self._digest.update(optional.tobytes())
        self.rows.append(_track_row(track))

    @property
    def digest(self) -> str:
        """Digest of all names, labels, covers and times, equal in both tables of one index."""
        return self._digest.hexdigest()[:16]


@contextmanager
def open_index_writer(
    folder: Path,
    metadata: dict[str, Any],
    covers: bool = False,
    au_names: tuple[str, ...] = AFFWILD2_AUS,
    intensities: bool = False,
) -> Iterator[IndexWriter]:
    """Yield a writer of an index in `folder`; store `metadata` in the footer of both tables.

    covers, intensities: whether frames.parquet has these columns.  au_names: AUs of the data set.
    Both files are renamed into place after the last row, so an existing index stays valid until then.
    """
    with ExitStack() as stack:
        frames_path = stack.enter_context(atomic_path(folder / "frames.parquet"))
        tracks_path = stack.enter_context(atomic_path(folder / "tracks.parquet"))
        optional = [(name, pa.int8()) for name in cover_columns(au_names) if covers]
        optional += [(name, pa.float32()) for name in intensity_columns(au_names) if intensities]
        schema = pa.schema([*frame_schema(check_au_names(au_names)), *optional])
        with pq.ParquetWriter(frames_path, schema, compression="zstd") as frames:
            writer = IndexWriter(frames, au_names, covers, intensities)
            yield writer
            metadata = {
                "format_number": FORMAT_NUMBER,
                "au_names": au_names,
                **metadata,
                "digest": writer.digest,
            }
            footer = json.dumps(metadata)
            frames.add_key_value_metadata({METADATA_KEY: footer.encode()})
        tracks = pa.Table.from_pylist(writer.rows, schema=TRACK_SCHEMA)
        pq.write_table(
            tracks.replace_schema_metadata({METADATA_KEY: footer}), tracks_path, compression="zstd"
        )


@dataclass(frozen=True, eq=False)
class Index:
    """Index of a data set."""

    root: Path
    """Folder of the data set, to which the paths in both tables are relative."""
    frames: pd.DataFrame
    """Table with the columns of FRAME_SCHEMA, a row per frame."""
    tracks: pd.DataFrame
    """Table with the columns of TRACK_SCHEMA, a row per track."""
    metadata: dict[str, Any]
    """Format number, AU names, data set, root, auscan's version and digest."""

    @property
    def au_names(self) -> tuple[str, ...]:
        """AUs of the data set, in the order of the columns."""
        return tuple(self.metadata["au_names"])


def read_index(folder: Path, root: Path | None = None) -> Index:
    """Read an index.

    root: current folder of the data set, if it has moved.
    Raises InputError if the index is missing or damaged, its tables are from different runs, or its format
    number is not supported.
    """
    frames, metadata = _read(folder / "frames.parquet")
    tracks, other = _read(folder / "tracks.parquet")
    if metadata != other:
        raise InputError(f"The tables in {folder} are from two different runs. Run auscan prepare again.")
    if metadata["format_number"] != FORMAT_NUMBER:
        raise InputError(f"{folder} was written by another version of auscan. Run auscan prepare again.")
    return Index(root or Path(metadata["root"]), frames, tracks, metadata)


def write_index(folder: Path, index: Index) -> None:
    """Write a changed index, such as one with other splits."""
    footer = json.dumps({**index.metadata, "root": str(index.root)}).encode()
    for name, table in (("frames", index.frames), ("tracks", index.tracks)):
        stored = pa.Table.from_pandas(table, preserve_index=False)
        with atomic_path(folder / f"{name}.parquet") as path:
            pq.write_table(stored.replace_schema_metadata({METADATA_KEY: footer}), path, compression="zstd")


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table and the metadata in its footer."""
    hint = f"Create an index: auscan prepare ROOT --out {path.parent}"
    try:
        with pq.ParquetFile(path) as file:
            # The digest is known only after the last row, so it is in the footer, not in the schema.
            footer = (file.metadata.metadata or {}).get(METADATA_KEY)
            table = file.read().to_pandas()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. {hint}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). {hint}") from error
    if footer is None:
        raise InputError(f"{path} was not written by auscan prepare. {hint}")
    metadata: dict[str, Any] = json.loads(footer)
    return table, metadata


def _frame_table(track: Track) -> Any:
    count = len(track.numbers)

    def constant_column(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))

    columns = [
        *(constant_column(track.name), constant_column(track.split), constant_column(track.source_video)),
        pa.array(track.numbers.astype(np.int32)),
        pa.array(track.images, pa.string()),
        pa.array([image is not None for image in track.images], pa.bool_()),
        pa.array(track.times_s),
        *(pa.array(np.ascontiguousarray(column)) for column in track.labels.T),
    ]
    return pa.Table.from_arrays(columns, schema=frame_schema(track.au_names))


def _with_columns(
    table: Any, values: NDArray[Any] | None, names: Sequence[str], unknown: float, kind: Any
) -> Any:
    """Return the table with values [N, A] appended as columns of a type; None: all unknown."""
    if values is None:
        values = np.full((table.num_rows, len(names)), unknown)
    for name, column in zip(names, values.T, strict=True):
        table = table.append_column(
            name, pa.array(np.ascontiguousarray(column).astype(kind.to_pandas_dtype()))
        )
    return table


def _track_row(track: Track) -> dict[str, Any]:
    known = track.labels != NOT_ANNOTATED  # [N, A]
    coded = known[:, [name in track.coded for name in track.au_names]]  # [N, coded AUs]
    complete = coded.all(axis=1)
    missing_image = np.array([image is None for image in track.images], bool)
    info = track.clock.info
    return {
        "track": track.name,
        "split": track.split,
        "source_video": track.source_video,
        "video": track.video,
        "face": track.face,
        "has_audio": bool(info and info.has_audio),
        "image_folder": track.image_folder,
        "labels": track.label_file,
        "coder": track.coder,
        "rows": len(track.numbers),
        "rows_labelled": int(complete.sum()),
        "rows_partly_labelled": int((coded.any(axis=1) & ~complete).sum()),
        "rows_without_image": int(missing_image.sum()),
        "rows_labelled_without_image": int((complete & missing_image).sum()),
        "images_beyond": track.images_beyond,
        "frames_decoded": len(track.clock.times_s) or None,
        "surplus": track.clock.surplus(track.numbers),
        "rate_hz": track.clock.rate_hz,
        "named_rate_hz": track.named_rate_hz,
        "is_uneven": track.clock.is_uneven,
        "time_source": track.clock.source,
        "start_s": float(track.times_s[0]) if len(track.times_s) else None,
        "width": info.width if info else None,
        "height": info.height if info else None,
        "positives": (track.labels == 1).sum(axis=0).tolist(),
        "annotated": known.sum(axis=0).tolist(),
        "warnings": list(track.warnings),
    }
