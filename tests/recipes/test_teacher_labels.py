"""Test the label rules of the teacher: the twelve AUs of today's nano, and the nineteen of the next."""

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS
from recipes.nano.data.teacher_labels import NANO_AUS, RULES, Targets, teacher_targets

BLINK = (0.1, 0.4, 0.8, 0.4, 0.1)
"""Closure of the lids during a blink at 25 Hz."""


def table(rows: int, **scores: float | list[float]) -> pd.DataFrame:
    """Return teacher scores of some faces; blendshapes that are not given are 0."""
    names = {name for name, _ in RULES.values()} - {"lip_gap", "mouthRoll"}
    names |= {"mouthRollLower", "mouthRollUpper", "noseSneer"}
    values = dict.fromkeys(sorted(names), 0.0) | scores
    return pd.DataFrame(
        {f"bs_{name}{side}": value for name, value in values.items() for side in ("Left", "Right")},
        index=range(rows),
    )


def targets_of(rows: int, au_names: tuple[str, ...] = NANO_AUS, **scores: float | list[float]) -> Targets:
    return teacher_targets(table(rows, **scores), np.zeros(rows, np.float32), au_names)


def labels_of(au: str, **scores: float) -> int:
    return int(targets_of(1, **scores).labels[0, NANO_AUS.index(au)])


def clip_targets(lids: list[float], squint: list[float]) -> Targets:
    """Return AU07 and AU45 of a clip at 25 Hz."""
    scores = table(len(lids), eyeBlink=lids, eyeSquint=squint)
    times_s = np.arange(len(lids)) / 25
    return teacher_targets(scores, np.zeros(len(lids), np.float32), ("AU07", "AU45"), times_s)


@pytest.mark.parametrize("au", sorted(set(RULES) - {"AU25", "AU28"}))
def test_each_au_follows_the_mean_of_both_sides_of_its_blendshape(au: str) -> None:
    shape, least = RULES[au]
    scores = table(2)
    scores[f"bs_{shape}Left"], scores[f"bs_{shape}Right"] = [1.9 * least, 2.2 * least], 0.0
    found = teacher_targets(scores, np.zeros(2, np.float32), NANO_AUS)
    column = NANO_AUS.index(au)
    assert found.labels[:, column].tolist() == [0, 1]
    assert found.soft[0, column] < 0.5 < found.soft[1, column]
    assert found.intensities[0, column] < 2.5 < found.intensities[1, column]
    others = [name for name in RULES if name != au]
    assert (found.labels[:, [NANO_AUS.index(name) for name in others]] == 0).all()


def test_parted_lips_are_labelled_by_the_gap_in_the_landmarks() -> None:
    gaps = np.array([0.03, 0.04], np.float32)
    assert teacher_targets(table(2), gaps, ("AU25",)).labels[:, 0].tolist() == [0, 1]


def test_a_raised_cheek_needs_squint_and_smile() -> None:
    assert labels_of("AU06", eyeSquint=0.5, mouthSmile=0.5) == 1
    assert labels_of("AU06", eyeSquint=0.2, mouthSmile=0.1) == 0
    assert labels_of("AU06", eyeSquint=0.5, mouthSmile=0.1) == -1


def test_lips_are_sucked_only_if_both_roll_inwards() -> None:
    assert labels_of("AU28", mouthRollLower=0.5, mouthRollUpper=0.4) == 1
    assert labels_of("AU28", mouthRollLower=0.9, mouthRollUpper=0.1) == 0
    assert labels_of("AU28", mouthRollLower=0.1, mouthRollUpper=0.9) == 0


def test_aus_without_a_teacher_score_are_not_annotated_whatever_it_says() -> None:
    found = targets_of(3, noseSneer=0.9, browDown=0.9)
    for au in ("AU09", "AU23"):
        assert (found.labels[:, NANO_AUS.index(au)] == -1).all()
        assert np.isnan(found.intensities[:, NANO_AUS.index(au)]).all()


def test_a_mouth_stretched_by_a_smile_is_not_annotated_as_au20() -> None:
    assert labels_of("AU20", mouthStretch=0.6, mouthSmile=0.05) == 1
    assert labels_of("AU20", mouthStretch=0.6, mouthSmile=0.7) == -1
    assert labels_of("AU20", mouthStretch=0.1, mouthSmile=0.7) == 0


