"""From probabilities to events: when an action unit begins, where it peaks, when it ends.

Why: people code events, not frames. A curve that trembles about its threshold is one event and not ten.

    begins    where the probability reaches the AU's threshold
    lasts     until it falls below a lower line, `release` times the threshold (hysteresis)
    unknown   frames without the face, or in which it is not judged, never begin an event. A stretch of them
              of at most `bridge_s` is passed over: the event goes on if the next known probability is not
              below the lower line, and the stretch counts as part of its time. A longer one ends the event
              at its last known frame, and afterwards the threshold has to be reached anew
    counts    if it lasts at least `shortest_s`

Where the table holds values above a person's baseline (AU01_b and so on), events follow these.
In: a result's table, the thresholds, and speech where there is sound.  Out: a row an event.
Not here: the baseline (baseline.py), drawing.
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
EVENT_COLUMNS: Final[tuple[str, ...]] = (
    *("face_id", "AU"),
    *("onset", "apex", "offset", "duration"),
    *("onset_frame", "apex_frame", "offset_frame"),
    *("mean", "peak", "speech"),
)
"""The columns of an event, always these, always in this order."""

ROUNDING_S: Final[float] = 1e-6
"""Timestamps are rounded; three frames of 30 a second last 0.1 s all the same."""


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """What makes an event of a curve; see the top of this file and docs/events.md."""

    release: float = 0.75
    """An event lasts until the probability is below this share of the threshold; 1: no hysteresis."""
    shortest_s: float = 0.1
    """Events that last less are left out."""
    bridge_s: float = 0.25
    """Stretches without a judged face are passed over if they last no longer."""

    def __post_init__(self) -> None:
        if not 0 < self.release <= 1:
            raise InputError(
                f"release is a share of the threshold, above 0 and at most 1; got {self.release}."
            )
        for name in ("shortest_s", "bridge_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} is in seconds, 0 or more; got {getattr(self, name)}.")


DEFAULT_EVENT_SETTINGS: Final[EventSettings] = EventSettings()


def find_events(
    table: pd.DataFrame,
    thresholds: tuple[float, ...],
    settings: EventSettings = DEFAULT_EVENT_SETTINGS,
    speech: Speech | None = None,
) -> pd.DataFrame:
    """The events of each face and AU in a result's table: `EVENT_COLUMNS`, a row an event.

    Sorted by face_id, AU (in AU_NAMES' order) and onset.
    thresholds: [A] of the result (`result.info.thresholds`), or others; a table alone does not hold them, and
    its `AU.._c` are asked only whether a row was judged.

    onset, apex, offset and duration are seconds, on the container's clock like `timestamp`. The offset is the
    end of the last frame, so a duration is above 0; onset_frame, apex_frame and offset_frame are the first,
    the highest (the first of equals) and the last frame of the event, inclusive. mean and peak are of the
    known probabilities in it. speech is the share of its time in which somebody speaks, NaN without sound.
    A picture lasts no time and has no events. Raises InputError for thresholds that are not twelve.
    """
    if len(thresholds) != AU_COUNT:
        raise InputError(f"There are {AU_COUNT} thresholds, one for each AU; got {len(thresholds)}.")
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
    """Known probabilities of one AU, face by face in the order of frames. K rows."""

    face_id: NDArray[np.int64]
    frame: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    value: NDArray[np.float32]


def _events(curve: _Curve, threshold: np.float32, settings: EventSettings) -> pd.DataFrame:
    """The events of one AU; all columns but AU and speech."""
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
    """First and last row of each stretch in which the AU is on, [E] each, of any length."""
    above_threshold, above_release = (
        curve.value >= threshold,
        curve.value >= np.float32(settings.release) * threshold,
    )
    gap_s = curve.start_s[1:] - curve.end_s[:-1]
    starts_run = np.ones(len(above_threshold), bool)  # nothing is known of what was before this row
    starts_run[1:] = (curve.face_id[1:] != curve.face_id[:-1]) | (gap_s > settings.bridge_s + ROUNDING_S)
    # Where a row alone decides, it is reached, or it is not held; all others are as the last that did.
    is_determined = above_threshold | ~above_release | starts_run
    last_determined = np.maximum.accumulate(np.where(is_determined, np.arange(len(above_threshold)), 0))
    active = above_threshold[last_determined]
    first = active.copy()
    first[1:] &= starts_run[1:] | ~active[:-1]
    last = active.copy()
    last[:-1] &= starts_run[1:] | ~active[1:]
    return np.flatnonzero(first), np.flatnonzero(last)
