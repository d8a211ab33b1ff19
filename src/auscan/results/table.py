"""Build, check, write and read the table of a result: one row for each face and frame.

Overlay, report and exports are computed from this table alone, without the network. `TableWriter` writes
aus.parquet and aus.csv piece by piece, each atomically.

`check_quality` grades each measured feature: it has a value for full quality, a cut and a value for no
quality; its grade falls from 1 through 0.5 to 0 between them. The quality of a face is its lowest grade. If
it is below 0.5, the face has the reason of that feature and is not scored. docs/quality.md describes how
the values were chosen.

Inputs: frame times [F] s and scored tracks, or pieces of a table in order.
Returns: a DataFrame; aus.parquet and aus.csv.
See also: pipeline/detect.py (detection and scoring), faces/align.py and the visual encoder (quality
features), result.py (other parts of a result).
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

from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS, au_columns
from auscan.core.config import MAX_INTENSITY
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError

NO_FACE_REASON: Final[str] = "no_face"
"""Reason of a row without a face."""
ROUNDING_S: Final[float] = 1e-6
"""Tolerance of durations: timestamps are rounded, and three frames at 30 per second must last 0.1 s."""
MIN_QUALITY: Final[float] = 0.5
"""Faces of lower quality are not scored."""


@dataclass(frozen=True)
class Grading:
    """Grading of one quality feature, and the reason if its grade is too low."""

    reason: str
    """Reason in the table."""
    full: float
    """Value of grade 1."""
    cut: float
    """Value of grade 0.5."""
    none: float
    """Value of grade 0.  It and `full` lie on either side of `cut`."""

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return grades 0 to 1 of values [R]; the sign is ignored, and NaN has grade 1."""
        feature_values, grades = np.array([self.none, self.cut, self.full]), np.array([0.0, MIN_QUALITY, 1.0])
        order = np.argsort(feature_values)
        graded = np.interp(np.abs(values), feature_values[order], grades[order])
        return np.where(np.isnan(values), 1.0, graded)


GRADINGS: Final[dict[str, Grading]] = {
    "size": Grading("small", full=16.0, cut=7.0, none=4.0),
    "sharpness": Grading("blur", full=0.85, cut=0.65, none=0.4),
    "brightness": Grading("dark", full=0.15, cut=0.04, none=0.01),
    "contrast": Grading("dark", full=0.04, cut=0.017, none=0.01),
    "yaw": Grading("profile", full=20.0, cut=40.0, none=70.0),
    "pitch": Grading("profile", full=15.0, cut=30.0, none=60.0),
    "covered": Grading("occluded", full=0.05, cut=0.25, none=0.6),
}
"""Gradings by column of the table.  Yaw and pitch in degrees, size in px, the others 0 to 1."""

QUALITY_FEATURE_COLUMNS: Final[tuple[str, ...]] = tuple(GRADINGS)
"""Columns of the quality features, in order."""
REASONS: Final[tuple[str, ...]] = (
    NO_FACE_REASON,
    *dict.fromkeys(grading.reason for grading in GRADINGS.values()),
)
"""All reasons; a scored face has the empty string instead."""


