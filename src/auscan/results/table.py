"""One tidy table a video: a row for every face of every frame.

Why: everything made from a run (overlay, report, exports) reads this one table and needs no network.
In: frame times [F] s and the scored tracks.  Out: a DataFrame.
Not here: finding faces and scoring them (pipeline/detect.py), what else belongs to a result (result.py).

Write a table while it grows: aus.parquet and aus.csv, each whole or not at all.

In: the pieces of a table in order.  Out: both files, under their names once the last piece is in.
Not here: what the columns mean (table.py).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import fastparquet
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.atomic_write import atomic_path
from auscan.core.aus import AU_COUNT, AU_MEANINGS, AU_NAMES
from auscan.core.errors import InputError
from auscan.results.quality import QUALITY_FEATURE_COLUMNS, REASONS, check_quality

NO_FACE: Final[int] = -1
"""face_id of a row that stands for a frame in which no face was found."""

BOX_COLUMNS: Final[tuple[str, ...]] = ("x", "y", "w", "h")
ACTIVE_COLUMNS: Final[tuple[str, ...]] = tuple(f"{name}_c" for name in AU_NAMES)
COLUMNS: Final[tuple[str, ...]] = (
    *("frame", "timestamp", "face_id", "success", "confidence"),
    *BOX_COLUMNS,
    *("quality", "reason"),
    *QUALITY_FEATURE_COLUMNS,
    *AU_NAMES,
    *ACTIVE_COLUMNS,
)
"""The table's columns, always these, always in this order."""

BASELINE_COLUMNS: Final[tuple[str, ...]] = tuple(f"{name}_b" for name in AU_NAMES)
"""Follow `COLUMNS` where a baseline was asked for; `AU.._c` is then made from them."""

UNITS: Final[dict[str, str]] = {
    "frame": "index of the decoded frame, from 0",
    "timestamp": "seconds, presentation time in the container",
    "face_id": "the same person within one video; -1 where no face was found",
    "success": "1 where a face was found, else 0",
    "confidence": "of the face detector, 0 to 1",
    **dict.fromkeys(BOX_COLUMNS, "pixels of the upright frame"),
    "quality": "how well the face can be read, 0 to 1; below 0.5 it is not judged; 0 where no face was found",
    "reason": f"why a face is not judged, one of {', '.join(REASONS)}; empty where it is",
    "size": "pixels of the frame between the eyes of a face of this scale seen from the front",
    "sharpness": "fine detail of the aligned face over that twice as coarse; about 1 where it is sharp",
    "brightness": "mean luminance of the aligned face, 0 to 1",
    "contrast": "standard deviation of luminance of the aligned face, 0 to 1",
    "yaw": "degrees, positive where the face is turned to the right of the picture; empty where not taught",
    "pitch": "degrees, positive where the face looks down; empty where not taught",
    "covered": "share of the face that something lies over, 0 to 1; empty where not taught",
    **{name: f"probability of {meaning}, 0 to 1" for name, meaning in AU_MEANINGS.items()},
    **{
        f"{name}_c": f"1 where {name} reaches its threshold, else 0; empty where unknown or not judged"
        for name in AU_NAMES
    },
    **{
        f"{name}_b": f"{name} above what is usual for the face, 0 to 1; empty where there is no baseline"
        for name in AU_NAMES
    },
}
"""What each column holds; written into the Parquet metadata."""

METADATA_KEY: Final[str] = "auscan"
TABLE_FILE: Final[str] = "aus.parquet"
CSV_FILE: Final[str] = "aus.csv"
"""The same table twice."""


