"""Labels from the scores of the teacher: the rules of each AU, and a blink that is AU45 and not AU07."""

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS
from recipes.nano.data.teacher_labels import BLINK_OFF, RULES, blendshape, teacher_targets

WITH_BLINKS = (*AFFWILD2_AUS, "AU05", "AU09", "AU14", "AU17", "AU20", "AU28", "AU45")
NAMES = sorted({name for name, _ in RULES.values()} - {"lip_gap"} | {"mouthSmile", "eyeSquint"})


def scores(**values: list[float]) -> pd.DataFrame:
    """Return scores of every blendshape of the rules, 0 unless given."""
    count = len(next(iter(values.values())))
    return pd.DataFrame({f"bs_{name}": values.get(name, [0.0] * count) for name in NAMES})


@pytest.mark.parametrize("au", sorted(RULES))
def test_an_au_is_active_above_its_score(au: str) -> None:
    name, least = RULES[au]
    values = [least - 0.001, least + 0.001]
    gaps = np.array(values if name == "lip_gap" else [0.0, 0.0])
    table = scores(eyeBlink=[0.0, 0.0]) if name == "lip_gap" else scores(**{name: values})
    targets = teacher_targets(table, gaps, WITH_BLINKS)
    column = WITH_BLINKS.index(au)
    assert targets.labels[:, column].tolist() == [0, 1]
    assert targets.soft[:, column] == pytest.approx([0.5, 0.5], abs=0.02)


def test_both_sides_and_both_lips_are_averaged() -> None:
    table = pd.DataFrame({"bs_mouthRollLower": [0.2], "bs_mouthRollUpper": [0.4], "bs_eyeBlinkLeft": [0.9]})
    assert blendshape(table, "mouthRoll") == pytest.approx([0.3])
    assert blendshape(table, "eyeBlink") == pytest.approx([0.9])


def test_aus_without_a_rule_are_not_annotated() -> None:
    targets = teacher_targets(scores(jawOpen=[0.5]), np.zeros(1), WITH_BLINKS)
    for au in ("AU09", "AU23"):
        assert targets.labels[0, WITH_BLINKS.index(au)] == -1
        assert targets.soft[0, WITH_BLINKS.index(au)] == 0


def test_a_blink_is_au45_and_not_au07() -> None:
    table = scores(eyeSquint=[0.7, 0.7], eyeBlink=[BLINK_OFF - 0.01, 0.8])
    targets = teacher_targets(table, np.zeros(2), WITH_BLINKS)
    assert targets.labels[:, WITH_BLINKS.index("AU07")].tolist() == [1, -1]
    assert targets.labels[:, WITH_BLINKS.index("AU45")].tolist() == [0, 1]


def test_the_twelve_aus_of_the_shipped_model_keep_their_rule() -> None:
    table = scores(eyeSquint=[0.7], eyeBlink=[0.8])
    targets = teacher_targets(table, np.zeros(1))
    assert targets.labels.shape == (1, 12)
    assert targets.labels[0, AFFWILD2_AUS.index("AU07")] == 1


def test_the_cheek_needs_squint_and_smile() -> None:
    table = scores(eyeSquint=[0.5, 0.2, 0.5], mouthSmile=[0.5, 0.1, 0.1])
    labels = teacher_targets(table, np.zeros(3)).labels[:, AFFWILD2_AUS.index("AU06")]
    assert labels.tolist() == [1, 0, -1]
