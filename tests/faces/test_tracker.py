"""Tracking: a face keeps its face_id from frame to frame."""

import numpy as np
import pytest

from auscan.faces.detector import Detection
from auscan.faces.tracker import FaceTracker


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
