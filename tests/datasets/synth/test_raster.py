"""Test the rasteriser: covered pixels, interpolated colours, depth, normals and rotation."""

import numpy as np
import pytest

from auscan.datasets.synth.raster import View, project, rasterise, rotation_matrix, vertex_normals

FACING = np.array([[0, 1, 2]], np.int32)


def canvas(side: int = 20) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((side, side, 3), np.float32), np.full((side, side), -np.inf, np.float32)


def corners(depth: float) -> np.ndarray:
    """Return half of the square from 2 to 12 px, anticlockwise with y up, so that it faces the camera."""
    return np.array([[2, 12, depth], [12, 12, depth], [2, 2, depth]], np.float32)


def test_a_triangle_covers_the_pixels_inside_it_and_no_others() -> None:
    image, depth = canvas()
    rasterise(corners(0), FACING, np.full((3, 3), 9, np.float32), image, depth)
    inside = np.array([[y >= x and x >= 2 and y <= 12 for x in range(20)] for y in range(20)])
    assert np.array_equal(image[..., 0] > 0, inside)
    assert np.allclose(image[inside], 9)


def test_a_triangle_that_faces_away_is_not_drawn() -> None:
    image, depth = canvas()
    rasterise(corners(0), FACING[:, ::-1].copy(), np.ones((3, 3), np.float32), image, depth)
    assert not image.any()


def test_the_nearer_triangle_hides_the_farther_one_in_either_order() -> None:
    for order in ([0, 1], [1, 0]):
        image, depth = canvas()
        both = np.concatenate([corners(0), corners(5)])
        colours = np.repeat(np.array([[10.0], [20.0]], np.float32), 3, axis=0) @ np.ones((1, 3), np.float32)
        rasterise(both, np.array([[0, 1, 2], [3, 4, 5]], np.int32)[order], colours, image, depth)
        assert image.max() == image[11, 3, 0] == pytest.approx(20)


def test_colours_are_interpolated_between_corners() -> None:
    image, depth = canvas()
    rasterise(corners(0), FACING, np.diag([12.0, 24.0, 36.0]).astype(np.float32), image, depth)
    assert image[12, 2] == pytest.approx([12, 0, 0], abs=1e-4)
    assert image[12, 7] == pytest.approx([6, 12, 0], abs=1e-4)


def test_triangles_that_extend_beyond_the_picture_are_clipped_at_its_edge() -> None:
    image, depth = canvas(5)
    far = np.array([[-100, 100, 0], [300, 100, 0], [-100, -300, 0]], np.float32)
    rasterise(far, FACING, np.ones((3, 3), np.float32), image, depth)
    assert np.allclose(image, 1)


def test_normals_of_a_frontal_plane_point_at_the_viewer() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    normals = vertex_normals(square, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    assert np.allclose(normals, [0, 0, 1])


@pytest.mark.parametrize(
    ("view", "direction"),
    [
        (View(30, 0, 0, 1, 0, 0), (0.5, 0)),  # yaw: the nose moves to larger x
        (View(0, 30, 0, 1, 0, 0), (0, -0.5)),  # pitch: the nose moves up, to smaller y
    ],
)
def test_yaw_and_pitch_move_the_nose_in_the_documented_direction(
    view: View, direction: tuple[float, float]
) -> None:
    nose = project(np.array([[0, 0, 1]], np.float32), view)[0]
    assert nose[:2] == pytest.approx(direction, abs=1e-5)


def test_roll_leans_the_head_clockwise_as_seen() -> None:
    crown = project(np.array([[0, 1, 0]], np.float32), View(0, 0, 30, 1, 0, 0))[0]
    assert crown[0] == pytest.approx(0.5, abs=1e-5)
    assert np.allclose(
        rotation_matrix(View(10, 20, 30, 1, 0, 0)) @ rotation_matrix(View(10, 20, 30, 1, 0, 0)).T,
        np.eye(3),
        atol=1e-5,
    )