def check_quality(quality_features: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Compute quality [R] and reason [R] of quality features [R, P] in the order of QUALITY_FEATURE_COLUMNS.

    The reason is "" if the quality is at least MIN_QUALITY. A row of NaN is a row without a face.
    """
    grades = np.stack(
        [grading(quality_features[:, j]) for j, grading in enumerate(GRADINGS.values())], axis=1
    )  # [R, P]
    missing = np.isnan(quality_features).all(axis=1)
    quality = np.where(missing, 0.0, grades.min(axis=1)).astype(np.float32)
    names = np.array([grading.reason for grading in GRADINGS.values()], dtype=object)
    reason = np.where(quality < MIN_QUALITY, names[grades.argmin(axis=1)], "")
    return quality, np.where(missing, NO_FACE_REASON, reason)


NO_FACE: Final[int] = -1
"""face_id of the row of a frame without a face."""

BOX_COLUMNS: Final[tuple[str, ...]] = ("x", "y", "w", "h")
"""Columns of the face box."""
FACE_COLUMNS: Final[tuple[str, ...]] = (
    *("frame", "timestamp", "face_id", "success", "confidence"),
    *BOX_COLUMNS,
    *("quality", "reason"),
    *QUALITY_FEATURE_COLUMNS,
    "roll",
)
"""Columns before those of the AUs."""


def active_columns(au_names: Sequence[str]) -> list[str]:
    """Return the columns of the labels: 1 active, 0 inactive, NaN unknown or not scored."""
    return [f"{name}_c" for name in au_names]


def intensity_columns(au_names: Sequence[str]) -> list[str]:
    """Return the columns of the intensities, which a table has if its checkpoint computes them."""
    return [f"{name}_r" for name in au_names]


def baseline_columns(au_names: Sequence[str]) -> list[str]:
    """Return the last columns of a table with a person baseline; `AU.._c` is then computed from them."""
    return [f"{name}_b" for name in au_names]


def table_columns(au_names: Sequence[str], intensity: bool = False, baseline: bool = False) -> list[str]:
    """Return the columns of the table, in order."""
    return [
        *FACE_COLUMNS,
        *au_names,
        *active_columns(au_names),
        *(intensity_columns(au_names) if intensity else ()),
        "speaking",
        *(baseline_columns(au_names) if baseline else ()),
    ]


def column_units(column: str) -> str:
    """Return the description of a column, which is written into the Parquet metadata."""
    name, _, kind = column.partition("_")
    if name not in ACTION_UNITS:
        return UNITS[column]
    return AU_UNITS[kind].format(name=name, meaning=ACTION_UNITS[name].meaning)


AU_UNITS: Final[dict[str, str]] = {
    "": "probability of {meaning}, 0 to 1",
    "c": "1 where {name} reaches its threshold, else 0; empty where unknown or not scored",
    "r": "intensity of {name}, 0 to 5: activation of the face model times five, not FACS A to E",
    "b": "{name} above the baseline of the face, 0 to 1; empty if the face has no baseline",
}
"""Description of the columns of an AU, by the part of their name after the underscore."""
UNITS: Final[dict[str, str]] = {
    "frame": "index of the decoded frame, from 0",
    "timestamp": "seconds, presentation time in the container",
    "face_id": "the same person within one video; -1 where no face was found",
    "success": "1 where a face was found, else 0",
    "confidence": "of the face detector, 0 to 1",
    **dict.fromkeys(BOX_COLUMNS, "pixels of the upright frame"),
    "quality": "how well the face can be read, 0 to 1; below 0.5 it is not scored; 0 where no face was found",
    "reason": f"why a face is not scored, one of {', '.join(REASONS)}; empty where it is",
    "size": "pixels of the frame between the eyes of a face of this scale seen from the front",
    "sharpness": "fine detail of the aligned face over that twice as coarse; about 1 where it is sharp",
    "brightness": "mean luminance of the aligned face, 0 to 1",
    "contrast": "standard deviation of luminance of the aligned face, 0 to 1",
    "yaw": "degrees, positive if the face is turned to the right of the picture; empty if the model lacks it",
    "pitch": "degrees, positive if the face looks down; empty if the model lacks it",
    "roll": "degrees of the line between the eyes in the picture, positive clockwise",
    "covered": "occluded share of the face, 0 to 1; empty if the model lacks it",
    "speaking": "how far the voice heard is that of this face, and active, 0 to 1; empty if unknown",
}
"""Description of the other columns."""

METADATA_KEY: Final[str] = "auscan"
"""Key of the JSON in the Parquet metadata."""
TABLE_FILE: Final[str] = "aus.parquet"
"""File name of the table in the folder of a result."""
CSV_FILE: Final[str] = "aus.csv"
"""File name of the same table as CSV."""


@dataclass(frozen=True, eq=False)
class TrackScores:
    """Track of one face with AU probabilities; gaps in `frames` are allowed. T frames, A AUs."""

    face_id: int
    """Id of the face, from 0."""
    frames: NDArray[np.int64]
    """[T] frame indices, increasing."""
    boxes: NDArray[np.float32]
    """[T, 4] x, y, w, h in pixels."""
    points: NDArray[np.float32]
    """[T, 5, 2] eyes, nose tip, mouth corners in pixels."""
    scores: NDArray[np.float32]
    """[T] confidence of the face detector."""
    quality_features: NDArray[np.float32]
    """[T, P] in the order of QUALITY_FEATURE_COLUMNS; NaN if unknown."""
    probabilities: NDArray[np.float32]
    """[T, A]; the column of an untrained AU is NaN."""
    speaking: NDArray[np.float32] | None = None
    """[T] how far the voice heard is that of this face, and active, 0 to 1; NaN or None if unknown."""
    intensities: NDArray[np.float32] | None = None
    """[T, A] 0 to 5, NaN where the probability is; None if the checkpoint does not compute them."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        expected_shapes = {
            "frames": (count,),
            "boxes": (count, 4),
            "points": (count, 5, 2),
            "scores": (count,),
            "quality_features": (count, len(QUALITY_FEATURE_COLUMNS)),
            "probabilities": (count, self.probabilities.shape[-1]),
        }
        for name, shape in expected_shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} should be {list(shape)}, got {list(getattr(self, name).shape)}.")
        if self.intensities is not None and self.intensities.shape != self.probabilities.shape:
            expected, got = list(self.probabilities.shape), list(self.intensities.shape)
            raise ValueError(f"intensities should be {expected}, got {got}.")
        if self.speaking is not None and self.speaking.shape != (count,):
            raise ValueError(f"speaking should be [{count}], got {list(self.speaking.shape)}.")
        if self.face_id < 0:
            raise ValueError(f"face_id should be 0 or more, got {self.face_id}.")
        if np.any(np.diff(self.frames) <= 0):
            raise ValueError(f"The frames of face {self.face_id} should increase.")


