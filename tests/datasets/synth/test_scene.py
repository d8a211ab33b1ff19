"""Pictures of persons: what covers what, what light does, where the points are."""

from dataclasses import replace

import numpy as np
import pytest

from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.person import Face, Person, draw_looks, draw_person
from auscan.datasets.synth.scene import DARK, Stage, draw_stage, take
from auscan.faces.align import TEMPLATE, crop_face, crop_transform, to_crop

SECONDS, TICKS = 4.0, 401


@pytest.fixture(scope="module")
def face() -> Face:
    return builtin_face()


def someone(face: Face, seed: int = 0) -> Person:
    random = np.random.default_rng(seed)
    looks = replace(draw_looks(random, face), glasses=False, fringe=False)
    person = draw_person(random, face, looks, SECONDS)
    free = np.zeros(TICKS)
    still = replace(person.performance, pose=np.zeros((TICKS, 3)), movement=np.zeros((TICKS, 12)))
    return replace(person, performance=still, mouth_cover=free, eye_cover=free)


def stage(seed: int = 0, persons: int = 1, dark: bool = False, poor: bool = False) -> Stage:
    return draw_stage(np.random.default_rng(seed), 160 * persons, 160, TICKS, persons, dark, poor)


def region(points: np.ndarray, image: np.ndarray, where: str) -> np.ndarray:
    """A piece of the aligned crop."""
    crop = crop_face(image, points).astype(float)
    return {"mouth": crop[84:102, 38:76], "eyes": crop[42:62, 28:84]}[where]


def test_the_same_moment_gives_the_same_pixels(face: Face) -> None:
    shots = [take(stage(), face, (someone(face),), 1.0, 3) for _ in range(2)]
    assert np.array_equal(shots[0].image, shots[1].image)
    assert shots[0].image.shape == (160, 160, 3)
    assert shots[0].image.dtype == np.uint8


def test_the_points_fit_the_template_of_aligned_faces(face: Face) -> None:
    shot = take(stage(), face, (someone(face),), 1.0, 0)
    points = shot.points[0]
    off = np.linalg.norm(to_crop(points, crop_transform(points)) - TEMPLATE, axis=1)
    assert off.max() < 7  # px of 112


@pytest.mark.parametrize(("part", "covered"), [("mouth", "mouth_cover"), ("eyes", "eye_cover")])
@pytest.mark.parametrize("held", ["hand", "microphone"])
def test_a_cover_hides_the_part_it_is_named_after(face: Face, part: str, covered: str, held: str) -> None:
    free = someone(face)
    hidden = replace(free, **{covered: np.ones(TICKS)}, holds=held)
    shots = [take(stage(), face, (person,), 1.0, 0) for person in (free, hidden)]
    before, after = (region(shot.points[0], shot.image, part) for shot in shots)
    assert (np.abs(before - after).sum(axis=-1) > 8).mean() > 0.6
    other = "eyes" if part == "mouth" else "mouth"
    if held == "microphone" and part == "mouth":
        kept, same = (region(shot.points[0], shot.image, other) for shot in shots)
        assert np.array_equal(kept, same)


def test_a_covered_mouth_shows_nothing_of_its_movement(face: Face) -> None:
    hidden = replace(someone(face), mouth_cover=np.ones(TICKS), holds="hand")
    wide = np.zeros((TICKS, 12))
    wide[:, 10] = 1.0
    parted = replace(hidden, performance=replace(hidden.performance, movement=wide))
    shots = [take(stage(), face, (person,), 1.0, 0) for person in (hidden, parted)]
    one, two = (region(shots[0].points[0], shot.image, "mouth") for shot in shots)
    assert (np.abs(one - two).sum(axis=-1) > 8).mean() < 0.1


def test_movement_changes_the_picture_where_the_au_acts(face: Face) -> None:
    calm = someone(face)
    wide = np.zeros((TICKS, 12))
    wide[:, 11] = 1.0
    open_mouth = replace(calm, performance=replace(calm.performance, movement=wide))
    shots = [take(stage(), face, (person,), 1.0, 0) for person in (calm, open_mouth)]
    mouth = [region(shots[0].points[0], shot.image, "mouth") for shot in shots]
    eyes = [region(shots[0].points[0], shot.image, "eyes") for shot in shots]
    assert np.abs(mouth[0] - mouth[1]).mean() > 10 * np.abs(eyes[0] - eyes[1]).mean() + 1


def test_dark_stages_are_dark_and_poor_ones_are_soft(face: Face) -> None:
    bright, dark = (take(stage(1, dark=d), face, (someone(face),), 1.0, 0).image for d in (False, True))
    assert dark.mean() < 0.7 * bright.mean()
    assert stage(1, dark=True).light.mean() < DARK < stage(1).light.mean()
    assert stage(1, poor=True).shrink > 1


def test_two_persons_stand_side_by_side(face: Face) -> None:
    shot = take(stage(persons=2), face, (someone(face, 1), someone(face, 2)), 1.0, 0)
    left, right = (points[:, 0].mean() for points in shot.points)
    assert left < 160 < right


def test_glasses_and_fringe_are_drawn_over_the_eyes(face: Face) -> None:
    plain = someone(face)
    for extra in ("glasses", "fringe"):
        shots = [take(stage(), face, (p,), 1.0, 0) for p in (plain, replace(plain, **{extra: True}))]
        one, two = (region(shots[0].points[0], shot.image, "eyes") for shot in shots)
        assert (np.abs(one - two).sum(axis=-1) > 8).mean() > 0.05
