"""Test rendered frames: points, occluders, light, camera quality and movement."""

from dataclasses import replace

import numpy as np
import pytest

from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.person import Face, Person, sample_person, sample_traits
from auscan.datasets.synth.scene import DARK, Scene, render_frame, sample_scene
from auscan.faces.align import TEMPLATE, crop_face, crop_transform, to_crop

SECONDS, TICKS = 4.0, 401


@pytest.fixture(scope="module")
def face() -> Face:
    return builtin_face()


def sample_test_person(face: Face, seed: int = 0) -> Person:
    random = np.random.default_rng(seed)
    traits = replace(sample_traits(random, face), glasses=False, fringe=False)
    person = sample_person(random, face, traits, SECONDS)
    free = np.zeros(TICKS)
    still = replace(person.behaviour, pose=np.zeros((TICKS, 3)), movement=np.zeros((TICKS, 12)))
    return replace(person, behaviour=still, mouth_occlusion=free, eye_occlusion=free)


def make_scene(seed: int = 0, persons: int = 1, dark: bool = False, low_quality: bool = False) -> Scene:
    return sample_scene(np.random.default_rng(seed), 160 * persons, 160, TICKS, persons, dark, low_quality)


def region(points: np.ndarray, image: np.ndarray, where: str) -> np.ndarray:
    """Return the mouth or the eyes from the aligned crop."""
    crop = crop_face(image, points).astype(float)
    return {"mouth": crop[84:102, 38:76], "eyes": crop[42:62, 28:84]}[where]


def test_rendering_the_same_frame_twice_results_in_equal_pixels(face: Face) -> None:
    frames = [render_frame(make_scene(), face, (sample_test_person(face),), 1.0, 3) for _ in range(2)]
    assert np.array_equal(frames[0].image, frames[1].image)
    assert frames[0].image.shape == (160, 160, 3)
    assert frames[0].image.dtype == np.uint8


def test_the_points_fit_the_template_of_aligned_faces(face: Face) -> None:
    frame = render_frame(make_scene(), face, (sample_test_person(face),), 1.0, 0)
    points = frame.points[0]
    off = np.linalg.norm(to_crop(points, crop_transform(points)) - TEMPLATE, axis=1)
    assert off.max() < 7  # px of 112


@pytest.mark.parametrize(("part", "occlusion"), [("mouth", "mouth_occlusion"), ("eyes", "eye_occlusion")])
@pytest.mark.parametrize("occluder", ["hand", "microphone"])
def test_an_occluder_hides_the_part_it_is_named_after(
    face: Face, part: str, occlusion: str, occluder: str
) -> None:
    free = sample_test_person(face)
    hidden = replace(free, **{occlusion: np.ones(TICKS)}, mouth_occluder=occluder)
    frames = [render_frame(make_scene(), face, (person,), 1.0, 0) for person in (free, hidden)]
    before, after = (region(frame.points[0], frame.image, part) for frame in frames)
    assert (np.abs(before - after).sum(axis=-1) > 8).mean() > 0.6
    other = "eyes" if part == "mouth" else "mouth"
    if occluder == "microphone" and part == "mouth":
        kept, same = (region(frame.points[0], frame.image, other) for frame in frames)
        assert np.array_equal(kept, same)


def test_the_movement_of_an_occluded_mouth_is_not_visible(face: Face) -> None:
    hidden = replace(sample_test_person(face), mouth_occlusion=np.ones(TICKS), mouth_occluder="hand")
    wide = np.zeros((TICKS, 12))
    wide[:, 10] = 1.0
    parted = replace(hidden, behaviour=replace(hidden.behaviour, movement=wide))
    frames = [render_frame(make_scene(), face, (person,), 1.0, 0) for person in (hidden, parted)]
    one, two = (region(frames[0].points[0], frame.image, "mouth") for frame in frames)
    assert (np.abs(one - two).sum(axis=-1) > 8).mean() < 0.1


def test_movement_changes_the_picture_where_the_au_acts(face: Face) -> None:
    calm = sample_test_person(face)
    wide = np.zeros((TICKS, 12))
    wide[:, 11] = 1.0
    open_mouth = replace(calm, behaviour=replace(calm.behaviour, movement=wide))
    frames = [render_frame(make_scene(), face, (person,), 1.0, 0) for person in (calm, open_mouth)]
    mouth = [region(frames[0].points[0], frame.image, "mouth") for frame in frames]
    eyes = [region(frames[0].points[0], frame.image, "eyes") for frame in frames]
    assert np.abs(mouth[0] - mouth[1]).mean() > 10 * np.abs(eyes[0] - eyes[1]).mean() + 1


def test_dark_scenes_have_less_light_and_low_quality_scenes_lower_resolution(face: Face) -> None:
    bright, dark = (
        render_frame(make_scene(1, dark=d), face, (sample_test_person(face),), 1.0, 0).image
        for d in (False, True)
    )
    assert dark.mean() < 0.7 * bright.mean()
    assert make_scene(1, dark=True).light.mean() < DARK < make_scene(1).light.mean()
    assert make_scene(1, low_quality=True).downscale > 1


def test_two_persons_stand_side_by_side(face: Face) -> None:
    frame = render_frame(
        make_scene(persons=2), face, (sample_test_person(face, 1), sample_test_person(face, 2)), 1.0, 0
    )
    left, right = (points[:, 0].mean() for points in frame.points)
    assert left < 160 < right


def test_glasses_and_fringe_are_drawn_over_the_eyes(face: Face) -> None:
    plain = sample_test_person(face)
    for extra in ("glasses", "fringe"):
        frames = [
            render_frame(make_scene(), face, (p,), 1.0, 0) for p in (plain, replace(plain, **{extra: True}))
        ]
        one, two = (region(frames[0].points[0], frame.image, "eyes") for frame in frames)
        assert (np.abs(one - two).sum(axis=-1) > 8).mean() > 0.05
