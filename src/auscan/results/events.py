"""Find events in probabilities: onset, apex and offset of each activation of an AU.

Human coders code events, not frames. A curve that fluctuates about its threshold is one event, not ten.

    onset     the probability reaches the AU's threshold
    offset    the probability falls below a lower line, `release` times the threshold (hysteresis)
    unknown   frames without the face, and frames in which it is not scored, never begin an event. A gap of
              at most `bridge_s` is bridged: the event continues if the next known probability is not below
              the lower line, and the gap counts as part of its duration. A longer gap ends the event at its
              last known frame; then the threshold must be reached again
    duration  events shorter than `shortest_s` are dropped

If the table has values above a person baseline (`AU01_b` and so on), these are used.

Inputs: the table of a result, thresholds, and speech if there is audio.
Returns: one row for each event.
See also: baseline.py, docs/events.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.errors import InputError
from auscan.results.speech import Speech
from auscan.results.table import ACTIVE_COLUMNS, frame_durations_s, value_column

EVENTS_FILE: Final[str] = "events.csv"
"""File name in the folder of a result."""
EVENT_COLUMNS: Final[tuple[str, ...]] = (
    *("face_id", "AU"),
    *("onset", "apex", "offset", "duration"),
    *("onset_frame", "apex_frame", "offset_frame"),
    *("mean", "peak", "speech"),
)
"""Columns of the events, in this order."""

ROUNDING_S: Final[float] = 1e-6
"""Tolerance of durations: timestamps are rounded, and three frames at 30 per second must last 0.1 s."""


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """Settings of event detection; see the module docstring and docs/events.md."""

    release: float = 0.75
    """Lower line as a share of the threshold, above 0 and at most 1; 1: no hysteresis."""
    shortest_s: float = 0.1
    """Least duration of an event, seconds."""
    bridge_s: float = 0.25
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

    Rows are sorted by face_id, AU (in the order of AU_NAMES) and onset.
    thresholds: [A], those of the result (`result.info.thresholds`) or others. The `AU.._c` of the table only
    tell whether a row was scored.

    onset, apex, offset and duration are seconds, on the container's clock like `timestamp`. The offset is the
    end of the last frame, so durations are above 0. onset_frame, apex_frame and offset_frame are the first
    frame, the frame with the highest probability (the first of equals) and the last frame, inclusive. mean
    and peak are taken over the known probabilities of the event. speech is the share of its time with
    speech, NaN without audio. A picture has no events, because it lasts 0 s.
    Raises InputError unless there are A thresholds.
    """
    if len(thresholds) != AU_COUNT:
        raise InputError(f"There should be {AU_COUNT} thresholds, one for each AU; got {len(thresholds)}.")
    frames = table["frame"].to_numpy()
    _, first, frame_index = np.unique(frames, return_index=True, return_inverse=True)
    starts_s = table["timestamp"].to_numpy(np.float64)
    ends_s = starts_s + frame_durations_s(starts_s[first])[frame_index]
    faces = table["face_id"].to_numpy()
    order = np.lexsort((frames, faces))
    found = []
    for j, name in enumerate(AU_NAMES):
        values = table[value_column(table, name)].to_numpy(np.float32)
        known_rows = order[~(np.isnan(values) | table[ACTIVE_COLUMNS[j]].isna().to_numpy())[order]]
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
    events["AU"] = pd.Series(np.array(AU_NAMES, object)[events["au"].to_numpy(int)], dtype="str")
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
