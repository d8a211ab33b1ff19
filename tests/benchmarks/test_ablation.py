"""Test the metrics of the ablation: pooled AUCs by pairs of videos, bootstrap weights and patch regions."""

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.ablation.hearing import patch_regions
from benchmarks.ablation.run import VIDEOS, plan_videos
from benchmarks.ablation.scores import draw_seeds, draw_weights, pair_counts


def sample_scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    video = random.integers(0, 4, 500)
    labels = random.random(500) < 0.2 + 0.1 * video
    return np.round(labels + random.normal(size=500) + video, 1), labels, video


def test_the_auc_from_pairs_of_videos_equals_that_of_the_pooled_frames() -> None:
    scores, labels, video = sample_scores()
    auc = pair_counts(scores, labels, video, 4).auc(np.ones((1, 4)))
    assert np.isclose(auc[0], roc_auc_score(labels, scores))


def test_a_video_that_is_drawn_twice_counts_twice_and_one_that_is_not_drawn_does_not_count() -> None:
    scores, labels, video = sample_scores()
    drawn = np.concatenate([np.flatnonzero(video == v) for v in (0, 2, 2, 3)])
    auc = pair_counts(scores, labels, video, 4).auc(np.array([[1.0, 0.0, 2.0, 1.0]]))
    assert np.isclose(auc[0], roc_auc_score(labels[drawn], scores[drawn]))


def test_the_first_draw_has_every_video_and_every_seed_once() -> None:
    assert np.array_equal(draw_weights(5)[0], np.ones(5))
    assert np.allclose(draw_weights(5).sum(1), 5)
    assert np.allclose(draw_seeds(3)[0], 1 / 3)
    assert np.allclose(draw_seeds(3).sum(1), 1)


def test_the_mouth_lies_in_the_lower_half_of_the_face() -> None:
    face, mouth = (region.reshape(7, 7) for region in patch_regions(7))
    assert face[3, 3] == 1
    assert face[0, 0] == face[6, 6] == 0
    assert mouth[:4].sum() == 0
    assert 4 <= mouth.sum() <= 9
    assert mouth[5, 3] == 1


def test_the_people_of_the_splits_are_distinct() -> None:
    plans = plan_videos()
    assert len({plan.person_seed for plan in plans}) == len(plans) == sum(VIDEOS.values())
    assert {plan.split for plan in plans} == set(VIDEOS)
