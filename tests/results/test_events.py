"""Events equal those of a plain loop, and those of small cases worked out by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.events import EVENT_COLUMNS, EventSettings, Speech, find_events
from auscan.results.table import TrackScores, build_table, frame_durations_s

MakeTrack = Callable[..., TrackScores]
RATE_HZ = 20  # a frame lasts 0.05 s
HALF = (0.5,) * 12
AU12 = AFFWILD2_AUS.index("AU12")
PLAIN = EventSettings(release=0.5, shortest_s=0, bridge_s=0.1)


def table_of(curves: dict[int, Sequence[float | None]], times_s: np.ndarray | None = None) -> pd.DataFrame:
    """Return a table with AU12 of each face, from frame 0; None: no face. The other AUs are 0.1."""
    count = max(len(curve) for curve in curves.values())
    times_s = np.arange(count) / RATE_HZ if times_s is None else times_s
    tracks = []
    for face_id, curve in curves.items():
        frames = np.array([i for i, value in enumerate(curve) if value is not None], np.int64)
        probabilities = np.full((len(frames), 12), 0.1, np.float32)
        probabilities[:, AU12] = [curve[i] for i in frames]
        quality_features = np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (len(frames), 1))
        place = np.zeros((len(frames), 4), np.float32), np.zeros((len(frames), 5, 2), np.float32)
        tracks.append(TrackScores(face_id, frames, *place, place[0][:, 0], quality_features, probabilities))
    return build_table(times_s, tracks, HALF)


def frames_of(events: pd.DataFrame) -> list[tuple[int, int, int]]:
    """Return onset, apex and offset frame of each event."""
    return list(events[["onset_frame", "apex_frame", "offset_frame"]].itertuples(index=False, name=None))


def reference_events(
    table: pd.DataFrame, name: str, threshold: float, settings: EventSettings
) -> list[tuple[int, int, int, int, float, float]]:
    """Find events row by row: face, first, apex and last frame, mean, peak."""
    times_s = table.drop_duplicates("frame")["timestamp"].to_numpy()
    ends_s = times_s + frame_durations_s(times_s)
    events = []
    for face_id in sorted(set(table["face_id"]) - {-1}):
        rows = table[(table["face_id"] == face_id) & table[f"{name}_c"].notna()]
        event: list[tuple[int, float]] = []
        runs = []
        for frame, value in zip(rows["frame"], rows[name], strict=True):
            if event and times_s[frame] - ends_s[event[-1][0]] > settings.bridge_s + 1e-6:
                runs.append(event)
                event = []
            line = np.float32(threshold) * np.float32(settings.release if event else 1.0)
            if value >= line:
                event.append((frame, value))
            elif event:
                runs.append(event)
                event = []
        runs += [event] if event else []
        for run in runs:
            lasts_s = ends_s[run[-1][0]] - times_s[run[0][0]]
            if lasts_s > 0 and lasts_s >= settings.shortest_s - 1e-6:
                values = [value for _, value in run]
                apex = run[int(np.argmax(values))][0]
                events.append((face_id, run[0][0], apex, run[-1][0], float(np.mean(values)), max(values)))
    return events


curve = st.lists(st.sampled_from([None, 0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9]), min_size=1, max_size=30)


@given(
    st.lists(curve, min_size=1, max_size=3),
    st.floats(0.05, 1.0),
    st.sampled_from([0.0, 0.1, 0.2]),
    st.sampled_from([0.0, 0.05, 0.12, 0.3]),
    st.integers(0, 5),
)
def test_events_equal_those_of_a_plain_loop(
    curves: list[list[float | None]], release: float, shortest_s: float, bridge_s: float, seed: int
) -> None:
    count = max(len(each) for each in curves)
    steps = np.random.default_rng(seed).choice([0.0, 0.04, 0.05, 0.2], count)
    table = table_of(dict(enumerate(curves)), 3 + np.cumsum(steps))
    settings = EventSettings(release=release, shortest_s=shortest_s, bridge_s=bridge_s)
    found = find_events(table, HALF, settings)
    expected = reference_events(table, "AU12", 0.5, settings)
    assert set(found["AU"]) <= {"AU12"}
    got = found[["face_id", "onset_frame", "apex_frame", "offset_frame"]]
    assert list(got.itertuples(index=False, name=None)) == [event[:4] for event in expected]
    assert found["mean"].tolist() == pytest.approx([event[4] for event in expected])
    assert found["peak"].tolist() == pytest.approx([event[5] for event in expected])


def test_times_are_those_of_the_container_and_the_offset_is_the_end_of_the_last_frame() -> None:
    times_s = np.array([7.0, 7.1, 7.15, 7.4, 7.45])
    events = find_events(table_of({0: [0.1, 0.6, 0.9, 0.1, 0.1]}, times_s), HALF)
    assert tuple(events.columns) == EVENT_COLUMNS
    (event,) = events.to_dict("records")
    assert (event["onset"], event["apex"], event["offset"]) == (7.1, 7.15, 7.4)
    assert event["duration"] == pytest.approx(0.3)
    assert (event["mean"], event["peak"]) == (pytest.approx(0.75), pytest.approx(0.9))
    assert np.isnan(event["speech"])


def test_a_curve_that_crosses_its_threshold_repeatedly_is_one_event() -> None:
    table = table_of({0: [0.1, 0.6, 0.4, 0.6, 0.4, 0.1, 0.4]})
    assert frames_of(find_events(table, HALF, PLAIN)) == [(1, 1, 4)]
    assert len(find_events(table, HALF, replace(PLAIN, release=1.0))) == 2


def test_a_curve_that_only_reaches_the_lower_line_is_not_an_event() -> None:
    assert find_events(table_of({0: [0.4, 0.4, 0.4]}), HALF, PLAIN).empty


def test_events_that_are_too_short_are_dropped() -> None:
    table = table_of({0: [0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9]})
    assert frames_of(find_events(table, HALF, replace(PLAIN, shortest_s=0.1))) == [(2, 2, 3), (5, 5, 7)]


def test_three_frames_at_thirty_per_second_last_a_tenth_of_a_second() -> None:
    """Timestamps are rounded to the container's clock, and float sums are not exact."""
    times_s = np.round(np.arange(60) / 30 * 90_000) / 90_000 + 1 / 3
    table = table_of({0: [0.1, *[0.9, 0.9, 0.9, 0.1] * 14, 0.1, 0.1]}, times_s)
    assert len(find_events(table, HALF, EventSettings(shortest_s=0.1))) == 14


