"""What the network went by, kept beside the table: evidence.parquet, a row a face and frame.

Of each AU: where its query looked, and how far what it found there was trusted beside the face as a whole. Of
each frame: which patches were read at all, and how far the voice was taken in. docs/evidence.md says what
these numbers mean and what they do not.

Two hours of one face are 180,000 times 650 numbers, so each is kept as a byte: 255 stands for 1. Rows are
written as faces are done with: by face, and by frame within it. Reading sorts them as the table is sorted.

In: what the visual stage and the fusion said (inference/engine.py).  Out: a file, and numbers in 0..1 again.
Not here: drawing (heat.py), the table (table.py).
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

from auscan.core.atomic_write import atomic_path
from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.chunking import chunk_slices
from auscan.core.errors import InputError

ATTRIBUTIONS_FILE: Final[str] = "evidence.parquet"
METADATA_KEY: Final[str] = "auscan evidence"
ROW_GROUP_SIZE: Final[int] = 4096
"""Rows of a row group, at least; the last one is what remains."""

UNITS: Final[dict[str, str]] = {
    "frame": "index of the decoded frame, from 0, as in the table",
    "face_id": "as in the table",
    "points": "x, y of the five points the crop was cut by, pixels of the upright frame; 10 float32",
    "patches": "weight of each patch of the crop, row by row, a byte each, 255 is 1; 0: it was not read",
    "attention": "share of each patch in what each AU's query read, AU after AU, a byte each, 255 is 1",
    "gates": "how far each AU's local reading is taken in, a byte each, 255 is 1",
    "audio_gate": "how far the frame takes the voice in, 255 is 1; 0: none within reach",
}
"""What each column holds, in order; written into the Parquet metadata."""
_BYTE_COLUMNS: Final[tuple[str, ...]] = ("points", "patches", "attention", "gates")
"""Columns whose cells are bytes."""


@dataclass(frozen=True, eq=False)
class Attributions:
    """R rows, a face in a frame each, as bytes; the properties give numbers in 0..1. N patches, A = 12."""

    side: int
    """S, side of the crop that the patches divide, px."""
    frames: NDArray[np.int64]
    """[R] index of the frame."""
    face_ids: NDArray[np.int64]
    """[R]."""
    points: NDArray[np.float32]
    """[R, 5, 2] px of the frame: the points the crop was cut by; those of `TrackScores` are refined."""
    patch_bytes: NDArray[np.uint8]
    """[R, N]."""
    attention_bytes: NDArray[np.uint8]
    """[R, A, N]."""
    gate_bytes: NDArray[np.uint8]
    """[R, A]."""
    audio_gate_bytes: NDArray[np.uint8]
    """[R]."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def patches(self) -> NDArray[np.float32]:
        """[R, N] weights of the patches, row by row of the crop; exactly 0 where a patch was not read."""
        return _from_bytes(self.patch_bytes)

    @property
    def attention(self) -> NDArray[np.float32]:
        """[R, A, N] share of each patch in what each AU's query read; sums to 1 but for rounding."""
        return _from_bytes(self.attention_bytes)

    @property
    def gates(self) -> NDArray[np.float32]:
        """[R, A] how far each AU's local reading is taken in beside the face as a whole."""
        return _from_bytes(self.gate_bytes)

    @property
    def audio_gate(self) -> NDArray[np.float32]:
        """[R] how far the frame takes the voice in; exactly 0 where no sound is in reach."""
        return _from_bytes(self.audio_gate_bytes)

    def rows(self, index: Any) -> "Attributions":
        """Those of an index, a slice or a mask."""
        return Attributions(self.side, *(array[index] for array in self.arrays()))

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that has a row for each face and frame, in the order of the columns."""
        return (
            *(self.frames, self.face_ids, self.points),
            *(self.patch_bytes, self.attention_bytes, self.gate_bytes, self.audio_gate_bytes),
        )


def to_bytes(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers in 0..1 as bytes, 255 for 1: at most 1/510 off."""
    stored: NDArray[np.uint8] = np.rint(shares * 255.0).astype(np.uint8)
    return stored


