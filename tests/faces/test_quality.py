"""Each quality feature responds to its own kind of degradation and to no other."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.faces.align import crop_face, crop_transform
from auscan.faces.quality import measure_quality

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
