"""Find events in probabilities, with each face's baseline subtracted and the share of speech stated.

Human coders code events, not frames. A curve that fluctuates about its threshold is one event, not ten.

    onset     the probability reaches the AU's threshold
    offset    the probability falls below a lower line, `release` times the threshold (hysteresis)
    unknown   frames without the face, and frames in which it is not scored, never begin an event. A gap of
              at most `bridge_s` is bridged: the event continues if the next known probability is not below
              the lower line, and the gap counts as part of its duration. A longer gap ends the event at its
              last known frame; then the threshold must be reached again
    duration  events shorter than `shortest_s` are dropped

Baseline. Faces differ at rest: a brow that always lies low is not lowered.

    level     median probability of an AU over the scored frames of a face: all of them, or those of a time
              span in which the face is at rest
    neutral   NEUTRAL, or half the AU's threshold if that is less, so that a face at rest is never active
    shift     if the level is above neutral, the face's logits are shifted so that the level becomes neutral.
              A lower level is left as it is: raising it would turn noise into activity

        logit(AU.._b) = logit(AU..) - max(0, logit(level) - logit(neutral))

The shift is constant for a face and AU, so the order within the face stays, and the level (summary.json)
suffices to undo it. A face with fewer than MIN_BASELINE_FRAMES scored frames has no level: its `AU.._b` are
NaN and it is not scored. If the table has `AU.._b`, events are found in these.

Speech. It moves the mouth, so each event states which share of it has speech.

Inputs: the table of a result, thresholds, and speech if there is audio.
Returns: one row for each event; the columns `AU.._b`, and the `AU.._c` computed from them; sound.parquet.
See also: media/audio.py (voice activity), docs/events.md.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fastparquet
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import au_columns
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.results.table import (
    LONGEST_FRAME_S,
    ROUNDING_S,
    active_columns,
    apply_thresholds,
    baseline_columns,
    by_face,
    frame_durations_s,
    value_column,
)

SOUND_FILE: Final[str] = "sound.parquet"
"""File name in the folder of a result."""
METADATA_KEY: Final[str] = "auscan sound"
"""Key of the JSON in the Parquet metadata."""
UNITS: Final[dict[str, str]] = {
    "time": "middle of the step, seconds on the clock of the frames",
    "level_db": "root mean square level of the step, dB of full scale",
    "speech": "1 where somebody speaks, else 0",
}
"""Description of each column, in order; written into the Parquet metadata."""


@dataclass(frozen=True, eq=False)
class Speech:
    """Sound level and speech in L steps of equal length, without gaps."""

    start_s: float
    """Begin of the first step, seconds on the clock of the frames."""
    step_s: float
    """Length of a step, seconds."""
    level_db: NDArray[np.float32]
    """[L] root mean square level, dB of full scale."""
    speech: NDArray[np.bool_]
    """[L] whether the step has speech of any person."""

    def __post_init__(self) -> None:
        if self.level_db.shape != self.speech.shape or self.speech.ndim != 1:
            raise ValueError(
                f"level_db and speech should be [L], got {self.level_db.shape}, {self.speech.shape}."
            )
        if not self.step_s > 0:
            raise ValueError(f"step_s should be above 0, got {self.step_s}.")

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Middle of each step, [L] seconds."""
        return self.start_s + (np.arange(len(self.speech), dtype=np.float64) + 0.5) * self.step_s

    def share(self, begin_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of speech, 0 to 1, in each time span from begin to end, [E].

        Time before and after the sound counts as without speech. A span of length 0 has NaN.
        """
        edges = self.start_s + np.arange(len(self.speech) + 1) * self.step_s
        spoken_s = np.concatenate([[0.0], np.cumsum(self.speech) * self.step_s])  # up to each edge
        length = np.where(end_s > begin_s, end_s - begin_s, np.nan)
        spoken_in_span_s = np.interp(end_s, edges, spoken_s) - np.interp(begin_s, edges, spoken_s)
        return np.asarray(np.clip(spoken_in_span_s / length, 0.0, 1.0))


def write_speech(path: Path, sound: Speech, source: str, version: str) -> None:
    """Write sound.parquet: one row for each step, with the columns of `UNITS`.

    source: name of the input    version: version of auscan
    """
    metadata = {
        "auscan": version,
        "source": source,
        "start_s": sound.start_s,
        "step_s": sound.step_s,
        "units": UNITS,
    }
    columns = sound.times_s, sound.level_db, sound.speech.astype(np.int8)
    with atomic_path(path) as temporary:
        fastparquet.write(
            str(temporary),
            pd.DataFrame(dict(zip(UNITS, columns, strict=True))),
            compression="SNAPPY",
            has_nulls=False,
            write_index=False,
            custom_metadata={METADATA_KEY: json.dumps(metadata)},
        )


def read_speech(path: Path) -> Speech:
    """Read a sound.parquet.  Raises InputError if auscan did not write the file."""
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            metadata = json.loads(stored.key_value_metadata[METADATA_KEY])
            table = stored.to_pandas()
        level, speech = table["level_db"].to_numpy(np.float32), table["speech"].to_numpy(bool)
        return Speech(float(metadata["start_s"]), float(metadata["step_s"]), level, speech)
    except Exception as error:  # fastparquet raises many types for a damaged file
        raise InputError(
            f"{path} is not a sound file of auscan: {error!r}. Run `auscan detect` again."
        ) from error


EVENTS_FILE: Final[str] = "events.csv"
"""File name in the folder of a result."""
EVENT_COLUMNS: Final[tuple[str, ...]] = (
    *("face_id", "AU"),
    *("onset", "apex", "offset", "duration"),
    *("onset_frame", "apex_frame", "offset_frame"),
    *("mean", "peak", "speech"),
)
"""Columns of the events, in this order."""


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """Settings of event detection; see the module docstring and docs/events.md."""

    release: float = 0.75
    """Lower line as a share of the threshold, above 0 and at most 1; 1: no hysteresis."""
    shortest_s: float = 0.1
    """Least duration of an event, seconds."""
    bridge_s: float = LONGEST_FRAME_S
    """Longest gap without a scored face that is bridged, seconds."""

    def __post_init__(self) -> None:
        if not 0 < self.release <= 1:
            raise InputError(
                f"release should be a share of the threshold, above 0 and at most 1; got {self.release}."
            )
        for name in ("shortest_s", "bridge_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} should be in seconds, 0 or more; got {getattr(self, name)}.")


DEFAULT_EVENT_SETTINGS: Final[EventSettings] = EventSettings()


def find_events(
    table: pd.DataFrame,
    thresholds: tuple[float, ...],
    settings: EventSettings = DEFAULT_EVENT_SETTINGS,
    speech: Speech | None = None,
) -> pd.DataFrame:
    """Find the events of each face and AU in the table of a result: `EVENT_COLUMNS`, one row for each event.

    Rows are sorted by face_id, AU (in the order of the table) and onset.
    thresholds: [A], those of the result (`result.info.thresholds`) or others. The `AU.._c` of the table only
    tell whether a row was scored.

    onset, apex, offset and duration are seconds, on the container's clock like `timestamp`. The offset is the
    end of the last frame (`frame_durations_s`), so durations are above 0. onset_frame, apex_frame and
    offset_frame are the first frame, the frame with the highest probability (the first of equals) and the
    last frame, inclusive. mean and peak are taken over the known probabilities of the event. speech is the
    share of its time with speech, NaN without audio. A picture has no events, because it lasts 0 s.
    Raises InputError unless there are A thresholds.
    """
    au_names = au_columns(table.columns)
    if len(thresholds) != len(au_names):
        raise InputError(
            f"There should be {len(au_names)} thresholds, one for each AU; got {len(thresholds)}."
        )
    frames = table["frame"].to_numpy()
    _, first, frame_index = np.unique(frames, return_index=True, return_inverse=True)
    starts_s = table["timestamp"].to_numpy(np.float64)
    ends_s = starts_s + frame_durations_s(starts_s[first])[frame_index]
    faces = table["face_id"].to_numpy()
    order = np.lexsort((frames, faces))
    found = []
    for j, name in enumerate(au_names):
        values = table[value_column(table, name)].to_numpy(np.float32)
        known_rows = order[~(np.isnan(values) | table[f"{name}_c"].isna().to_numpy())[order]]
        curve = _Curve(
            faces[known_rows],
            frames[known_rows],
            starts_s[known_rows],
            ends_s[known_rows],
            values[known_rows],
        )
        found.append(_events(curve, np.float32(thresholds[j]), settings).assign(au=j))
    events = pd.concat(found, ignore_index=True)
    events = events.sort_values(["face_id", "au", "onset"], ignore_index=True)
    events["AU"] = pd.Series(np.array(au_names, object)[events["au"].to_numpy(int)], dtype="str")
    onset, offset = events["onset"].to_numpy(), events["offset"].to_numpy()
    events["speech"] = np.nan if speech is None else speech.share(onset, offset)
    return events[list(EVENT_COLUMNS)]


@dataclass(frozen=True, eq=False)
class _Curve:
    """Known probabilities of one AU, sorted by face and frame. K rows; each field is [K]."""

    face_id: NDArray[np.int64]
    frame: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    value: NDArray[np.float32]


def _events(curve: _Curve, threshold: np.float32, settings: EventSettings) -> pd.DataFrame:
    """Return the events of one AU: all columns except AU and speech."""
    first, last = _runs(curve, threshold, settings)
    durations_s = curve.end_s[last] - curve.start_s[first]
    is_long_enough = (durations_s > 0) & (durations_s >= settings.shortest_s - ROUNDING_S)
    first, last = first[is_long_enough], last[is_long_enough]
    apex = np.array([a + int(curve.value[a : b + 1].argmax()) for a, b in zip(first, last, strict=True)], int)
    sums = np.concatenate([[0.0], np.cumsum(curve.value, dtype=np.float64)])
    return pd.DataFrame(
        {
            "face_id": curve.face_id[first],
            "onset": curve.start_s[first],
            "apex": curve.start_s[apex],
            "offset": curve.end_s[last],
            "duration": curve.end_s[last] - curve.start_s[first],
            "onset_frame": curve.frame[first],
            "apex_frame": curve.frame[apex],
            "offset_frame": curve.frame[last],
            "mean": (sums[last + 1] - sums[first]) / (last + 1 - first),
            "peak": curve.value[apex].astype(np.float64),
        }
    )


def _runs(
    curve: _Curve, threshold: np.float32, settings: EventSettings
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and last row of each run of active rows, [E] each, of any duration."""
    above_threshold, above_release = (
        curve.value >= threshold,
        curve.value >= np.float32(settings.release) * threshold,
    )
    gap_s = curve.start_s[1:] - curve.end_s[:-1]
    starts_run = np.ones(len(above_threshold), bool)  # the state before this row is unknown
    starts_run[1:] = (curve.face_id[1:] != curve.face_id[:-1]) | (gap_s > settings.bridge_s + ROUNDING_S)
    # A row between both lines keeps the state of the last row that was above, below, or first of a run.
    is_determined = above_threshold | ~above_release | starts_run
    last_determined = np.maximum.accumulate(np.where(is_determined, np.arange(len(above_threshold)), 0))
    active = above_threshold[last_determined]
    first = active.copy()
    first[1:] &= starts_run[1:] | ~active[:-1]
    last = active.copy()
    last[:-1] &= starts_run[1:] | ~active[1:]
    return np.flatnonzero(first), np.flatnonzero(last)


NO_BASELINE: Final[str] = "none"
"""Name of the setting without a baseline."""
NEUTRAL: Final[float] = 0.1
"""Highest neutral probability."""
MIN_NEUTRAL: Final[float] = 1e-6
"""Lowest neutral probability: a threshold of 0 has one, too."""
MIN_BASELINE_FRAMES: Final[int] = 25
"""Scored frames that a level needs."""


@dataclass(frozen=True)
class Baseline:
    """Time span of the frames that define the baseline, on the container's clock."""

    begin_s: float = -np.inf
    """First second."""
    end_s: float = np.inf
    """End, excluded."""


def parse_baseline(text: str) -> Baseline | None:
    """Parse none, median (of all frames) or SECONDS-SECONDS, such as 2-5 or 0.5-3.25.

    Raises InputError for any other text.
    """
    if text == NO_BASELINE:
        return None
    if text == "median":
        return Baseline()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None or float(match[1]) >= float(match[2]):
        raise InputError(
            f"{text!r} is not a baseline. Use none, median, or two times in seconds, "
            "the first before the second, such as 2-5."
        )
    return Baseline(float(match[1]), float(match[2]))


def resting_level(
    probabilities: NDArray[np.float32],
    times_s: NDArray[np.float64],
    scored: NDArray[np.bool_],
    baseline: Baseline,
) -> NDArray[np.float64]:
    """Compute the level of each AU of one face, [A]; all NaN for fewer than MIN_BASELINE_FRAMES frames.

    probabilities: [T, A]    times_s: [T]    scored: [T] whether the frame counts
    """
    usable = scored & (times_s >= baseline.begin_s) & (times_s < baseline.end_s)
    if usable.sum() < MIN_BASELINE_FRAMES:
        return np.full(probabilities.shape[1], np.nan)
    return np.median(probabilities[usable].astype(np.float64), axis=0)


def neutral_point(thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Return the neutral probability of each AU, [A], for thresholds [A]."""
    return np.clip(np.asarray(thresholds, np.float64) / 2, MIN_NEUTRAL, NEUTRAL)


def subtract_baseline(
    probabilities: NDArray[np.float32], level: NDArray[np.float64], neutral: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return probabilities [T, A] relative to a level [A] (or [T, A]); NaN if either is NaN.

    neutral: [A], see `neutral_point`. Computed with odds, which are finite for probabilities 0 and 1.
    """
    shift = np.maximum(1.0, _odds(level) / _odds(neutral))
    active_share, inactive_share = probabilities.astype(np.float64), 1.0 - probabilities.astype(np.float64)
    return (active_share / (active_share + inactive_share * shift)).astype(np.float32)


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p / (1 - p); 1 is replaced by the largest float32 below it."""
    clipped = np.minimum(probability, 1 - 2.0**-24)
    return np.asarray(clipped / (1 - clipped))


def resting_levels(table: pd.DataFrame, baseline: Baseline, keep_all: bool) -> dict[int, NDArray[np.float64]]:
    """Return the levels [A] of each face of a table, by face_id."""
    au_names = list(au_columns(table.columns))
    return {
        face_id: resting_level(
            rows[au_names].to_numpy(np.float32),
            rows["timestamp"].to_numpy(np.float64),
            rows["reason"].eq("").to_numpy() | keep_all,
            baseline,
        )
        for face_id, rows in by_face(table)
    }


def add_baseline_columns(
    table: pd.DataFrame,
    levels: Mapping[int, NDArray[np.float64]],
    thresholds: Sequence[float],
    keep_all: bool,
) -> pd.DataFrame:
    """Return the table with its `baseline_columns` and the `AU.._c` computed from them.

    levels: [A] by face_id; both groups of columns are NaN for faces without a level.
    """
    ids, row_of_id = np.unique(table["face_id"].to_numpy(), return_inverse=True)
    au_names = list(au_columns(table.columns))
    unknown = np.full(len(au_names), np.nan)
    level = np.array([levels.get(int(face_id), unknown) for face_id in ids])
    level = level.reshape(-1, len(au_names))[row_of_id]
    values = subtract_baseline(table[au_names].to_numpy(np.float32), level, neutral_point(thresholds))
    active = apply_thresholds(values, table["reason"].eq("").to_numpy() | keep_all, thresholds)
    columns = {
        **dict(zip(active_columns(au_names), active.T, strict=True)),
        **dict(zip(baseline_columns(au_names), values.T, strict=True)),
    }
    return table.assign(**columns)


def replace_baseline(
    table: pd.DataFrame, baseline: Baseline | None, thresholds: Sequence[float], keep_all: bool
) -> pd.DataFrame:
    """Return the table with this baseline instead of its own; None: without a baseline."""
    au_names = list(au_columns(table.columns))
    table = table.drop(columns=baseline_columns(au_names), errors="ignore")
    if baseline is not None:
        levels = resting_levels(table, baseline, keep_all)
        return add_baseline_columns(table, levels, thresholds, keep_all)
    values = table[au_names].to_numpy(np.float32)
    active = apply_thresholds(values, table["reason"].eq("").to_numpy() | keep_all, thresholds)
    return table.assign(**dict(zip(active_columns(au_names), active.T, strict=True)))
