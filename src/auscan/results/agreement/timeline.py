"""Align two codings on common frames, by time.

The timeline consists of the frames of the coding with the lower frame rate (A's if rates are equal), limited
to the time that both cover. For each of its frames, the other coding is evaluated at the middle of the frame:
the label of the frame shown at that time, or whether an event is active. This handles files with 25 and 30
frames per second, variable rates and times rounded to milliseconds. Two codings that have events only are
sampled at `DEFAULT_RATE_HZ`.

Against a coding that has events only, the labels of a result are those of its own events, so that a result
and the events exported from it are the same. Frames that the result does not know stay unknown.

A file with frame numbers and no times takes times from the other file (frame k from frame k) or from a given
rate. An event coding is assumed to cover the whole video, so it covers as much time as the other coding.

Inputs: two codings.
Returns: the common frames, and both codings on these frames.
See also: agree.py (comparison).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS
from auscan.core.errors import InputError
from auscan.results.events import find_events
from auscan.results.readers.coding import Coding, EventCoding, FrameCoding
from auscan.results.table import LONGEST_FRAME_S, active_columns, before_pause

DEFAULT_RATE_HZ: Final[float] = 25.0
"""Frames per second if neither coding has frames."""


@dataclass(frozen=True, eq=False)
class SharedTimeline:
    """Common frames of two codings. G frames."""

    begin_s: NDArray[np.float64]
    """[G] seconds."""
    end_s: NDArray[np.float64]
    """[G] seconds."""

    @property
    def middle_s(self) -> NDArray[np.float64]:
        """Middle of each frame, [G] seconds."""
        return (self.begin_s + self.end_s) / 2

    @property
    def duration_s(self) -> float:
        """Seconds that the frames last in all, without the pauses between them."""
        return float((self.end_s - self.begin_s).sum())

    def without_pauses(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return times in seconds since the first frame, less the pauses before them."""
        pauses_s = self.begin_s[1:] - self.end_s[:-1]
        pauses_s = np.where(pauses_s > LONGEST_FRAME_S, pauses_s, 0.0)
        before_s = np.concatenate([[0.0], np.cumsum(pauses_s)])  # before each frame
        frame = np.clip(np.searchsorted(self.begin_s, times_s, side="right") - 1, 0, None)
        return np.asarray(np.maximum(times_s - self.begin_s[0] - before_s[frame], 0))


@dataclass(frozen=True, eq=False)
class AlignedCoding:
    """One coding on the G common frames. A: AUs of one or the other coding, in ascending order."""

    au_names: tuple[str, ...]
    """[A]."""
    labels: NDArray[np.float32]
    """[G, A] 1 active, 0 inactive, NaN unknown."""
    probabilities: NDArray[np.float32] | None
    """[G, A] 0 to 1, NaN unknown; None if the coding has none."""
    intensities: NDArray[np.float32] | None
    """[G, A] 0 to 5, NaN unknown; None if the coding has none."""
    events: pd.DataFrame
    """AU, onset, offset (s)."""
    boxes: NDArray[np.float32] | None = None
    """[G, 4] left, top, width, height of the face, px, NaN unknown; None if the coding has none."""


def align_codings(
    a: Coding, b: Coding, rate_hz: float | None = None
) -> tuple[SharedTimeline, AlignedCoding, AlignedCoding]:
    """Return the common frames, and both codings on these frames.

    rate_hz: frames per second of files without times; None: use the times of the other file.
    Raises InputError if there are no times or no time in common.
    """
    a, b = _with_times(a, b, rate_hz), _with_times(b, a, rate_hz)
    a, b = _with_labels_of_events(a, b), _with_labels_of_events(b, a)
    timeline = _shared_timeline(a, b)
    if not len(timeline.begin_s):
        raise InputError(
            f"{a.name} and {b.name} have no time in common. Check that both belong to the same video."
        )
    au_names = tuple(name for name in ACTION_UNITS if name in a.au_names or name in b.au_names)
    return timeline, _align(a, timeline, au_names), _align(b, timeline, au_names)


def _with_times(coding: Coding, other: Coding, rate_hz: float | None) -> Coding:
    """Return the coding with times: its own, from the rate, or from the other coding."""
    if isinstance(coding, EventCoding) or coding.times_s is not None:
        return coding
    if rate_hz is not None:
        return replace(coding, times_s=coding.frames / rate_hz)
    if isinstance(other, EventCoding) or other.times_s is None:
        raise InputError(
            f"{coding.name} has frame numbers but no times, and {other.name} has no frame times either. "
            "Give the frame rate of the video with --fps."
        )
    return replace(coding, times_s=_times_at(coding.frames, other.frames, other.times_s))


def _with_labels_of_events(coding: Coding, other: Coding) -> Coding:
    """Return the coding with the labels of its own events if the other coding has events only."""
    if isinstance(coding, EventCoding) or isinstance(other, FrameCoding) or coding.events is None:
        return coding
    assert coding.times_s is not None
    middle_s = (coding.times_s + _ends_s(coding)) / 2
    labels = coding.labels.copy()
    for j, name in enumerate(coding.au_names):
        spans_s = coding.events.loc[coding.events["AU"] == name, ["onset", "offset"]].to_numpy(np.float64)
        labels[:, j] = np.where(np.isnan(labels[:, j]), np.nan, within(middle_s, spans_s))
    return replace(coding, labels=labels)


