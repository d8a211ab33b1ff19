"""Test rendered faces and clips: labels by the rule, points on the face, disjoint persons, reproducible."""

from pathlib import Path

import numpy as np
import pytest

from auscan.faces.align import TEMPLATE, crop_transform, to_crop
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.appearance import TEST_SEEDS, draw_appearance
from recipes.nano.render.expressions import GAP_OFF, GAP_ON, OFF, ON, draw_expression, labels_of, soft_targets
from recipes.nano.render.head_mesh import EXTRA_NAMES, Head, load_head
from recipes.nano.render.rendered_clips import draw_clip, track_clip
from recipes.nano.render.rendered_faces import (
    CANVAS,
    DEVELOPMENT,
    TEST,
    TRAIN,
    RenderedFace,
    pack,
    rendered_faces,
)
from recipes.nano.render.speech_synthesis import draw_speech, synthesize_speech
from recipes.nano.train.face_batches import crop_rendered

ICT = Path(__file__).parents[3] / "shared" / "data" / "ict_facekit.npz"
with_ict = pytest.mark.skipif(not ICT.is_file(), reason="needs a copy of ICT-FaceKit")
AU25 = NANO_AUS.index("AU25")


@pytest.fixture(scope="module")
def head() -> Head:
    if not ICT.is_file():
        pytest.skip("needs a copy of ICT-FaceKit")
    return load_head(ICT)


@pytest.fixture(scope="module")
def faces() -> list[RenderedFace]:
    if not ICT.is_file():
        pytest.skip("needs a copy of ICT-FaceKit")
    return list(rendered_faces(ICT, 0, range(12), pictures=2))


def test_labels_follow_the_rule() -> None:
    intensities = np.tile((ON + OFF) / 2, (3, 1)).astype(np.float32)
    intensities[0], intensities[2] = OFF - 0.01, ON + 0.01
    labels = labels_of(intensities, np.array([GAP_OFF - 0.001, (GAP_ON + GAP_OFF) / 2, GAP_ON + 0.001]))
    assert (labels[0] == 0).all()
    assert (labels[1] == -1).all()
    assert (labels[2] == 1).all()
    soft = soft_targets(intensities, np.array([GAP_OFF, (GAP_ON + GAP_OFF) / 2, GAP_ON]))
    assert np.allclose(soft[1], 0.5, atol=1e-5)
    assert (soft[0] < 0.35).all()
    assert (soft[2] > 0.65).all()


def test_every_au_is_active_in_10_to_40_percent_of_stills() -> None:
    random = np.random.default_rng(0)
    expressions = [draw_expression(random) for _ in range(2000)]
    shown = np.stack([(e.left + e.right) / 2 for e in expressions])
    rates = (shown >= ON).mean(axis=0)
    assert rates.min() > 0.1
    assert rates.max() < 0.4
    asymmetric = np.stack([np.abs(e.left - e.right) for e in expressions]) > 0.2
    assert asymmetric[:, :AU25].any(axis=0).all()


def test_persons_for_benchmarks_are_never_used_in_training() -> None:
    assert max(TRAIN) < min(DEVELOPMENT)
    assert max(DEVELOPMENT) < TEST_SEEDS == min(TEST)


@with_ict
def test_the_same_arguments_give_the_same_picture(faces: list[RenderedFace]) -> None:
    again = next(iter(rendered_faces(ICT, 0, [5], pictures=2)))
    same = next(face for face in faces if face.person == 5)
    assert np.array_equal(again.image, same.image)
    assert np.array_equal(again.labels, same.labels)
    assert np.array_equal(again.points, same.points)
    other = next(iter(rendered_faces(ICT, 1, [5], pictures=1)))
    assert other.image.shape != same.image.shape or not np.array_equal(other.image, same.image)


@with_ict
def test_persons_differ_in_shape_and_skin(head: Head) -> None:
    people = [draw_appearance(head, seed) for seed in range(8)]
    assert np.ptp([person.lightness for person in people]) > 20
    assert all(np.abs(people[0].shape - person.shape).max() > 0.2 for person in people[1:])


@with_ict
def test_lips_labelled_as_parted_are_parted_in_the_mesh(head: Head) -> None:
    person, resting_aus = draw_appearance(head, 3), np.zeros(len(NANO_AUS), np.float32)
    extras = np.zeros(len(EXTRA_NAMES), np.float32)
    open_mouth = resting_aus.copy()
    open_mouth[AU25] = 1
    shut, lip_opening = (
        head.lip_gap(head.vertices(person.shape, person.au_deltas, i, i, extras))
        for i in (resting_aus, open_mouth)
    )
    assert shut < GAP_OFF < GAP_ON < lip_opening


def test_the_built_in_face_is_a_second_rig_with_the_same_aus() -> None:
    head = load_head(None)
    assert len(head.face.au_deltas) == len(NANO_AUS)
    none, extras = np.zeros(len(NANO_AUS), np.float32), np.zeros(len(EXTRA_NAMES), np.float32)
    for seed in range(4):
        person = draw_appearance(head, seed)
        gaps = {}
        for name in ("rest", "AU25", "AU26", "AU12"):
            shown = none.copy()
            if name != "rest":
                shown[NANO_AUS.index(name)] = 1
            gaps[name] = head.lip_gap(head.vertices(person.shape, person.au_deltas, shown, shown, extras))
        assert max(gaps["rest"], gaps["AU12"]) < GAP_OFF < gaps["AU25"]
        assert gaps["AU26"] > GAP_ON


