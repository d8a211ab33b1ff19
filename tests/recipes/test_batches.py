"""Test the batches of stage 1: real faces and frames of clips, each with its known targets."""

import numpy as np
import torch

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import nano
from auscan.faces.align import TEMPLATE
from recipes.nano.data.real_clips import DEVELOPMENT, HELD_OUT, ClipTrack, single_frames, training_tracks
from recipes.nano.data.real_faces import Faces
from recipes.nano.train.face_batches import FaceBatch, FaceBatches
from recipes.nano.train.face_stage import FaceTraining

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
        labels=np.zeros((count, len(AFFWILD2_AUS)), np.int8),
        soft=np.zeros((count, len(AFFWILD2_AUS)), np.float32),
        blendshapes=np.zeros((count, SHAPES), np.float32),
        pose=np.zeros((count, 2), np.float32),
        development=np.zeros(count, bool),
    )


def track(clip: str, frames: int, unlabelled: int = 0) -> ClipTrack:
    """Make a track of a clip; the first `unlabelled` frames have no labels."""
    labels = np.ones((frames, len(AFFWILD2_AUS)), np.int8)
    labels[:unlabelled] = -1
    crops = np.zeros((frames, 112, 112), np.uint8)
    times_s = np.arange(frames) / 25
    return ClipTrack(clip, crops, times_s, labels, labels.astype(np.float32), np.zeros(0, np.float32), 0.0)


def batch() -> FaceBatch:
    """Return a batch of 40 real faces and 24 frames of clips."""
    frames = single_frames([track("a", 30), track("b", 60, unlabelled=20)])
    batches = FaceBatches(real_faces(80), 64, 0, frames=frames, frame_share=0.375)
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
    training, made = FaceTraining(nano(), SHAPES).eval(), batch()
    losses = training.losses(made, torch.zeros(956))
    real = FaceBatch(*(getattr(made, name)[:40] for name in FaceBatch.__dataclass_fields__))
    real_losses = training.losses(real, torch.zeros(956))
    for name in ("shapes", "landmarks", "points", "pose_occlusion"):
        assert torch.isclose(losses[name], real_losses[name], rtol=1e-4), name
    assert not torch.isclose(losses["au"], real_losses["au"], rtol=1e-3)


def test_a_clip_is_drawn_by_the_square_root_of_its_length() -> None:
    frames = single_frames([track("a", 100), track("b", 400)])
    assert np.isclose(frames.sampling_weights.sum(), 1)
    assert np.isclose(frames.sampling_weights[100:].sum() / frames.sampling_weights[:100].sum(), 2)


def test_frames_without_teacher_labels_are_left_out() -> None:
    assert len(single_frames([track("a", 30, unlabelled=12)]).crops) == 18


def test_held_out_clips_are_not_used_in_training() -> None:
    tracks = [track(name, 10) for name in (*HELD_OUT, *DEVELOPMENT, "other")]
    assert [each.clip for each in training_tracks([*tracks, track("unlabelled", 10, unlabelled=10)])] == [
        "other"
    ]
