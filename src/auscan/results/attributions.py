"""Store attributions in evidence.parquet: attention maps, patch weights and gates of each face and frame.

For each AU: the attention of its query over patches, and its local gate. For each frame: the weight of each
patch (0 if it was not selected) and the audio gate. docs/evidence.md describes what these numbers mean.

Two hours of one face are 180,000 rows of 650 numbers, so each number is stored as a byte, 255 for 1. Rows are
written when a face's track ends: by face, and by frame within it. Reading sorts them like the table.

Inputs: attributions of the visual encoder and the fusion (inference/engine.py).
Writes: evidence.parquet; reading returns numbers in 0..1.
See also: figures/heat.py (drawing), table.py (the table).
"""

import json
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import fastparquet
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import check_au_names
from auscan.core.environment import atomic_path, chunk_slices
from auscan.core.errors import InputError

ATTRIBUTIONS_FILE: Final[str] = "evidence.parquet"
"""File name in the folder of a result."""
METADATA_KEY: Final[str] = "auscan evidence"
"""Key of the JSON in the Parquet metadata."""
ROW_GROUP_SIZE: Final[int] = 4096
"""Least number of rows of a row group, except for the last one."""

UNITS: Final[dict[str, str]] = {
    "frame": "index of the decoded frame, from 0, as in the table",
    "face_id": "as in the table",
    "points": "x, y of the five points the crop was cut by, pixels of the upright frame; 10 float32",
    "patches": "weight of each patch of the crop, row by row, a byte each, 255 is 1; 0: not selected",
    "attention": "attention of each AU over patches, AU after AU, a byte each, 255 is 1",
    "gates": "weight of the local feature of each AU, a byte each, 255 is 1",
    "audio_gate": "weight of the audio in the frame, 255 is 1; 0: no audio within reach",
}
"""Description of each column, in order; written into the Parquet metadata."""
_BYTE_COLUMNS: Final[tuple[str, ...]] = ("points", "patches", "attention", "gates")
"""Columns whose cells are bytes."""


@dataclass(frozen=True, eq=False)
class Attributions:
    """Attributions of R rows, one for each face and frame, as bytes; properties return numbers in 0..1.

    N patches, A AUs.
    """

    side: int
    """Side S of the aligned crop, px; the patches divide it evenly."""
    au_names: tuple[str, ...]
    """[A] AUs of the attention and of the gates."""
    frames: NDArray[np.int64]
    """[R] frame index."""
    face_ids: NDArray[np.int64]
    """[R] face_id of the table."""
    points: NDArray[np.float32]
    """[R, 5, 2] px of the frame: the points that aligned the crop; those of `TrackScores` are refined."""
    patch_bytes: NDArray[np.uint8]
    """[R, N] `patches` as bytes."""
    attention_bytes: NDArray[np.uint8]
    """[R, A, N] `attention` as bytes."""
    gate_bytes: NDArray[np.uint8]
    """[R, A] `gates` as bytes."""
    audio_gate_bytes: NDArray[np.uint8]
    """[R] `audio_gate` as bytes."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def patches(self) -> NDArray[np.float32]:
        """Weight of each patch, [R, N], row by row of the crop; exactly 0 if the patch was not selected."""
        return _from_bytes(self.patch_bytes)

    @property
    def attention(self) -> NDArray[np.float32]:
        """Attention of each AU's query over patches, [R, A, N]; sums to 1 except for rounding."""
        return _from_bytes(self.attention_bytes)

    @property
    def gates(self) -> NDArray[np.float32]:
        """Local gate of each AU, [R, A]: weight of its local feature beside the global feature."""
        return _from_bytes(self.gate_bytes)

    @property
    def audio_gate(self) -> NDArray[np.float32]:
        """Audio gate of the frame, [R]: weight of the audio; exactly 0 if no audio is in reach."""
        return _from_bytes(self.audio_gate_bytes)

    def rows(self, index: Any) -> "Attributions":
        """Return the rows of an index, a slice or a mask."""
        return Attributions(self.side, self.au_names, *(array[index] for array in self.arrays()))

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the arrays in the order of the columns."""
        return (
            *(self.frames, self.face_ids, self.points),
            *(self.patch_bytes, self.attention_bytes, self.gate_bytes, self.audio_gate_bytes),
        )


def to_bytes(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return numbers in 0..1 as bytes, 255 for 1; the error is at most 1/510."""
    stored: NDArray[np.uint8] = np.rint(shares * 255.0).astype(np.uint8)
    return stored