def test_a_blink_is_au45_and_not_au07() -> None:
    lids = [0.1] * 10 + list(BLINK) + [0.1] * 10
    squint = [0.2] * 10 + [0.4, 0.6, 0.7, 0.6, 0.4] + [0.2] * 10
    found = clip_targets(lids, squint)
    assert found.labels[:, 0].tolist() == [0] * 25
    assert found.labels[:, 1].tolist() == [0] * 12 + [1] + [0] * 12
    assert (found.soft[:, 0] < 0.5).all()
    assert (found.intensities[:, 0] < 2.5).all()


def test_tight_lids_stay_au07_through_a_blink() -> None:
    lids = [0.3] * 10 + list(BLINK) + [0.3] * 10
    assert clip_targets(lids, [0.6] * 10 + [0.3] * 5 + [0.6] * 10).labels[:, 0].tolist() == [1] * 25


def test_au07_is_not_annotated_in_a_blink_that_separates_tight_lids_from_relaxed_ones() -> None:
    lids = [0.1] * 10 + list(BLINK) + [0.1] * 10
    found = clip_targets(lids, [0.6] * 12 + [0.2] * 13)
    assert found.labels[:10, 0].tolist() == [1] * 10
    assert found.labels[12, 0] == -1
    assert np.isnan(found.intensities[12, 0])
    assert found.labels[15:, 0].tolist() == [0] * 10


@pytest.mark.parametrize("before", [0, 10])
def test_au07_is_not_annotated_while_eyes_stay_closed(before: int) -> None:
    lids = [0.1] * before + [0.8] * 50 + [0.1] * 10
    found = clip_targets(lids, [0.2] * before + [0.7] * 50 + [0.2] * 10)
    assert (found.labels[before : before + 50, 0] == -1).all()
    assert (found.labels[before : before + 50, 1] == 1).all()
    assert (found.labels[before + 55 :, 0] == 0).all()


def test_frames_without_a_face_in_a_clip_do_not_change_the_frames_beside_them() -> None:
    lids = [0.1] * 5 + [np.nan] * 5 + [0.1] * 5 + list(BLINK) + [0.1] * 5
    found = clip_targets(lids, [0.2] * 15 + [0.6] * 5 + [0.2] * 5)
    faces = np.isfinite(lids)
    assert (found.labels[faces, 0] == 0).all()


def test_on_single_pictures_a_squint_with_closed_lids_is_not_annotated() -> None:
    assert labels_of("AU07", eyeSquint=0.7, eyeBlink=0.8) == -1
    assert labels_of("AU07", eyeSquint=0.7, eyeBlink=0.2) == 1
    assert labels_of("AU07", eyeSquint=0.2, eyeBlink=0.8) == 0


def test_the_rules_of_the_twelve_aus_do_not_depend_on_the_new_ones() -> None:
    random = np.random.default_rng(0)
    names = [name for name, _ in RULES.values() if name not in ("lip_gap", "mouthRoll")]
    scores = table(200, **{name: random.uniform(size=200) for name in names})
    gaps, times_s = random.uniform(0, 0.07, 200).astype(np.float32), np.arange(200) / 25
    twelve = teacher_targets(scores, gaps, AFFWILD2_AUS, times_s)
    every = teacher_targets(scores, gaps, NANO_AUS)
    assert (twelve.labels[:, AFFWILD2_AUS.index("AU07")] == (scores["bs_eyeSquintLeft"] > 0.5)).all()
    for column, au in enumerate(AFFWILD2_AUS):
        if au != "AU07":
            assert (twelve.labels[:, column] == every.labels[:, NANO_AUS.index(au)]).all(), au


def test_intensities_rise_with_the_score_and_never_contradict_the_label() -> None:
    scores = np.linspace(0, 1, 101)
    found = targets_of(101, ("AU05", "AU12", "AU25"), eyeWide=scores, mouthSmile=scores)
    assert (np.diff(found.intensities[:, :2], axis=0) > 0).all()
    assert ((found.intensities > 2.5) == (found.labels == 1)).all()
    assert found.intensities.min() == 0
    assert found.intensities.max() < 5