def _times_at(
    requested: NDArray[np.int64], frames: NDArray[np.int64], times_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the times of frames, interpolated; extrapolated with the median step beyond known frames."""
    steps_s = np.diff(times_s) / np.diff(frames)
    step_s = float(np.median(steps_s)) if len(steps_s) else 1 / DEFAULT_RATE_HZ
    clipped = np.clip(requested, frames[0], frames[-1])
    return np.asarray(np.interp(clipped, frames, times_s) + (requested - clipped) * step_s)


def _ends_s(coding: FrameCoding) -> NDArray[np.float64]:
    """Return the end of each frame, [T] s.

    It is the median step after its begin if the next index is missing, and before a pause (results/table.py).
    """
    assert coding.times_s is not None
    steps_s, follows = np.diff(coding.times_s), np.diff(coding.frames) == 1
    median_s = float(np.median(steps_s[follows])) if follows.any() else 1 / DEFAULT_RATE_HZ
    follows &= ~before_pause(steps_s, median_s)
    return np.asarray(coding.times_s + np.append(np.where(follows, steps_s, median_s), median_s))


def _shared_timeline(a: Coding, b: Coding) -> SharedTimeline:
    frame_codings = [coding for coding in (a, b) if isinstance(coding, FrameCoding)]
    if not frame_codings:
        event_tables = [each.events for each in (a, b) if each.events is not None and len(each.events)]
        last_s = max((float(events["offset"].max()) for events in event_tables), default=0.0)
        begin_s = np.arange(np.ceil(last_s * DEFAULT_RATE_HZ)) / DEFAULT_RATE_HZ
        return SharedTimeline(begin_s, begin_s + 1 / DEFAULT_RATE_HZ)
    timelines = []
    for coding in frame_codings:
        assert coding.times_s is not None
        timelines.append(SharedTimeline(coding.times_s, _ends_s(coding)))
    steps_s = [float(np.median(timeline.end_s - timeline.begin_s)) for timeline in timelines]
    # Times may be rounded, so rates that differ by less than 1 % count as equal.
    slower = timelines[1] if len(timelines) == 2 and steps_s[1] > 1.01 * steps_s[0] else timelines[0]
    middle_s = slower.middle_s
    inside = np.ones(len(middle_s), bool)
    for timeline in timelines:
        inside &= (middle_s >= timeline.begin_s[0]) & (middle_s < timeline.end_s[-1])
    return SharedTimeline(slower.begin_s[inside], slower.end_s[inside])


def _align(coding: Coding, timeline: SharedTimeline, au_names: tuple[str, ...]) -> AlignedCoding:
    if isinstance(coding, EventCoding):
        return _align_events(coding, timeline, au_names)
    assert coding.times_s is not None
    middle_s = timeline.middle_s
    index = np.searchsorted(coding.times_s, middle_s, side="right") - 1
    is_shown = (index >= 0) & (middle_s < _ends_s(coding)[index])
    own = [au_names.index(name) for name in coding.au_names]

    def at_frames(of_coding: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, A of the coding] -> [G, A], NaN if unknown."""
        aligned = np.full((len(middle_s), len(au_names)), np.nan, np.float32)
        aligned[:, own] = shown(of_coding)
        return aligned

    def shown(of_coding: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, K] -> [G, K], NaN if no frame is shown."""
        return np.where(is_shown[:, None], of_coding[index], np.nan).astype(np.float32)

    values = (coding.probabilities, coding.intensities)
    probabilities, intensities = (None if each is None else at_frames(each) for each in values)
    events = events_from_labels(coding) if coding.events is None else coding.events
    boxes = None if coding.boxes is None else shown(coding.boxes)
    return AlignedCoding(au_names, at_frames(coding.labels), probabilities, intensities, events, boxes)


def _align_events(coding: EventCoding, timeline: SharedTimeline, au_names: tuple[str, ...]) -> AlignedCoding:
    labels = np.full((len(timeline.begin_s), len(au_names)), np.nan, np.float32)  # [G, A]
    for name in coding.au_names:
        spans_s = coding.events.loc[coding.events["AU"] == name, ["onset", "offset"]].to_numpy(np.float64)
        labels[:, au_names.index(name)] = within(timeline.middle_s, spans_s)
    return AlignedCoding(au_names, labels, None, None, coding.events)


def within(times_s: NDArray[np.float64], spans_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each time lies in one of the spans [E, 2] (end excluded), [T] bool."""
    inside = np.zeros(len(times_s), bool)
    for begin, end in np.searchsorted(times_s, spans_s):
        inside[begin:end] = True
    return inside


def events_from_labels(coding: FrameCoding) -> pd.DataFrame:
    """Return the events of frame labels, with the default event settings (results/events.py)."""
    assert coding.times_s is not None
    rows = {"frame": coding.frames, "timestamp": coding.times_s, "face_id": 0}
    table = pd.DataFrame(rows)
    table[list(coding.au_names)] = coding.labels
    table[active_columns(coding.au_names)] = coding.labels
    return find_events(table, (0.5,) * len(coding.au_names))[["AU", "onset", "offset"]]
