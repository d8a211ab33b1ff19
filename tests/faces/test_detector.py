"""Overlap of boxes, and detection of faces in one image."""

import cv2
import numpy as np
import pytest

from auscan.core.errors import AuscanError
from auscan.faces.detector import Detection, FaceDetector, _non_maximum_suppression, overlap


def test_overlap_is_one_for_equal_boxes_a_third_for_half_shifted_and_zero_for_separate_ones():
    box = np.array([[10.0, 20.0, 8.0, 4.0]])
    others = np.array([[10, 20, 8, 4], [14, 20, 8, 4], [18, 20, 8, 4], [100, 100, 8, 4]], dtype=float)
    np.testing.assert_allclose(overlap(box, others), [[1, 1 / 3, 0, 0]])


def test_overlap_of_empty_boxes_and_of_no_boxes_is_defined():
    assert overlap(np.zeros((1, 4)), np.zeros((1, 4))) == 0
    assert overlap(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


EYES_X = (206, 247)
"""x of the eyes of the portrait, px."""


def test_the_face_of_the_portrait_is_found_once_with_its_points_in_order(detector, portrait):
    (face,) = detector(portrait)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.points
    assert face.score > 0.7
    assert abs(left_eye[0] - EYES_X[0]) < 5
    assert abs(right_eye[0] - EYES_X[1]) < 5
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    x, y, width, height = face.box
    assert x < left_eye[0] < right_eye[0] < x + width
    assert y < left_eye[1] < left_mouth[1] < y + height
    assert face.points.dtype == face.box.dtype == np.float32


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_box_and_points_are_in_pixels_of_the_given_image_at_any_size(detector, portrait, scale):
    (face,) = detector(portrait)
    (scaled,) = detector(cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    np.testing.assert_allclose(scaled.points / scale, face.points, atol=4)
    np.testing.assert_allclose(scaled.box / scale, face.box, atol=12)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_detect_near_finds_a_face_as_in_the_whole_picture(detector, portrait, scale):
    image = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (face,) = detector(image)
    near = detector.detect_near(image, face.box + np.float32([0.1, -0.1, 0, 0]) * face.box[2])
    assert near is not None
    eyes = np.linalg.norm(face.points[1] - face.points[0])
    assert np.abs(near.points - face.points).max() < 0.15 * eyes
    assert near.score > 0.6
    assert near.box.dtype == near.points.dtype == np.float32


def test_detect_near_finds_no_face_in_an_empty_place(detector, portrait):
    assert detector.detect_near(portrait, np.float32([300, 350, 90, 110])) is None
    assert detector.detect_near(portrait, np.float32([-500, -500, 90, 110])) is None


def test_detect_near_finds_a_face_at_the_edge(detector, portrait):
    (face,) = detector(portrait)
    cut = portrait[:, 195:]  # half of the cheek is outside
    near = detector.detect_near(cut, face.box - np.float32([195, 0, 0, 0]))
    assert near is not None
    assert np.abs(near.points[1] + [195, 0] - face.points[1]).max() < 8


@pytest.mark.parametrize("side", [96, 224])
def test_a_face_that_fills_the_picture_is_found(detector, portrait, side):
    tight = cv2.resize(portrait[55:185, 160:290], (side, side), interpolation=cv2.INTER_AREA)
    (face,) = detector(tight)
    assert abs(face.points[0, 0] / side * 130 + 160 - EYES_X[0]) < 6


def test_two_faces_side_by_side_are_two_faces(detector, portrait):
    faces = detector(np.concatenate([portrait, portrait[:, ::-1]], axis=1))
    assert sorted(face.points[2, 0] // 512 for face in faces) == [0, 1]


def test_a_picture_without_a_face_gives_an_empty_list(detector, portrait):
    assert detector(portrait[300:]) == []
    assert detector(np.zeros((240, 320, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (33, 31), (2160, 3840)])
def test_extreme_picture_sizes_are_no_error(detector, shape):
    assert detector(np.full((*shape, 3), 128, np.uint8)) == []


def test_the_error_of_a_missing_network_file_states_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("auscan.faces.detector.NETWORK_FILE", tmp_path / "centerface.onnx")
    with pytest.raises(AuscanError, match="Install auscan again"):
        FaceDetector()


def test_of_two_boxes_that_overlap_by_more_than_three_tenths_the_better_one_is_kept():
    boxes, scores = (
        np.float32([[0, 0, 100, 100], [52, 0, 100, 100], [0, 55, 100, 100]]),
        np.float32([0.8, 0.9, 0.7]),
    )
    assert overlap(boxes, boxes)[0].round(2).tolist() == [1, 0.32, 0.29]
    assert _non_maximum_suppression(boxes, scores) == [1, 2]


def test_detect_near_requires_an_overlap_of_three_tenths(detector, monkeypatch):
    """Detected boxes are in a crop of 128 px, which covers 120 px around the known box."""

    def detections_at(x):
        return [Detection(np.float32([x, 24, 80, 80]), 0.9, np.zeros((5, 2), np.float32))]

    image, box = np.zeros((300, 300, 3), np.uint8), np.float32([100, 100, 80, 80])
    monkeypatch.setattr(detector, "_run", lambda window: detections_at(24 + 40))  # IoU 0.33
    assert detector.detect_near(image, box) is not None
    monkeypatch.setattr(detector, "_run", lambda window: detections_at(24 + 46))  # IoU 0.27
    assert detector.detect_near(image, box) is None
