"""Things before a face: they cover what they say, where they say, and the same seed draws the same."""

import numpy as np
import pytest

from recipes.nano.render.occluders import (
    FACE,
    KINDS,
    PARTS,
    cover_track,
    covered_share,
    draw_occluder,
    parts_covered,
    paste,
)
from recipes.nano.train.augment import occlude, spoil

SIDE = 112


def grey(value: int = 120) -> np.ndarray:
    return np.full((SIDE, SIDE), value, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
def test_every_thing_covers_the_part_it_is_drawn_for(kind: str, part: str) -> None:
    for seed in range(3):
        thing = draw_occluder(np.random.default_rng(seed), part, kind)
        _, hidden = paste(grey(), thing)
        assert parts_covered(hidden)[part]


def test_pixels_change_only_where_the_thing_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
    thing = draw_occluder(np.random.default_rng(1), "mouth", "cup")
    out, hidden = paste(image, thing)
    assert (out[hidden] != image[hidden]).mean() > 0.9
    far = np.ones_like(hidden)
    far[int(np.nonzero(hidden)[0].min()) - 3 :] = False
    assert np.array_equal(out[far], image[far])


def test_a_thing_in_a_frame_lies_where_it_lies_in_the_crop_of_it() -> None:
    thing = draw_occluder(np.random.default_rng(2), "eyes", "bar")
    twice = np.array([[2.0, 0, 40], [0, 2.0, 10]])
    _, in_frame = paste(np.zeros((300, 320, 3), np.uint8), thing, (3.0, -2.0), 0.0, twice)
    _, in_crop = paste(grey(), thing, (3.0, -2.0))
    y, x = np.nonzero(in_crop)
    assert in_frame[2 * y + 10, 2 * x + 40].mean() > 0.97


def test_the_share_is_of_the_face_and_not_of_the_picture() -> None:
    hidden = np.zeros((SIDE, SIDE), np.bool_)
    hidden[:, 56:] = True
    assert covered_share(hidden, FACE) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(covered_share(hidden, FACE + 500))


def test_a_covered_track_says_which_frames_are_covered() -> None:
    crops, times_s = np.stack([grey()] * 200), np.arange(200) / 25
    covered = cover_track(crops, times_s, np.random.default_rng(0), busy=0.5, parts=("mouth",))
    hidden = covered.part("mouth")
    assert 0.1 < hidden.mean() < 0.9
    mouth = covered.crops[:, 84:104, 38:74].astype(int)
    changed = (np.abs(mouth - 120) > 2).reshape(200, -1).mean(axis=1)
    assert changed[hidden].min() > 0.5
    assert (covered.share[hidden] > 0.1).all()
    untouched = covered.share == 0
    assert untouched.any()
    assert changed[untouched].max() < 0.3


def test_covered_from_end_to_end() -> None:
    crops, times_s = np.stack([grey()] * 100), 7.0 + np.arange(100) / 30
    covered = cover_track(crops, times_s, np.random.default_rng(3), busy=1, parts=("mouth",))
    assert covered.part("mouth").mean() > 0.9


def test_the_same_seed_covers_the_same_way_and_leaves_the_crops_alone() -> None:
    crops, times_s = np.stack([grey(90)] * 60), np.arange(60) / 25
    one, two = (cover_track(crops, times_s, np.random.default_rng(5), busy=0.9) for _ in range(2))
    assert np.array_equal(one.crops, two.crops)
    assert np.array_equal(one.hidden, two.hidden)
    assert (crops == 90).all()


def test_spoiling_says_where_a_thing_lies() -> None:
    image, hidden = occlude(grey().astype(np.float32), np.random.default_rng(0))
    assert image.shape == hidden.shape == (SIDE, SIDE)
    rng = np.random.default_rng(1)
    spoilt = [spoil(grey(), rng) for _ in range(60)]
    assert all(crop.dtype == np.uint8 and crop.shape == (SIDE, SIDE) for crop, _ in spoilt)
    assert 0.1 < np.mean([covered.any() for _, covered in spoilt]) < 0.5