def to_nonzero_bytes(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The same, but 0 stands for exactly 0 alone: what is above it is at least 1, so at most 1/255 off."""
    return np.maximum(to_bytes(shares), shares > 0)


def _from_bytes(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    return stored.astype(np.float32) / np.float32(255)


def concatenate(pieces: Sequence[Attributions], side: int) -> Attributions:
    """Pieces as one, by frame and face_id."""
    if not pieces:
        return _empty(side)
    arrays = zip(*(piece.arrays() for piece in pieces), strict=True)
    joined = Attributions(side, *(np.concatenate(each) for each in arrays))
    return joined.rows(np.lexsort((joined.face_ids, joined.frames)))


def _empty(side: int) -> Attributions:
    """No rows, and so no patches."""
    numbers, points = np.empty(0, np.int64), np.empty((0, 5, 2), np.float32)
    shapes = (0, 0), (0, AU_COUNT, 0), (0, AU_COUNT), (0,)
    patches, attention, gates, audio_gate = (np.empty(shape, np.uint8) for shape in shapes)
    return Attributions(side, numbers, numbers, points, patches, attention, gates, audio_gate)


class AttributionsWriter:
    """A file that grows; leave the `with` by an exception and it does not appear."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        """metadata: what the file says of itself, as from `attributions_metadata`."""
        self._path, self._metadata = path, {**metadata, "au_names": list(AU_NAMES), "units": UNITS}
        self._files = ExitStack()
        self._pending: list[pd.DataFrame] = []

    def __enter__(self) -> Self:
        self._temporary = self._files.enter_context(atomic_path(self._path))
        custom_metadata = {METADATA_KEY: json.dumps(self._metadata)}
        self._append(_to_table(_empty(0)), append=False, custom_metadata=custom_metadata)
        return self

    def write(self, piece: Attributions) -> None:
        """Add rows; faces that were seen for a moment wait until they fill a row group."""
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


def attributions_metadata(source: str, model: str, side: int, version: str) -> dict[str, Any]:
    """What an evidence.parquet says of itself: auscan's version, the input's name, the checkpoint, S."""
    return {"auscan": version, "source": source, "model": model, "crop_side": side}


def read_attributions(path: str | Path, frames: Collection[int] | None = None) -> Attributions:
    """Read an evidence.parquet back, by frame and face_id; of all frames, or of those asked for.

    A few frames of a long file take little memory: its row groups are read one after the other.
    Raises InputError where there is no such file or auscan did not write it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            side = int(json.loads(stored.key_value_metadata[METADATA_KEY])["crop_side"])
            # Row groups that lie before or after all of the frames are not read.
            filters = [("frame", ">=", min(frames)), ("frame", "<=", max(frames))] if frames else []
            groups = stored.iter_row_groups(columns=list(UNITS), filters=filters)
            pieces = [_from_table(_select_frames(group, frames), side) for group in groups]
    except Exception as error:  # of a damaged file fastparquet complains in many ways
        raise InputError(
            f"{path} is no evidence of auscan ({type(error).__name__}: {error}). Give an "
            f"{ATTRIBUTIONS_FILE}, which `auscan detect --evidence` writes."
        ) from error
    return concatenate([piece for piece in pieces if len(piece)], side)


def _select_frames(table: pd.DataFrame, frames: Collection[int] | None) -> pd.DataFrame:
    return table if frames is None else table[table["frame"].isin(list(frames))]


def _to_table(piece: Attributions) -> pd.DataFrame:
    columns = dict(zip(UNITS, piece.arrays(), strict=True))
    byte_columns = {
        name: pd.Series([row.tobytes() for row in columns[name]], dtype=object) for name in _BYTE_COLUMNS
    }
    return pd.DataFrame({**columns, **byte_columns})


def _from_table(table: pd.DataFrame, side: int) -> Attributions:
    if table.empty:
        return _empty(side)
    shapes = {"points": (5, 2), "patches": (-1,), "attention": (AU_COUNT, -1), "gates": (AU_COUNT,)}
    arrays = []
    for name in UNITS:
        array = table[name].to_numpy()
        if name in shapes:
            kind = np.float32 if name == "points" else np.uint8
            array = np.frombuffer(b"".join(array), kind).reshape(len(table), *shapes[name])
        arrays.append(array)
    return Attributions(side, *arrays)