@dataclass(frozen=True, eq=False)
class TrackScores:
    """One face over time with its action units; gaps in `frames` are allowed. T frames, A = 12."""

    face_id: int
    frames: NDArray[np.int64]
    """[T] frame indices, increasing."""
    boxes: NDArray[np.float32]
    """[T, 4] x, y, w, h in pixels."""
    points: NDArray[np.float32]
    """[T, 5, 2] eyes, nose, mouth corners in pixels."""
    scores: NDArray[np.float32]
    """[T] confidence of the face detector."""
    quality_features: NDArray[np.float32]
    """[T, P] in the order of QUALITY_FEATURE_COLUMNS; NaN where unknown."""
    probabilities: NDArray[np.float32]
    """[T, A]; a column is NaN where the checkpoint was never taught that AU."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        expected_shapes = {
            "frames": (count,),
            "boxes": (count, 4),
            "points": (count, 5, 2),
            "scores": (count,),
            "quality_features": (count, len(QUALITY_FEATURE_COLUMNS)),
            "probabilities": (count, AU_COUNT),
        }
        for name, shape in expected_shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} should be {list(shape)}, got {list(getattr(self, name).shape)}.")
        if self.face_id < 0:
            raise ValueError(f"face_id should be 0 or more, got {self.face_id}.")
        if np.any(np.diff(self.frames) <= 0):
            raise ValueError(f"The frames of face {self.face_id} should increase.")


def build_table(
    times_s: NDArray[np.float64],
    tracks: Sequence[TrackScores],
    thresholds: Sequence[float],
    keep_all: bool = False,
) -> pd.DataFrame:
    """Join frame times [F] s and tracks into one table with the columns `COLUMNS`, by frame and face_id.

    Every frame has at least one row. Without a face: success 0, face_id -1, confidence and quality 0, reason
    no_face, the rest NaN. `AU.._c` is 1 from the threshold on, 0 below, NaN where the probability is NaN and,
    unless keep_all, where there is a reason not to judge.
    Raises ValueError where a track names a frame that does not exist or a face twice in one frame.
    """
    times = np.asarray(times_s, dtype=np.float64)
    face_frames = np.concatenate([np.empty(0, np.int64), *(track.frames for track in tracks)])
    if face_frames.size and (face_frames.min() < 0 or face_frames.max() >= len(times)):
        raise ValueError(f"A track names frame {face_frames.max()}, but there are {len(times)} frames.")
    empty_frames = np.setdiff1d(np.arange(len(times), dtype=np.int64), face_frames)

    frame = np.concatenate([face_frames, empty_frames])
    ids = (np.full(len(track.frames), track.face_id) for track in tracks)
    face_id = np.concatenate([*ids, np.full(len(empty_frames), NO_FACE)])
    confidence = np.concatenate([*(t.scores for t in tracks), np.zeros(len(empty_frames))])
    boxes = np.concatenate([*(t.boxes for t in tracks), np.full((len(empty_frames), 4), np.nan)])
    unknown = np.full((len(empty_frames), len(QUALITY_FEATURE_COLUMNS)), np.nan)
    quality_features = np.concatenate([*(t.quality_features for t in tracks), unknown]).astype(
        np.float32
    )  # [R, P]
    aus = np.concatenate([*(t.probabilities for t in tracks), np.full((len(empty_frames), AU_COUNT), np.nan)])

    aus = aus.astype(np.float32)  # [R, A]
    quality, reason = check_quality(quality_features)
    active = apply_thresholds(aus, (reason == "") | keep_all, thresholds)
    table = pd.DataFrame(
        {
            "frame": frame,
            "timestamp": times[frame],
            "face_id": face_id.astype(np.int64),
            "success": (face_id != NO_FACE).astype(np.int8),
            "confidence": confidence.astype(np.float32),
            **dict(zip(BOX_COLUMNS, boxes.astype(np.float32).T, strict=True)),
            "quality": quality,
            "reason": pd.Series(reason, dtype="str"),
            **dict(zip(QUALITY_FEATURE_COLUMNS, quality_features.T, strict=True)),
            **dict(zip(AU_NAMES, aus.T, strict=True)),
            **dict(zip(ACTIVE_COLUMNS, active.T, strict=True)),
        }
    )
    if table.duplicated(["frame", "face_id"]).any():
        raise ValueError("One face_id stands twice in one frame.")
    return table.sort_values(["frame", "face_id"], ignore_index=True)


def apply_thresholds(
    values: NDArray[np.float32], scored: NDArray[np.bool_], thresholds: Sequence[float]
) -> NDArray[np.float32]:
    """`AU.._c` of probabilities [R, A]: 1 from the threshold on, 0 below, NaN where unknown or not judged.

    scored: [R]. Compared in the precision in which they are written.
    """
    unknown = np.isnan(values) | ~scored[:, None]
    return np.where(unknown, np.nan, values >= np.asarray(thresholds, np.float32)).astype(np.float32)


def value_column(table: pd.DataFrame, name: str) -> str:
    """The column that an AU is judged by: `AU01_b` where the table has a baseline, else `AU01`."""
    return f"{name}_b" if f"{name}_b" in table.columns else name


def by_face(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """The rows of each face, by face_id; frames without a face are left out."""
    for face_id, rows in table[table["success"] == 1].groupby("face_id", sort=True):
        yield int(cast(int, face_id)), rows


def frame_times_s(table: pd.DataFrame) -> NDArray[np.float64]:
    """Presentation times of the frames, [F] s."""
    return table.drop_duplicates("frame")["timestamp"].to_numpy(np.float64)


def frame_durations_s(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How long each frame is shown, [F] s: until the next one; the last one as long as is usual (median).

    A single frame is a picture and lasts 0 s.
    """
    if len(times_s) < 2:
        return np.zeros(len(times_s))
    until_next = np.maximum(np.diff(times_s), 0)
    return np.append(until_next, np.median(until_next))