def to_nonzero_bytes(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return numbers in 0..1 as bytes, at least 1 for numbers above 0; the error is at most 1/255."""
    return np.maximum(to_bytes(shares), shares > 0)


def _from_bytes(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    return stored.astype(np.float32) / np.float32(255)


def concatenate(pieces: Sequence[Attributions], side: int, au_names: tuple[str, ...]) -> Attributions:
    """Join pieces, sorted by frame and face_id."""
    if not pieces:
        return _empty(side, au_names)
    arrays = zip(*(piece.arrays() for piece in pieces), strict=True)
    joined = Attributions(side, au_names, *(np.concatenate(each) for each in arrays))
    return joined.rows(np.lexsort((joined.face_ids, joined.frames)))


def _empty(side: int, au_names: tuple[str, ...]) -> Attributions:
    """Return attributions without rows (N = 0)."""
    numbers, points = np.empty(0, np.int64), np.empty((0, 5, 2), np.float32)
    shapes = (0, 0), (0, len(au_names), 0), (0, len(au_names)), (0,)
    patches, attention, gates, audio_gate = (np.empty(shape, np.uint8) for shape in shapes)
    return Attributions(side, au_names, numbers, numbers, points, patches, attention, gates, audio_gate)


class AttributionsWriter:
    """Writer of evidence.parquet, piece by piece; no file is left if the `with` block raises."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        """metadata: see `attributions_metadata`."""
        self._path, self._metadata = path, {**metadata, "units": UNITS}
        self._files = ExitStack()
        self._pending: list[pd.DataFrame] = []

    def __enter__(self) -> Self:
        self._temporary = self._files.enter_context(atomic_path(self._path))
        custom_metadata = {METADATA_KEY: json.dumps(self._metadata)}
        self._append(_to_table(_empty(0, ())), append=False, custom_metadata=custom_metadata)
        return self

    def write(self, piece: Attributions) -> None:
        """Add rows; short tracks are collected until they fill a row group."""
        for chunk in chunk_slices(len(piece), ROW_GROUP_SIZE):
            self._pending.append(_to_table(piece.rows(chunk)))
            if sum(map(len, self._pending)) >= ROW_GROUP_SIZE:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._append(pd.concat(self._pending), append=True)
            self._pending.clear()

    def _append(self, rows: pd.DataFrame, **options: Any) -> None:
        fastparquet.write(
            str(self._temporary),
            rows,
            row_group_offsets=len(rows) or None,
            compression="ZSTD",
            has_nulls=False,
            write_index=False,
            object_encoding=dict.fromkeys(_BYTE_COLUMNS, "bytes"),
            stats=["frame"],
            **options,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._files.__exit__(kind, error, trace)


def attributions_metadata(
    source: str, model: str, side: int, au_names: tuple[str, ...], version: str
) -> dict[str, Any]:
    """Return the metadata of an evidence.parquet.

    source: name of the input    model: id of the checkpoint    side: S    version: version of auscan
    """
    return {
        "auscan": version,
        "source": source,
        "model": model,
        "crop_side": side,
        "au_names": list(au_names),
    }


def read_attributions(path: str | Path, frames: Collection[int] | None = None) -> Attributions:
    """Read an evidence.parquet, sorted by frame and face_id.

    frames: indices of the frames to read; None: all. A few frames of a long file take little memory, because
    row groups are read one by one.
    Raises InputError if the file does not exist or was not written by auscan.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            metadata = json.loads(stored.key_value_metadata[METADATA_KEY])
            side, au_names = int(metadata["crop_side"]), check_au_names(metadata["au_names"])
            # Row groups without any of the frames are skipped.
            filters = [("frame", ">=", min(frames)), ("frame", "<=", max(frames))] if frames else []
            groups = stored.iter_row_groups(columns=list(UNITS), filters=filters)
            pieces = [_from_table(_select_frames(group, frames), side, au_names) for group in groups]
    except Exception as error:  # fastparquet raises many types for a damaged file
        raise InputError(
            f"{path} is not an evidence file of auscan ({type(error).__name__}: {error}). Give an "
            f"{ATTRIBUTIONS_FILE} that `auscan detect --evidence` wrote."
        ) from error
    return concatenate([piece for piece in pieces if len(piece)], side, au_names)


def _select_frames(table: pd.DataFrame, frames: Collection[int] | None) -> pd.DataFrame:
    return table if frames is None else table[table["frame"].isin(list(frames))]


def _to_table(piece: Attributions) -> pd.DataFrame:
    columns = dict(zip(UNITS, piece.arrays(), strict=True))
    byte_columns = {
        name: pd.Series([row.tobytes() for row in columns[name]], dtype=object) for name in _BYTE_COLUMNS
    }
    return pd.DataFrame({**columns, **byte_columns})


def _from_table(table: pd.DataFrame, side: int, au_names: tuple[str, ...]) -> Attributions:
    if table.empty:
        return _empty(side, au_names)
    shapes = {"points": (5, 2), "patches": (-1,), "attention": (len(au_names), -1), "gates": (len(au_names),)}
    arrays = []
    for name in UNITS:
        array = table[name].to_numpy()
        if name in shapes:
            kind = np.float32 if name == "points" else np.uint8
            array = np.frombuffer(b"".join(array), kind).reshape(len(table), *shapes[name])
        arrays.append(array)
    return Attributions(side, au_names, *arrays)
