"""The measures equal values computed by hand, and those of scikit-learn and pingouin."""

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, f1_score

from auscan.results.agreement.measures import INTENSITY_MEASURES, MEASURES, AgreementSums, sum_units


def sums(a: NDArray[np.float64], b: NDArray[np.float64], blocks: int = 1) -> AgreementSums:
    """Return the sums of values; a unit is active above 0.5."""
    block = np.arange(len(a)) * blocks // max(len(a), 1)
    return sum_units(block, blocks, a > 0.5, b > 0.5, a, b)


def measures_of(sums_of_blocks: AgreementSums) -> dict[str, float]:
    """Return all measures over all blocks."""
    pooled = sums_of_blocks.weighted(np.ones(len(sums_of_blocks.units)))
    return {name: float(pooled.measure(name)) for name in MEASURES}


def test_kappa_and_f1_equal_values_computed_by_hand() -> None:
    """20 both, 5 only A, 10 only B, 15 neither: observed 0.7, chance 0.5, so kappa is 0.4; F1 is 40 / 55."""
    a = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15])
    b = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15])
    found = measures_of(sums(a, b))
    assert found["kappa"] == pytest.approx(0.4)
    assert found["f1"] == pytest.approx(40 / 55)


def test_icc_equals_the_two_way_anova_of_shrout_and_fleiss() -> None:
    """Judges 1 and 2 of their Table 2; ICC(3,1) = (BMS - EMS) / (BMS + EMS), computed by hand."""
    a, b = np.array([9.0, 6, 8, 7, 10, 6]), np.array([2.0, 1, 4, 1, 5, 2])
    rows, grand = (a + b) / 2, np.mean([a, b])
    bms = 2 * np.sum((rows - grand) ** 2) / 5
    jms = 6 * np.sum((np.array([a.mean(), b.mean()]) - grand) ** 2)
    ems = (np.sum((np.stack([a, b]) - grand) ** 2) - 5 * bms - jms) / 5
    assert measures_of(sums(a, b))["icc"] == pytest.approx((bms - ems) / (bms + ems))


def test_icc_of_the_four_judges_of_shrout_and_fleiss_is_the_published_one() -> None:
    """Their Table 4 gives ICC(3,1) = .71. Over all pairs of judges the sums give the ICC of the four."""
    judges = np.array(
        [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], np.float64
    )
    pairs = [sums(judges[i], judges[j]) for i in range(4) for j in range(i)]
    columns = zip(*(vars(pair).values() for pair in pairs), strict=True)
    pooled = AgreementSums(*(np.concatenate(each) for each in columns))
    assert round(measures_of(pooled)["icc"], 2) == 0.71


@given(st.integers(3, 60), st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(max_examples=40)
def test_r_and_mae_are_those_of_numpy(count: int, seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = 5 * rng.random((2, count))
    pooled = sums(a, b, blocks).weighted(np.ones(blocks))
    assert float(pooled.r()) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    assert float(pooled.mae()) == pytest.approx(np.abs(a - b).mean())


def test_a_constant_difference_lowers_neither_icc_nor_r_but_is_the_mae() -> None:
    a = np.array([0.0, 1, 2, 4])
    pooled = sums(a, a + 0.75).weighted(np.ones(1))
    found = [float(pooled.measure(name)) for name in INTENSITY_MEASURES]
    assert found == pytest.approx([1, 1, 0.75])


@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(max_examples=40)
def test_kappa_and_f1_are_those_of_scikit_learn(count: int, seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, (2, count)).astype(np.float64)
    found = measures_of(sums(a, b, blocks))
    if not (a == a[0]).all() or not (b == b[0]).all() or a[0] != b[0]:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    else:
        assert np.isnan(found["kappa"])  # both codings are constant and equal: 0 / 0
    if a.any() or b.any():
        assert found["f1"] == pytest.approx(f1_score(a, b), abs=1e-12)
    else:
        assert np.isnan(found["f1"])


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # pingouin 0.7 on pandas 3.1
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_icc_is_that_of_pingouin(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random(50)
    b = 0.7 * a + 0.3 * rng.random(50) + shift
    long = pd.DataFrame(
        {"target": np.tile(np.arange(50), 2), "rater": np.repeat(["a", "b"], 50), "score": [*a, *b]}
    )
    table = pingouin.intraclass_corr(long, targets="target", raters="rater", ratings="score")
    single = table[table["Type"].isin(["ICC3", "ICC(C,1)"])]  # names in older and newer pingouin
    assert measures_of(sums(a, b, 5))["icc"] == pytest.approx(float(single["ICC"].iloc[0]), abs=1e-9)


def test_full_agreement_gives_one_and_full_disagreement_minus_one() -> None:
    a = np.array([0.0, 1, 1, 0, 0, 1])
    assert measures_of(sums(a, a)) == pytest.approx({"kappa": 1.0, "icc": 1.0, "f1": 1.0})
    assert measures_of(sums(a, 1 - a)) == pytest.approx({"kappa": -1.0, "icc": -1.0, "f1": 0.0})


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_constant_codings_have_no_icc_and_no_kappa(value: float) -> None:
    same = np.full(7, value)
    found = measures_of(sums(same, same))
    assert np.isnan([found["icc"], found["kappa"]]).all()


def test_measures_without_units_are_undefined_and_raise_no_warning() -> None:
    assert np.isnan(list(measures_of(sums(np.empty(0), np.empty(0))).values())).all()


def test_a_block_drawn_twice_counts_its_units_twice() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 30))
    drawn = sums(a, b, 3).weighted(np.array([2.0, 0.0, 1.0]))
    again = np.r_[0:10, 0:10, 20:30]
    for name in MEASURES:
        assert float(drawn.measure(name)) == pytest.approx(measures_of(sums(a[again], b[again]))[name])