def build_table(
    times_s: NDArray[np.float64],
    tracks: Sequence[TrackScores],
    thresholds: Sequence[float],
    keep_all: bool = False,
    au_names: Sequence[str] = AFFWILD2_AUS,
    intensity: bool = False,
) -> pd.DataFrame:
    """Build the table with the columns `table_columns` from frame times [F] s and tracks.

    thresholds, au_names: [A]    intensity: whether the tracks have intensities

    Rows are sorted by frame and face_id, and every frame has at least one. A frame without a face has
    success 0, face_id -1, confidence and quality 0, reason no_face and NaN elsewhere. `AU.._c` is 1 from the
    threshold on and 0 below. It is NaN if the probability is NaN and, unless keep_all, if there is a reason.
    Raises ValueError if a track has a frame that does not exist, or a face_id occurs twice in a frame.
    """
    times = np.asarray(times_s, dtype=np.float64)
    face_frames = np.concatenate([np.empty(0, np.int64), *(track.frames for track in tracks)])
    if face_frames.size and (face_frames.min() < 0 or face_frames.max() >= len(times)):
        raise ValueError(f"A track has frame {face_frames.max()}, but there are {len(times)} frames.")
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
    no_aus = np.full((len(empty_frames), len(au_names)), np.nan, np.float32)
    aus = np.concatenate([*(t.probabilities for t in tracks), no_aus]).astype(np.float32)  # [R, A]
    intensities = {}
    if intensity:
        values = np.concatenate([*(t.intensities for t in tracks if t.intensities is not None), no_aus])
        intensities = dict(zip(intensity_columns(au_names), values.astype(np.float32).T, strict=True))
    speaking = np.concatenate(
        [
            *(np.full(len(t.frames), np.nan) if t.speaking is None else t.speaking for t in tracks),
            np.full(len(empty_frames), np.nan),
        ]
    )
    roll = np.concatenate([*(eye_roll(t.points) for t in tracks), np.full(len(empty_frames), np.nan)])
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
            "roll": roll.astype(np.float32),
            **dict(zip(au_names, aus.T, strict=True)),
            **dict(zip(active_columns(au_names), active.T, strict=True)),
            **intensities,
            "speaking": speaking.astype(np.float32),
        }
    )
    if table.duplicated(["frame", "face_id"]).any():
        raise ValueError("A face_id occurs twice in one frame.")
    return table.sort_values(["frame", "face_id"], ignore_index=True)