def test_people_show_an_au_in_different_ways_but_about_equally_strongly() -> None:
    head = load_head(None)
    first, second = (draw_appearance(head, seed).au_deltas for seed in (1, 2))
    sizes = [np.quantile(np.linalg.norm(deltas, axis=2), 0.997, axis=1) for deltas in (first, second)]
    ratio = sizes[0] / sizes[1]
    assert ratio.min() > 0.5
    assert ratio.max() < 2
    for one, other in zip(first, second, strict=True):
        cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
        assert 0.6 < cosine < 0.999


@with_ict
def test_one_side_of_the_face_can_move_alone(head: Head) -> None:
    person, none = draw_appearance(head, 3), np.zeros(len(NANO_AUS), np.float32)
    smile = none.copy()
    smile[NANO_AUS.index("AU12")] = 1
    extras = np.zeros(len(EXTRA_NAMES), np.float32)
    moved = head.vertices(person.shape, person.au_deltas, smile, none, extras) - person.shape
    far = np.linalg.norm(moved, axis=1)
    x = head.face.neutral[:, 0]
    assert far[x < -2].max() > 0.5
    assert far[x > 2].max() < 0.01


@with_ict
def test_points_and_outline_lie_in_the_picture_and_on_the_face(faces: list[RenderedFace]) -> None:
    for face in faces:
        assert face.points[0, 0] < face.points[1, 0] or abs(face.pose[0]) > 50
        low, high = face.outline.min(axis=0), face.outline.max(axis=0)
        assert (face.points > low - 1).all()
        assert (face.points < high + 1).all()
        assert face.image.dtype == np.uint8
        assert face.image.ndim == 3


@with_ict
def test_covered_parts_and_the_covered_share_agree(faces: list[RenderedFace]) -> None:
    for face in faces:
        if any(face.parts.values()) and face.glasses != "dark":
            assert face.covered > 0.05
        if face.covered == 0:
            assert not face.parts["mouth"]


@with_ict
def test_packed_canvases_are_aligned_and_cropped_into_batches() -> None:
    packed = pack(ICT, range(3), 2)
    assert packed.images.shape == (6, CANVAS, CANVAS)
    assert np.abs(packed.true_points.mean(axis=1) - TEMPLATE.mean(axis=0) - 32).max() < 3
    batch = crop_rendered(packed, np.arange(6), 7, np.random.default_rng(0))
    assert batch.crops.shape == (6, 112, 112)
    assert np.isnan(batch.blendshapes).all()
    assert np.isnan(batch.landmarks).all()
    assert np.array_equal(batch.labels, packed.labels)
    assert np.array_equal(np.abs(batch.pose), np.abs(packed.pose))
    assert np.array_equal(batch.intensities, np.clip(5 * packed.intensities, 0, 5))
    assert ((batch.covered >= 0) & (batch.covered <= 1)).all()
    assert batch.points[0].mean(axis=0) == pytest.approx(TEMPLATE.mean(axis=0), abs=12)


def test_speech_is_quiet_with_a_closed_mouth_and_loud_with_an_open_mouth() -> None:
    random = np.random.default_rng(1)
    speech = draw_speech(random, 2000, 0.8)
    wave = synthesize_speech(random, speech)
    assert wave.shape == (2000 * 160,)
    loud = np.log(np.sqrt((wave.reshape(2000, 160) ** 2).mean(axis=1)) + 1e-4)
    assert loud[speech.lip_opening > 0.6].mean() > loud[speech.lip_opening < 0.1].mean() + 1
    assert speech.lip_opening[speech.speaking].std() > 0.15


@with_ict
def test_a_clip_is_tracked_and_labelled_frame_by_frame(head: Head) -> None:
    clip = draw_clip(head, 21, seconds=2.0, mouth="covered")
    tracks = track_clip(clip, "rendered_21")
    assert tracks
    for found in tracks:
        count = len(found.track.times_s)
        assert found.track.crops.shape == (count, 112, 112)
        assert found.track.labels.shape == found.track.soft.shape == (count, len(NANO_AUS))
        assert found.hidden.shape == (count, 4)
        assert found.hidden[:, 0].mean() > 0.8
        rows = np.searchsorted(clip.times_s, found.track.times_s)
        known = found.track.labels != -1
        known[:, AU25] = False
        assert np.array_equal((clip.intensities[rows] >= ON)[known], found.track.labels[known] == 1)


@with_ict
def test_points_of_a_frontal_face_match_the_crop_template(faces: list[RenderedFace]) -> None:
    frontal = [face for face in faces if np.abs(face.pose).max() < 15]
    assert frontal
    for face in frontal:
        placed = to_crop(face.points, crop_transform(face.points))
        assert np.abs(placed - TEMPLATE).max() < 12
