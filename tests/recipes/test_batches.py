"""Test the batches of stage 1: real faces and frames of clips, each with its known targets."""

from unittest import mock

import numpy as np
import torch

from auscan.faces.align import TEMPLATE
from recipes.nano.data.real_clips import (
    DEVELOPMENT,
    HELD_OUT,
    HELD_OUT_PEOPLE,
    ClipTrack,
    single_frames,
    training_tracks,
)
from recipes.nano.data.real_faces import Faces
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.occluders import region_covers
from recipes.nano.train import face_batches
from recipes.nano.train.face_batches import FaceBatch, FaceBatches, blank
from recipes.nano.train.face_stage import FaceTraining
from recipes.nano.train.run import network_config

SHAPES = 5


def real_faces(count: int) -> Faces:
    random = np.random.default_rng(0)
    points = np.tile(TEMPLATE, (count, 1, 1))
    landmarks = random.uniform(20, 90, (478, 2)) + random.normal(size=(count, 478, 2))
    return Faces(
        images=random.integers(0, 255, (count, 224, 224), dtype=np.uint8),
        sizes=np.full((count, 2), 224, np.int32),
        teacher_points=points,
        detector_points=points,
        landmarks=landmarks.astype(np.float32),
        labels=np.zeros((count, len(NANO_AUS)), np.int8),
        soft=np.zeros((count, len(NANO_AUS)), np.float32),
        intensities=np.zeros((count, len(NANO_AUS)), np.float32),
        blendshapes=np.zeros((count, SHAPES), np.float32),
        pose=np.zeros((count, 2), np.float32),
        development=np.zeros(count, bool),
    )


def track(clip: str, frames: int, unlabelled: int = 0, person: str | None = None) -> ClipTrack:
    """Make a track of a clip; the first `unlabelled` frames have no labels."""
    labels = np.ones((frames, len(NANO_AUS)), np.int8)
    labels[:unlabelled] = -1
    crops = np.zeros((frames, 112, 112), np.uint8)
    times_s = np.arange(frames) / 25
    soft, silence = labels.astype(np.float32), np.zeros(0, np.float32)
    return ClipTrack(clip, person or clip, crops, times_s, labels, soft, 5 * soft, silence, 0.0)


def batch() -> FaceBatch:
    """Return a batch of 40 real faces and 24 frames of clips."""
    frames = single_frames([track("a", 30), track("b", 60, unlabelled=20)])
    batches = FaceBatches(real_faces(80), 64, 0, frames=frames, frame_share=0.375)
    with mock.patch.object(face_batches, "BLANK", 0.0):
        return next(iter(batches.epoch(0)))


def test_frames_of_clips_have_their_share_of_a_batch_and_no_targets_except_labels() -> None:
    made = batch()
    assert (made.labels[:40] == 0).all()
    assert (made.labels[40:] == 1).all()
    assert len(made.crops) == len(made.labels) == 64
    for target in (made.blendshapes, made.landmarks, made.points, made.pose, made.covered):
        assert np.isfinite(target[:40]).all()
        assert np.isnan(target[40:]).all()


def test_unknown_targets_of_frames_do_not_change_the_loss() -> None:
    torch.manual_seed(0)
    training, made = FaceTraining(network_config(), SHAPES).eval(), batch()
    losses = training.losses(made, torch.zeros(956))
    real = FaceBatch(*(getattr(made, name)[:40] for name in FaceBatch.__dataclass_fields__))
    real_losses = training.losses(real, torch.zeros(956))
    for name in ("shapes", "landmarks", "points", "pose_occlusion"):
        assert torch.isclose(losses[name], real_losses[name], rtol=1e-4), name
    assert not torch.isclose(losses["au"], real_losses["au"], rtol=1e-3)


def test_nothing_is_known_of_a_blank_crop_but_that_every_region_is_covered() -> None:
    made = batch()
    before = made.crops.copy()
    blank(made, np.array([3, 50]), np.random.default_rng(0))
    changed = (made.crops != before).any(axis=(1, 2))
    assert np.array_equal(np.flatnonzero(changed), [3, 50])
    assert (made.labels[[3, 50]] == -1).all()
    assert (made.covers[[3, 50]] == 1).all()
    for target in (made.intensities, made.blendshapes, made.landmarks, made.points, made.pose):
        assert np.isnan(target[[3, 50]]).all()


def test_the_covers_of_an_occluded_crop_are_those_of_the_regions() -> None:
    hidden = np.zeros((112, 112), bool)
    hidden[70:] = True
    covers = dict(zip(NANO_AUS, region_covers(hidden), strict=True))
    assert covers["AU12"] == covers["AU25"] == covers["AU28"] == 1
    assert covers["AU01"] == covers["AU04"] == covers["AU45"] == 0
    assert covers["AU09"] == -1, "a third of the nose is covered"


def test_a_clip_is_drawn_by_the_square_root_of_its_length() -> None:
    frames = single_frames([track("a", 100), track("b", 400)])
    assert np.isclose(frames.sampling_weights.sum(), 1)
    assert np.isclose(frames.sampling_weights[100:].sum() / frames.sampling_weights[:100].sum(), 2)


def test_frames_without_teacher_labels_are_left_out() -> None:
    assert len(single_frames([track("a", 30, unlabelled=12)]).crops) == 18


def test_held_out_clips_are_not_used_in_training() -> None:
    tracks = [track(name, 10) for name in (*HELD_OUT, *DEVELOPMENT, "other")]
    tracks += [track(f"word {k}", 10, person=person) for k, person in enumerate(HELD_OUT_PEOPLE)]
    assert [each.clip for each in training_tracks([*tracks, track("unlabelled", 10, unlabelled=10)])] == [
        "other"
    ]