def eye_roll(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the angle [...] of the line between the eyes of points [..., 5, 2], degrees, positive clockwise.

    It is the roll of the head as long as the face is not turned far to a side and up or down at once.
    """
    x, y = np.moveaxis(points[..., 1, :] - points[..., 0, :], -1, 0)
    return np.asarray(np.degrees(np.arctan2(y, x)), np.float32)


def apply_thresholds(
    values: NDArray[np.float32], scored: NDArray[np.bool_], thresholds: Sequence[float]
) -> NDArray[np.float32]:
    """Return `AU.._c` of probabilities [R, A]: 1 from the threshold on, 0 below, NaN if unknown or unscored.

    scored: [R]. Thresholds are rounded to float32, the precision of the stored probabilities.
    """
    unknown = np.isnan(values) | ~scored[:, None]
    return np.where(unknown, np.nan, values >= np.asarray(thresholds, np.float32)).astype(np.float32)


def value_column(table: pd.DataFrame, name: str) -> str:
    """Return the column that `AU.._c` is computed from: `AU01_b` if the table has a baseline, else `AU01`."""
    return f"{name}_b" if f"{name}_b" in table.columns else name


def by_face(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield face_id and rows of each face, in order of face_id."""
    for face_id, rows in table[table["success"] == 1].groupby("face_id", sort=True):
        yield int(cast(int, face_id)), rows


def frame_times_s(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the presentation times of the frames, [F] s."""
    return table.drop_duplicates("frame")["timestamp"].to_numpy(np.float64)


LONGEST_FRAME_S: Final[float] = 0.25
"""A frame with no frame after it for longer, and for longer than usual, is followed by a pause, seconds."""


def frame_durations_s(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the duration of each frame, [F] s: the time until the next one, for the last one the median.

    A frame before a pause lasts the median, too: nothing is known about the time of a pause. A single frame
    is a picture and lasts 0 s.
    """
    if len(times_s) < 2:
        return np.zeros(len(times_s))
    until_next = np.maximum(np.diff(times_s), 0)
    usual_s = np.median(until_next)
    return np.append(np.where(before_pause(until_next, usual_s), usual_s, until_next), usual_s)


def before_pause(until_next_s: NDArray[np.float64], usual_s: float | np.floating) -> NDArray[np.bool_]:
    """Return whether a pause follows each frame, [F]; usual_s: the usual time until the next frame."""
    return until_next_s > max(float(usual_s), LONGEST_FRAME_S) + ROUNDING_S


def pause_warnings(source: str, times_s: NDArray[np.float64]) -> tuple[str, ...]:
    """Return a sentence about the pauses between frames at times [F] s; none without pauses.

    Intervals of less than twice the usual one are not mentioned.
    """
    until_next = np.diff(times_s)
    usual_s = float(np.median(until_next)) if len(until_next) else 0.0
    pauses = np.flatnonzero(before_pause(until_next, 2 * usual_s))
    if not len(pauses):
        return ()
    number = f"{len(pauses)} pauses" if len(pauses) > 1 else "a pause"
    return (
        f"{source}: the video has {number} without frames, {until_next[pauses].sum():.2f} s in all, the "
        f"first at {times_s[pauses[0]]:.2f} s; the time of a pause does not count as active.",
    )


def table_metadata(
    source: str,
    model: str,
    au_names: Sequence[str],
    thresholds: Sequence[float],
    untrained_aus: Sequence[str],
    version: str,
    operating_point: str = "default",
    baseline: str = "none",
    intensity: bool = False,
) -> dict[str, str]:
    """Return the metadata of an aus.parquet.

    version: version of auscan    intensity: whether the table has intensities
    The other arguments are those of RunInfo.
    """
    columns = table_columns(au_names, intensity, baseline != "none")
    metadata = {
        "auscan": version,
        "source": source,
        "model": model,
        "operating_point": operating_point,
        "au_names": list(au_names),
        "thresholds": dict(zip(au_names, thresholds, strict=True)),
        "untaught": list(untrained_aus),
        "baseline": baseline,
        "judged_by": "AU.." if baseline == "none" else "AU.._b",
        "units": {column: column_units(column) for column in columns},
    }
    return {METADATA_KEY: json.dumps(metadata)}


def check_columns(table: pd.DataFrame) -> None:
    """Raise ValueError unless the columns are `table_columns` of some AUs, in order."""
    au_names = au_columns(table.columns)
    intensity, baseline = (any(f"{name}_{kind}" in table for name in au_names) for kind in "rb")
    expected = table_columns(au_names, intensity, baseline)
    if list(table.columns) != expected or not au_names:
        missing = [name for name in expected if name not in table.columns]
        extra = [name for name in table.columns if name not in expected]
        raise ValueError(f"its columns are not those of auscan (missing {missing}, unknown {extra})")


def read_result_table(path: str | Path) -> pd.DataFrame:
    """Read the table in an aus.parquet.

    Raises InputError if the file is not a Parquet file, was not written by auscan, or has invalid values.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            if METADATA_KEY not in stored.key_value_metadata:
                raise ValueError("it has no auscan metadata")
            table: pd.DataFrame = stored.to_pandas()
        if "roll" not in table:  # written by auscan 0.1, like tables without "speaking"
            table.insert(FACE_COLUMNS.index("roll"), "roll", np.float32(np.nan))
        if "speaking" not in table:  # written by auscan 0.1
            table.insert(len(table_columns(AFFWILD2_AUS)) - 1, "speaking", np.float32(np.nan))
        check_columns(table)
        table = table.astype({"reason": "str"})  # fastparquet returns object
        _check_values(table)
    except Exception as error:  # fastparquet raises many types for a damaged file
        raise InputError(
            f"{path} is not a result table of auscan: {error}. "
            f"Give an aus.parquet that `auscan detect` wrote."
        ) from error
    return table


def _check_values(table: pd.DataFrame) -> None:
    known = table.filter(regex=r"^AU\d\d(_b)?$").to_numpy()
    if np.any((known < 0) | (known > 1)):
        raise ValueError("a probability is outside 0 to 1")
    intensities = table.filter(regex=r"^AU\d\d_r$").to_numpy()
    if np.any((intensities < 0) | (intensities > MAX_INTENSITY)):
        raise ValueError("an intensity is outside 0 to 5")
    if np.any((table["speaking"] < 0) | (table["speaking"] > 1)):
        raise ValueError("speaking is outside 0 to 1")
    if not table["success"].isin([0, 1]).all() or (table["success"].eq(1) & table["face_id"].lt(0)).any():
        raise ValueError("success and face_id contradict each other")
    if not table["reason"].isin(["", *REASONS]).all() or not table["quality"].between(0, 1).all():
        raise ValueError("it has an unknown reason, or a quality outside 0 to 1")
    if not table["frame"].is_monotonic_increasing:
        raise ValueError("its frames are out of order")


class TableWriter:
    """Writer of aus.parquet and aus.csv, piece by piece; no file is left if the `with` block raises."""

    def __init__(self, folder: Path, metadata: dict[str, str]) -> None:
        """metadata: see `table_metadata`."""
        self._folder, self._metadata = folder, metadata
        self._files = ExitStack()
        self._parquet: Path | None = None
        self._csv: Path | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, piece: pd.DataFrame) -> None:
        """Append rows as one row group."""
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
