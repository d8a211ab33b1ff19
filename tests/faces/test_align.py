"""Alignment: the transform, the sampling of crops, and the inverse transform.

Each quality feature responds to its own kind of degradation and to no other.
"""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from auscan.faces.align import SIDE, TEMPLATE, crop_face, crop_transform, measure_quality, to_crop, to_frame


def moved_template(angle_rad: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """Return the points of the template, rotated, scaled and shifted: [5, 2]."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return scale * TEMPLATE @ np.array([[c, s], [-s, c]]) + shift


@given(
    angle_rad=st.floats(-3.1, 3.1),
    scale=st.floats(0.1, 20),
    shift=st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
)
def test_a_face_shaped_like_the_template_is_mapped_to_it_at_any_rotation(angle_rad, scale, shift):
    points = moved_template(angle_rad, scale, shift)
    np.testing.assert_allclose(to_crop(points, crop_transform(points)), TEMPLATE, atol=0.02)


def test_the_transform_is_the_least_squares_similarity_that_scikit_image_finds():
    from skimage.transform import estimate_transform

    points = moved_template(0.3, 2.0, (40, 70)) + np.random.default_rng(0).normal(0, 6, (5, 2))
    reference = estimate_transform("similarity", points, TEMPLATE).params[:2]
    np.testing.assert_allclose(crop_transform(points), reference, atol=1e-4)


def test_mirrored_points_never_mirror_the_face():
    points = TEMPLATE * [-1, 1] + [200, 0]
    assert np.linalg.det(crop_transform(points)[:, :2]) > 0


def test_converting_points_to_the_crop_and_back_returns_them():
    points = moved_template(-0.4, 3.0, (300, 100)) + np.random.default_rng(1).normal(0, 9, (5, 2))
    transform = crop_transform(points, side=64)
    np.testing.assert_allclose(to_frame(to_crop(points, transform), transform), points, atol=1e-2)


def test_points_that_coincide_are_refused_with_their_values():
    with pytest.raises(ValueError, match=r"Five distinct, finite points .* \[\[3.0, 4.0\]"):
        crop_transform(np.full((5, 2), [3.0, 4.0]))
    with pytest.raises(ValueError, match="Five distinct, finite points"):
        crop_transform(np.full((5, 2), np.nan))


def test_an_aligned_picture_is_unchanged():
    image = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert np.abs(crop_face(image, TEMPLATE).astype(int) - image).max() <= 1


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9, 2.0, 2.7, 5.0, 9.3])
def test_the_crop_does_not_depend_on_the_size_of_the_face_in_the_frame(scale):
    """Downsampling of large faces must not shift the crop by a fraction of a pixel.

    The image is a smooth wave, so sampling hardly changes it; a shift of half a crop pixel changes it by 5.
    """
    points = moved_template(0.2, scale, (31.0, 17.0))
    transform = crop_transform(points)
    rows, columns = np.mgrid[: int(150 * scale) + 60, : int(150 * scale) + 60]
    in_crop = to_crop(np.stack([columns, rows], axis=-1), transform)  # [H, W, 2]
    image = (127 + 100 * np.sin(in_crop[..., 0] / 10) * np.cos(in_crop[..., 1] / 10)).astype(np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    expected = 127 + 100 * np.sin(x / 10) * np.cos(y / 10)
    inside = np.s_[12:-12, 30:-12]  # the rotated image ends in the margin
    assert np.abs(crop_face(image, points) - expected)[inside].max() < 2.5


def test_fine_patterns_on_a_large_face_become_grey_without_aliasing():
    rows, columns = np.mgrid[:1200, :1200]
    image = ((rows + columns) % 2 * 255).astype(np.uint8)  # a one-pixel chessboard
    crop = crop_face(image, TEMPLATE * 8 + 100)
    assert crop[20:90, 20:90].std() < 3


def test_the_crop_has_the_channels_of_the_picture():
    assert crop_face(np.zeros((50, 60), np.uint8), TEMPLATE).shape == (SIDE, SIDE)
    assert crop_face(np.zeros((50, 60, 3), np.uint8), TEMPLATE, side=64).shape == (64, 64, 3)


@pytest.mark.parametrize("scale", [0.3, 1, 6])
def test_the_crop_of_a_face_outside_the_picture_is_black(scale):
    image = np.full((80, 80, 3), 200, np.uint8)
    crop = crop_face(image, TEMPLATE * scale + 5000)
    assert crop.shape == (SIDE, SIDE, 3)
    assert crop.max() == 0


FACE = np.float32([[205, 110], [243, 108], [225, 128], [209, 150], [241, 148]])
"""The five points of the portrait's face."""


def quality_features(image: NDArray[np.uint8], points: NDArray[np.float32] = FACE) -> dict[str, float]:
    values = measure_quality(crop_face(image, points), crop_transform(points))
    assert values.dtype == np.float32
    return dict(zip(("size", "sharpness", "brightness", "contrast"), values.tolist(), strict=True))


def adjusted(image: NDArray[np.uint8], gain: float, shift: float = 0.0) -> NDArray[np.uint8]:
    return np.clip(image * gain + shift, 0, 255).round().astype(np.uint8)


def motion_blurred(image: NDArray[np.uint8], angle_deg: float) -> NDArray[np.uint8]:
    """Apply a motion blur of 9 px, a quarter of the distance between the eyes."""
    kernel = np.zeros((9, 9), np.float32)
    kernel[4] = 1 / 9
    turn = cv2.getRotationMatrix2D((4, 4), angle_deg, 1)
    kernel = cv2.warpAffine(kernel, turn, (9, 9))
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def test_size_is_the_distance_between_the_eyes_and_independent_of_brightness(
    portrait: NDArray[np.uint8],
) -> None:
    size = quality_features(portrait)["size"]
    assert size == pytest.approx(38, abs=3)
    small = cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert quality_features(small.astype(np.uint8), FACE / 2)["size"] == pytest.approx(size / 2, rel=1e-3)
    assert quality_features(adjusted(portrait, 0.2))["size"] == size


def test_brightness_and_contrast_follow_gain_and_offset(portrait: NDArray[np.uint8]) -> None:
    clear, dim = quality_features(portrait), quality_features(adjusted(portrait, 0.25))
    assert dim["brightness"] == pytest.approx(clear["brightness"] / 4, rel=0.03)
    assert dim["contrast"] == pytest.approx(clear["contrast"] / 4, rel=0.03)
    flat = quality_features(adjusted(portrait, 0.5, 60))
    assert flat["brightness"] == pytest.approx(clear["brightness"] / 2 + 60 / 255, rel=0.03)
    assert flat["contrast"] == pytest.approx(clear["contrast"] / 2, rel=0.03)


def test_sharpness_falls_as_blur_grows(portrait: NDArray[np.uint8]) -> None:
    sigmas = (1.0, 2.0, 3.0, 4.0)
    values = [
        quality_features(cv2.GaussianBlur(portrait, (0, 0), s).astype(np.uint8))["sharpness"] for s in sigmas
    ]
    assert quality_features(portrait)["sharpness"] > values[0] > values[1] > values[2] > values[3] > 0
    assert values[2] < 0.7 * quality_features(portrait)["sharpness"]


@pytest.mark.parametrize("angle_deg", [0, 45, 90, 135])
def test_motion_blur_in_any_direction_lowers_sharpness(portrait: NDArray[np.uint8], angle_deg: float) -> None:
    assert (
        quality_features(motion_blurred(portrait, angle_deg))["sharpness"]
        < 0.8 * quality_features(portrait)["sharpness"]
    )


@pytest.mark.parametrize(("gain", "shift"), [(0.3, 0), (0.5, 100), (1.1, 0)])
def test_sharpness_is_independent_of_brightness_and_contrast(
    portrait: NDArray[np.uint8], gain: float, shift: float
) -> None:
    expected = quality_features(portrait)["sharpness"]
    assert quality_features(adjusted(portrait, gain, shift))["sharpness"] == pytest.approx(expected, rel=0.05)


def test_noise_does_not_raise_sharpness(portrait: NDArray[np.uint8]) -> None:
    blurred = cv2.GaussianBlur(portrait, (0, 0), 3).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 4, portrait.shape)
    noisy = np.clip(blurred + noise, 0, 255).astype(np.uint8)
    assert quality_features(noisy)["sharpness"] < 0.8 * quality_features(portrait)["sharpness"]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_uniform_image_is_not_sharp_and_no_error(grey: int) -> None:
    even = quality_features(np.full((300, 300, 3), grey, np.uint8))
    assert even["sharpness"] == pytest.approx(0, abs=1e-3)
    assert even["contrast"] == 0
    assert even["brightness"] == pytest.approx(grey / 255, abs=0.01)