def table_metadata(
    source: str,
    model: str,
    thresholds: Sequence[float],
    untrained_aus: Sequence[str],
    version: str,
    operating_point: str = "default",
    baseline: str = "none",
) -> dict[str, str]:
    """What an aus.parquet says of itself; the arguments as in RunInfo, the version auscan's."""
    metadata = {
        "auscan": version,
        "source": source,
        "model": model,
        "operating_point": operating_point,
        "au_names": list(AU_NAMES),
        "thresholds": dict(zip(AU_NAMES, thresholds, strict=True)),
        "untaught": list(untrained_aus),
        "baseline": baseline,
        "judged_by": "AU.." if baseline == "none" else "AU.._b",
        "units": {
            name: unit for name, unit in UNITS.items() if baseline != "none" or name not in BASELINE_COLUMNS
        },
    }
    return {METADATA_KEY: json.dumps(metadata)}


def check_columns(table: pd.DataFrame) -> None:
    """Raise ValueError unless the table has just `COLUMNS`, or these and `BASELINE_COLUMNS`, in order."""
    known = (*COLUMNS, *BASELINE_COLUMNS)
    if tuple(table.columns) not in (COLUMNS, known):
        missing = [name for name in COLUMNS if name not in table.columns]
        extra = [name for name in table.columns if name not in known]
        raise ValueError(f"its columns are not those of auscan (missing {missing}, unknown {extra})")


def read_result_table(path: str | Path) -> pd.DataFrame:
    """Read an aus.parquet back as the table it was.

    Raises InputError where the file is not a Parquet file, was not written by auscan, or holds values
    that no run can give.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            if METADATA_KEY not in stored.key_value_metadata:
                raise ValueError("it carries no auscan metadata")
            table: pd.DataFrame = stored.to_pandas()
        check_columns(table)
        table = table.astype({"reason": "str"})  # as it was, not as objects
        _check_values(table)
    except Exception as error:  # of a damaged file fastparquet complains in many ways
        raise InputError(
            f"{path} is not a result table of auscan: {error}. "
            f"Give an aus.parquet that `auscan detect` wrote."
        ) from error
    return table


def _check_values(table: pd.DataFrame) -> None:
    known = table.filter(regex=r"^AU\d\d(_b)?$").to_numpy()
    if np.any((known < 0) | (known > 1)):
        raise ValueError("a probability lies outside 0 to 1")
    if not table["success"].isin([0, 1]).all() or (table["success"].eq(1) & table["face_id"].lt(0)).any():
        raise ValueError("success and face_id contradict each other")
    if not table["reason"].isin(["", *REASONS]).all() or not table["quality"].between(0, 1).all():
        raise ValueError("it holds a quality or a reason that there is not")
    if not table["frame"].is_monotonic_increasing:
        raise ValueError("its frames are out of order")


class TableWriter:
    """Two files that grow together; leave the `with` by an exception and neither of them appears."""

    def __init__(self, folder: Path, metadata: dict[str, str]) -> None:
        """metadata: what the Parquet file says of itself."""
        self._folder, self._metadata = folder, metadata
        self._files = ExitStack()
        self._parquet: Path | None = None
        self._csv: Path | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, piece: pd.DataFrame) -> None:
        """Add rows: one row group."""
        first = self._parquet is None
        if self._parquet is None or self._csv is None:
            self._parquet = self._files.enter_context(atomic_path(self._folder / TABLE_FILE))
            self._csv = self._files.enter_context(atomic_path(self._folder / CSV_FILE))
        fastparquet.write(
            str(self._parquet),
            piece,
            row_group_offsets=len(piece) or None,
            compression="SNAPPY",
            has_nulls=[name for name, kind in piece.dtypes.items() if kind.kind == "f"],  # NaN is null
            write_index=False,
            append=not first,
            custom_metadata=self._metadata if first else None,
        )
        piece.to_csv(self._csv, mode="w" if first else "a", header=first, index=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)