def test_a_short_gap_without_the_face_is_bridged_and_a_long_one_ends_the_event() -> None:
    gone: list[float | None] = [None]
    table = table_of({0: [0.9, *gone * 2, 0.3, *gone * 3, 0.4, 0.9]})
    events = find_events(table, HALF, PLAIN)
    assert frames_of(events) == [(0, 0, 3), (8, 8, 8)]
    assert events["duration"].tolist() == pytest.approx([0.2, 0.05])
    assert events["mean"][0] == pytest.approx(0.6)


def test_unscored_rows_are_unknown_like_rows_without_a_face() -> None:
    table = table_of({0: [0.9, 0.9, 0.9, 0.9, 0.9, 0.9]})
    table.loc[2:4, "AU12_c"] = np.nan
    assert frames_of(find_events(table, HALF, PLAIN)) == [(0, 0, 1), (5, 5, 5)]
    assert frames_of(find_events(table, HALF, replace(PLAIN, bridge_s=0.15))) == [(0, 0, 5)]


def test_events_use_the_values_above_the_baseline_if_there_is_one() -> None:
    table = table_of({0: [0.9, 0.9, 0.9]})
    for name in AFFWILD2_AUS:
        table[f"{name}_b"] = np.float32(0.1)
    table["AU12_b"] = np.float32([0.1, 0.9, 0.9])
    assert frames_of(find_events(table, HALF, PLAIN)) == [(1, 1, 2)]


def test_events_are_sorted_by_face_then_au_then_time(make_track: MakeTrack) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((200, 12)).astype(np.float32)
    tracks = [replace(make_track(i, list(range(200))), probabilities=values) for i in (2, 0)]
    events = find_events(build_table(np.arange(200) / 25, tracks, HALF), HALF, PLAIN)
    key = events.assign(au=[AFFWILD2_AUS.index(name) for name in events["AU"]])[["face_id", "au", "onset"]]
    assert set(events["AU"]) == set(AFFWILD2_AUS)
    assert key.equals(key.sort_values(["face_id", "au", "onset"]))


def test_an_untrained_au_has_no_events(make_track: MakeTrack) -> None:
    events = find_events(
        build_table(np.arange(9) / 25, [make_track(0, list(range(9)))], HALF), (0.0,) * 12, PLAIN
    )
    assert set(AFFWILD2_AUS) - set(events["AU"]) == {"AU23"}


@pytest.mark.parametrize("curves", [{0: [None, None]}, {0: [0.9]}, {0: [0.1, 0.1]}])
def test_there_are_no_events_without_faces_without_duration_or_without_activity(
    curves: dict[int, list[float | None]],
) -> None:
    events = find_events(
        table_of(curves), HALF, speech=Speech(0.0, 0.02, np.zeros(3, np.float32), np.ones(3, bool))
    )
    assert events.empty
    assert tuple(events.columns) == EVENT_COLUMNS


def test_an_event_has_its_share_of_speech() -> None:
    """Speech from 0.1 to 0.3 s; the event from 0.25 to 0.45 s."""
    table = table_of({0: [*[0.1] * 5, *[0.9] * 4, 0.1]})
    spoken = np.zeros(50, bool)
    spoken[5:15] = True
    speech = Speech(0.0, 0.02, np.zeros(50, np.float32), spoken)
    assert find_events(table, HALF, speech=speech)["speech"].tolist() == pytest.approx([0.25])
    late = Speech(0.35, 0.02, np.zeros(50, np.float32), np.ones(50, bool))
    assert find_events(table, HALF, speech=late)["speech"].tolist() == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"release": 0.0}, "release"), ({"shortest_s": -1.0}, "shortest_s"), ({"bridge_s": np.inf}, "bridge_s")],
)
def test_invalid_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EventSettings(**change)


def test_a_wrong_number_of_thresholds_is_refused() -> None:
    with pytest.raises(InputError, match="12 thresholds"):
        find_events(table_of({0: [0.1]}), (0.5,))


def test_an_event_ends_at_a_pause_and_begins_again_after_it() -> None:
    """One event lasted for the 97 s of a pause."""
    times_s = np.arange(20) / 25 + 97 * (np.arange(20) >= 10)
    table = table_of({0: [0.9] * 20}, times_s)
    events = find_events(table, (0.5,) * 12)
    events = events[events["AU"] == events["AU"].iloc[0]]
    assert events["onset"].tolist() == pytest.approx([0.0, times_s[10]])
    assert events["duration"].tolist() == pytest.approx([0.4, 0.4])
