"""Overlap of boxes."""

import numpy as np

from auscan.faces.boxes import overlap


def test_overlap_is_one_for_the_same_box_half_way_a_third_and_nothing_apart():
    box = np.array([[10.0, 20.0, 8.0, 4.0]])
    others = np.array([[10, 20, 8, 4], [14, 20, 8, 4], [18, 20, 8, 4], [100, 100, 8, 4]], dtype=float)
    np.testing.assert_allclose(overlap(box, others), [[1, 1 / 3, 0, 0]])


def test_overlap_of_empty_boxes_and_of_no_boxes_is_defined():
    assert overlap(np.zeros((1, 4)), np.zeros((1, 4))) == 0
    assert overlap(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
