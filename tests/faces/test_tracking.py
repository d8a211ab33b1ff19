"""Tracking: a face keeps its face_id from frame to frame.

Tracking with detections on keyframes finds the changes between keyframes.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from auscan.faces.detector import Detection
from auscan.faces.tracking import LONGEST_STEP_S, FaceTracker, KeyframeTracker, TrackingClock, track_faces
from auscan.results.table import LONGEST_FRAME_S


def face(x: float, y: float = 100.0, size: float = 60.0, score: float = 0.9) -> Detection:
    """Return a synthetic detection with its upper left corner at x, y px."""
    box = np.array([x, y, size, size], dtype=np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * size + [x, y]
    return Detection(box, score, points.astype(np.float32))


def ids(tracker: FaceTracker, *frames: list[Detection], rate_hz: float = 25.0) -> list[list[int]]:
    """Return the face_ids of each frame."""
    return [[f.face_id for f in tracker.update(faces, i / rate_hz)] for i, faces in enumerate(frames)]


def test_ids_count_up_from_zero_and_are_kept():
    assert ids(FaceTracker(), [face(0), face(200)], [face(203), face(2)], [face(4), face(206)]) == [
        [0, 1],
        [0, 1],
        [0, 1],
    ]


def test_a_tracked_face_has_the_values_of_its_detection():
    detection = face(10)
    (tracked,) = FaceTracker().update([detection], 0.0)
    assert (tracked.face_id, tracked.score) == (0, 0.9)
    np.testing.assert_array_equal(tracked.box, detection.box)
    np.testing.assert_array_equal(tracked.points, detection.points)


def test_a_single_frame_needs_no_confirmation():
    assert ids(FaceTracker(), [face(10)]) == [[0]]


def test_a_weak_detection_starts_no_track_but_continues_one():
    assert ids(FaceTracker(), [face(10, score=0.4)], [face(10)], [face(10, score=0.4)]) == [[], [0], [0]]


def test_a_very_weak_detection_is_dropped_even_on_a_track():
    assert ids(FaceTracker(), [face(10)], [face(10, score=0.2)]) == [[0], []]


@pytest.mark.parametrize("rate_hz", [5.0, 25.0, 120.0])
def test_a_gap_of_nearly_a_second_is_bridged_at_any_frame_rate(rate_hz):
    gap = [[] for _ in range(int(0.9 * rate_hz))]
    assert ids(FaceTracker(), [face(10)], *gap, [face(12)], rate_hz=rate_hz)[-1] == [0]


def test_a_face_that_returns_after_a_longer_gap_gets_a_new_id():
    assert ids(FaceTracker(), [face(10)], *([[]] * 40), [face(10)])[-1] == [1]


def test_a_moving_face_keeps_its_id_after_a_gap():
    """Without the predicted velocity, the face is two widths away from its last detection."""
    walking = [[face(8.0 * i)] for i in range(25)]
    assert ids(FaceTracker(), *walking, *([[]] * 15), [face(8.0 * 40)])[-1] == [0]


def test_two_faces_that_pass_each_other_keep_their_ids():
    frames = [[face(8.0 * i, y=100), face(400 - 8.0 * i, y=130)] for i in range(50)]
    tracker = FaceTracker()
    for i, frame in enumerate(frames):
        tracked = tracker.update(frame, i / 25)
        assert [f.box[1] for f in tracked] == [100, 130]


def test_a_face_far_from_all_others_is_a_new_one():
    assert ids(FaceTracker(), [face(0)], [face(500)]) == [[0], [1]]


def test_times_that_repeat_or_decrease_are_no_error():
    tracker = FaceTracker()
    assert [[f.face_id for f in tracker.update([face(5)], t)] for t in (1.0, 1.0, 0.9, 1.1)] == [[0]] * 4


@pytest.mark.parametrize("rate_hz", [25.0, 120.0])
def test_a_gap_of_a_little_more_than_a_second_ends_a_track_at_any_frame_rate(rate_hz):
    gap = [[] for _ in range(int(1.05 * rate_hz))]
    assert ids(FaceTracker(), [face(10)], *gap, [face(10)], rate_hz=rate_hz)[-1] == [1]


def test_a_box_that_overlaps_by_less_than_a_fifth_is_another_face():
    assert ids(FaceTracker(), [face(0)], [face(38)]) == [[0], [0]]  # IoU 0.22
    assert ids(FaceTracker(), [face(0)], [face(42)]) == [[0], [1]]  # IoU 0.18


def test_two_poor_pairs_do_not_replace_a_good_one():
    """Face 0 overlaps the second box by 0.25; the pairs (0, first) and (1, second) overlap by 0.19 each."""
    tracker = FaceTracker()
    tracker.update([face(0), face(77)], 0.0)
    tracked = tracker.update([face(-41), face(36)], 0.04)
    assert [(each.face_id, each.box[0]) for each in tracked] == [(0, 36), (2, -41)]


@dataclass(frozen=True)
class NumberedFrame:
    """A frame whose image is its number, so that the fake detector can identify it."""

    index: int

    @property
    def image(self):
        return np.full((1, 1, 3), self.index, np.uint8)

    @property
    def time_s(self):
        return self.index / 25


class ScriptedDetector:
    """Fake detector that returns faces of 60 px at given x positions (px) and records its calls.

    whole: numbers of the frames detected as a whole    near_calls: number of the frame and x of the box
    finds_near: False if `detect_near` finds no face
    """

    def __init__(self, faces_x, finds_near=True):
        self.faces_x, self.finds_near, self.whole, self.near_calls = faces_x, finds_near, [], []

    @property
    def frames_seen(self):
        return [*self.whole, *dict.fromkeys(index for index, _ in self.near_calls)]

    def __call__(self, image):
        index = int(image[0, 0, 0])
        self.whole.append(index)
        return self._faces(index)

    def detect_near(self, image, box):
        index = int(image[0, 0, 0])
        self.near_calls.append((index, float(box[0])))
        close = [face for face in self._faces(index) if abs(face.box[0] - box[0]) < 30]
        return close[0] if close and self.finds_near else None

    def _faces(self, index):
        offsets = np.array([[18, 24], [42, 24], [30, 36], [21, 48], [39, 48]], np.float32)
        return [
            Detection(np.array([x, 100, 60, 60], np.float32), 0.9, offsets + np.float32([x, 100]))
            for x in self.faces_x[index]
        ]


def track_all(script: ScriptedDetector, count: int | None = None, stride: int = 4):
    frames = (NumberedFrame(i) for i in range(len(script.faces_x) if count is None else count))
    return [(frame.index, faces) for frame, faces in track_faces(frames, script, stride=stride)]


def test_a_still_face_is_detected_on_every_fourth_frame_and_present_in_all():
    script = ScriptedDetector([[50.0]] * 13)
    tracked = track_all(script)
    assert script.frames_seen == [0, 4, 8, 12]
    assert [index for index, _ in tracked] == list(range(13))
    assert all([face.face_id for face in faces] == [0] for _, faces in tracked)


def test_a_slow_face_is_on_the_straight_line_between_two_detections():
    tracked = track_all(ScriptedDetector([[50.0 + 2 * i] for i in range(9)]))
    for index, (face,) in tracked:
        np.testing.assert_allclose(face.box, [50 + 2 * index, 100, 60, 60], atol=1e-3)
        np.testing.assert_allclose(face.points[0], [68 + 2 * index, 124], atol=1e-3)
        assert face.score == pytest.approx(0.9)


def test_a_fast_face_is_detected_in_every_frame():
    script = ScriptedDetector([[50.0 + 9 * i] for i in range(9)])
    tracked = track_all(script)
    assert sorted(script.frames_seen) == list(range(9))
    assert script.whole == [0, 4, 8]
    assert all([face.face_id for face in faces] == [0] for _, faces in tracked)


def test_when_a_face_appears_or_disappears_frames_are_detected_at_most_once():
    script = ScriptedDetector([[50.0]] * 6 + [[]] * 8 + [[50.0]] * 7)
    tracked = track_all(script)
    assert [len(faces) for _, faces in tracked] == [1] * 6 + [0] * 8 + [1] * 7
    assert len(script.frames_seen) == len(set(script.frames_seen)) < len(tracked)


def test_no_face_at_both_ends_means_none_in_between():
    script = ScriptedDetector([[]] * 9)
    assert [faces for _, faces in track_all(script)] == [[]] * 9
    assert script.frames_seen == [0, 4, 8]


@pytest.mark.parametrize("count", range(1, 11))
def test_any_number_of_last_frames_is_tracked_like_the_others(count):
    script = ScriptedDetector([[50.0]] * 10)
    tracked = track_all(script, count)
    assert [index for index, _ in tracked] == list(range(count))
    assert all(len(faces) == 1 for _, faces in tracked)
    assert script.frames_seen[-1] == count - 1


def test_no_frames_yield_nothing():
    assert track_all(ScriptedDetector([])) == []


def test_stride_one_equals_the_tracker_on_every_frame():
    faces_x = [[50.0 + 9 * i] if i % 7 else [] for i in range(30)]
    tracker, script = FaceTracker(), ScriptedDetector(faces_x)
    expected = [
        [f.face_id for f in tracker.update(script(NumberedFrame(i).image), i / 25)] for i in range(30)
    ]
    assert [
        [f.face_id for f in faces] for _, faces in track_all(ScriptedDetector(faces_x), stride=1)
    ] == expected


def test_moving_faces_get_the_same_ids_as_with_detection_on_every_frame():
    """Frames between keyframes must be tracked in order, from the state before the last keyframe."""
    random = np.random.default_rng(0)
    x = np.cumsum(random.normal(0, 14, 60)) + 300
    faces_x = [[float(x[i])] + ([900.0] if 20 <= i < 37 else []) for i in range(60)]
    sparse, dense = track_all(ScriptedDetector(faces_x)), track_all(ScriptedDetector(faces_x), stride=1)
    for (_, a), (_, b) in zip(sparse, dense, strict=True):
        assert [face.face_id for face in a] == [face.face_id for face in b]
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=30)


def test_frames_are_returned_before_the_video_ends():
    """At most `stride` frames may be kept, or a long video would not fit into memory."""
    read = []

    def frames():
        for i in range(200):
            read.append(i)
            yield NumberedFrame(i)

    for frame, _ in track_faces(frames(), ScriptedDetector([[50.0]] * 200), stride=4):
        assert len(read) - frame.index <= 4


def test_frames_pushed_one_by_one_get_the_same_faces():
    """A live video is tracked like a file, with a delay of at most `stride` frames."""
    faces_x = [[50.0 + 9 * i] if 8 < i < 20 else [50.0] for i in range(31)]
    tracker, pushed = KeyframeTracker(ScriptedDetector(faces_x), stride=4), []
    for i in range(31):
        pushed += tracker.push(NumberedFrame(i))
        assert i - 4 < len(pushed) - 1 <= i
    pushed += tracker.finish()
    assert tracker.finish() == []
    expected = track_all(ScriptedDetector(faces_x))
    assert [frame.index for frame, _ in pushed] == [index for index, _ in expected]
    for (_, faces), (_, same) in zip(pushed, expected, strict=True):
        assert [face.face_id for face in faces] == [face.face_id for face in same]
        for a, b in zip(faces, same, strict=True):
            np.testing.assert_array_equal(a.points, b.points)


def test_a_longer_stride_adds_keyframes_only_around_a_movement():
    """A jump within sixteen frames is found by bisection, not by detection on every frame."""
    script = ScriptedDetector([[50.0]] * 12 + [[200.0]] * 21)
    tracked = track_all(script, stride=16)
    assert [round(float(face.box[0])) for _, (face,) in tracked] == [50] * 12 + [200] * 21
    assert len(script.frames_seen) <= 9


def test_between_keyframes_with_the_same_faces_only_their_surroundings_are_searched():
    script = ScriptedDetector([[50.0 + 9 * i, 900.0 - 9 * i] for i in range(5)])
    tracked = track_all(script)
    assert script.whole == [0, 4]
    assert script.near_calls[:2] == [(2, pytest.approx(68)), (2, pytest.approx(882))]
    for index, (one, other) in tracked:
        assert (one.box[0], other.box[0]) == (pytest.approx(50 + 9 * index), pytest.approx(900 - 9 * index))


def test_if_the_surroundings_have_no_face_the_whole_frame_is_searched():
    script = ScriptedDetector([[50.0 + 9 * i] for i in range(5)], finds_near=False)
    tracked = track_all(script)
    assert sorted(script.whole) == list(range(5))
    assert [round(float(face.box[0])) for _, (face,) in tracked] == [50, 59, 68, 77, 86]


def test_many_faces_are_detected_in_the_whole_frame():
    script = ScriptedDetector([[100.0 * k + 9 * i for k in range(5)] for i in range(5)])
    track_all(script)
    assert script.near_calls == []
    assert sorted(script.whole) == list(range(5))


def test_a_still_face_beside_a_moving_one_is_not_searched():
    script = ScriptedDetector([[50.0 + 9 * i, 900.0] for i in range(5)])
    tracked = track_all(script)
    assert script.whole == [0, 4]
    assert {round(x) for _, x in script.near_calls} == {59, 68, 77}
    assert all([face.face_id for face in faces] == [0, 1] for _, faces in tracked)
    assert all(faces[1].box[0] == 900 for _, faces in tracked)


def test_by_default_every_eighth_frame_is_a_keyframe():
    script = ScriptedDetector([[50.0]] * 20)
    assert len(list(track_faces(map(NumberedFrame, range(20)), script))) == 20
    assert script.whole == [0, 8, 16, 19]


def test_only_a_face_that_moves_by_less_than_a_twentyfifth_of_its_box_is_interpolated():
    """The face jumps between the last two frames, so linear interpolation would be wrong."""
    script = ScriptedDetector([[50.0]] * 4 + [[52.0]])  # 0.033 of 60 px
    assert [round(float(face.box[0]), 3) for _, (face,) in track_all(script)] == [50, 50.5, 51, 51.5, 52]
    assert script.frames_seen == [0, 4]
    script = ScriptedDetector([[50.0]] * 4 + [[53.0]])  # 0.05 of 60 px
    assert [round(float(face.box[0]), 3) for _, (face,) in track_all(script)] == [50, 50, 50, 50, 53]


@dataclass(frozen=True)
class TimedFrame:
    """A frame whose image is its number, at any time."""

    index: int
    time_s: float

    @property
    def image(self):
        return np.full((1, 1, 3), self.index, np.uint8)


def timed_frames(times_s):
    return [TimedFrame(i, float(time_s)) for i, time_s in enumerate(times_s)]


@pytest.mark.parametrize("rate_hz", [24000 / 1001, 24, 25, 30000 / 1001, 30])
def test_eight_frames_lie_between_keyframes_at_ordinary_rates(rate_hz):
    script = ScriptedDetector([[50.0]] * 40)
    list(track_faces(timed_frames(np.round(np.arange(33) / rate_hz, 3)), script))
    assert script.whole == [0, 8, 16, 24, 32]


@pytest.mark.parametrize(
    ("rate_hz", "frames"),
    [(0.5, 1), (1000 / 1001, 1), (5, 1), (10, 3), (15, 5), (50, 10), (60, 12), (240, 16)],
)
def test_keyframes_follow_each_other_within_a_third_of_a_second_at_other_rates(rate_hz, frames):
    """The distance was eight frames at any rate: 16 s at one frame in two seconds."""
    script = ScriptedDetector([[50.0]] * 100)
    tracked = list(track_faces(timed_frames(np.arange(97) / rate_hz), script))
    assert [frame.index for frame, _ in tracked] == list(range(97))
    assert script.whole[:5] == [0, frames, 2 * frames, 3 * frames, 4 * frames]


@pytest.mark.parametrize(
    "times_s",
    [
        np.arange(20) / 0.5,
        np.arange(20) * 1.001,
        np.arange(100) / 25 + 3 * (np.arange(100) >= 41),
        np.arange(100) / 25 + 97 * (np.arange(100) >= 41),
    ],
    ids=["0.5 fps", "1000/1001 fps", "frozen for 3 s", "a pause of 97 s"],
)
def test_a_face_is_not_unseen_between_frames(times_s):
    """It got a new face_id in each frame, or after each pause."""
    script = ScriptedDetector([[50.0 + i] for i in range(len(times_s))])
    tracked = list(track_faces(timed_frames(times_s), script))
    assert [[face.face_id for face in faces] for _, faces in tracked] == [[0]] * len(times_s)


def test_a_face_that_is_missing_in_many_slow_frames_gets_a_new_id():
    script = ScriptedDetector([[50.0]] * 3 + [[]] * 5 + [[50.0]] * 3)
    tracked = list(track_faces(timed_frames(np.arange(11) * 2.0), script))
    assert [[face.face_id for face in faces] for _, faces in tracked] == [[0]] * 3 + [[]] * 5 + [[1]] * 3


def test_the_last_frame_before_a_pause_is_a_keyframe():
    """The picture after a pause says nothing about the frames before it."""
    times_s = np.arange(20) / 25 + 5 * (np.arange(20) >= 12)
    script = ScriptedDetector([[50.0]] * 20)
    list(track_faces(timed_frames(times_s), script))
    assert script.whole == [0, 8, 11, 12, 19]


def test_the_clock_of_tracks_equals_that_of_the_frames_up_to_the_first_pause():
    clock = TrackingClock()
    assert [clock.at(time_s) for time_s in (0.3, 0.34, 0.5, 10.5, 10.54)] == pytest.approx(
        [0.3, 0.34, 0.5, 0.75, 0.79], abs=1e-12
    )
    assert LONGEST_STEP_S == LONGEST_FRAME_S
