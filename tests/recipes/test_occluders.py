"""Test that occluders cover their part of the face and are reproducible by seed."""

import numpy as np
import pytest

from recipes.nano.render.occluders import (
    FACE_OUTLINE,
    KINDS,
    PARTS,
    covered_share,
    draw_occluder,
    occlude_track,
    parts_covered,
    paste,
)
from recipes.nano.train.augment import augment_crop, occlude

SIDE = 112


def grey(value: int = 120) -> np.ndarray:
    return np.full((SIDE, SIDE), value, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
def test_every_occluder_covers_its_part_of_the_face(kind: str, part: str) -> None:
    for seed in range(3):
        occluder = draw_occluder(np.random.default_rng(seed), part, kind)
        _, hidden = paste(grey(), occluder)
        assert parts_covered(hidden)[part]


def test_pixels_change_only_under_the_occluder() -> None:
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
    occluder = draw_occluder(np.random.default_rng(1), "mouth", "cup")
    out, hidden = paste(image, occluder)
    assert (out[hidden] != image[hidden]).mean() > 0.9
    far = np.ones_like(hidden)
    far[int(np.nonzero(hidden)[0].min()) - 3 :] = False
    assert np.array_equal(out[far], image[far])


def test_an_occluder_covers_the_same_place_in_a_frame_and_in_its_crop() -> None:
    occluder = draw_occluder(np.random.default_rng(2), "eyes", "bar")
    twice = np.array([[2.0, 0, 40], [0, 2.0, 10]])
    _, in_frame = paste(np.zeros((300, 320, 3), np.uint8), occluder, (3.0, -2.0), 0.0, twice)
    _, in_crop = paste(grey(), occluder, (3.0, -2.0))
    y, x = np.nonzero(in_crop)
    assert in_frame[2 * y + 10, 2 * x + 40].mean() > 0.97


def test_the_covered_share_is_relative_to_the_face_and_not_to_the_picture() -> None:
    hidden = np.zeros((SIDE, SIDE), np.bool_)
    hidden[:, 56:] = True
    assert covered_share(hidden, FACE_OUTLINE) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(covered_share(hidden, FACE_OUTLINE + 500))


def test_an_occluded_track_marks_the_frames_with_covered_parts() -> None:
    crops, times_s = np.stack([grey()] * 200), np.arange(200) / 25
    covered = occlude_track(crops, times_s, np.random.default_rng(0), occluded_share=0.5, parts=("mouth",))
    hidden = covered.part("mouth")
    assert 0.1 < hidden.mean() < 0.9
    mouth = covered.crops[:, 84:104, 38:74].astype(int)
    changed = (np.abs(mouth - 120) > 2).reshape(200, -1).mean(axis=1)
    assert changed[hidden].min() > 0.5
    assert (covered.share[hidden] > 0.1).all()
    untouched = covered.share == 0
    assert untouched.any()
    assert changed[untouched].max() < 0.3


def test_a_track_can_be_covered_throughout() -> None:
    crops, times_s = np.stack([grey()] * 100), 7.0 + np.arange(100) / 30
    covered = occlude_track(crops, times_s, np.random.default_rng(3), occluded_share=1, parts=("mouth",))
    assert covered.part("mouth").mean() > 0.9


def test_the_same_seed_gives_the_same_occlusion_and_does_not_change_the_input() -> None:
    crops, times_s = np.stack([grey(90)] * 60), np.arange(60) / 25
    one, two = (occlude_track(crops, times_s, np.random.default_rng(5), occluded_share=0.9) for _ in range(2))
    assert np.array_equal(one.crops, two.crops)
    assert np.array_equal(one.hidden, two.hidden)
    assert (crops == 90).all()


def test_augmentation_returns_the_occlusion_mask() -> None:
    image, hidden = occlude(grey().astype(np.float32), np.random.default_rng(0))
    assert image.shape == hidden.shape == (SIDE, SIDE)
    rng = np.random.default_rng(1)
    augmented = [augment_crop(grey(), rng) for _ in range(60)]
    assert all(crop.dtype == np.uint8 and crop.shape == (SIDE, SIDE) for crop, _ in augmented)
    assert 0.1 < np.mean([covered.any() for _, covered in augmented]) < 0.5
