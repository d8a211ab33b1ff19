"""Test simulated behaviour: base rates, episodes, co-occurrence, speech, head pose and the label rule."""

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.synth.dynamics import (
    BASE_RATES,
    BLINKS_PER_MINUTE,
    CLOCK_HZ,
    EXTRA_AUS,
    EXTRA_RATES,
    LABEL_LEVEL,
    REST_MAX,
    RIG_AUS,
    FacialBehaviour,
    labels_of,
    runs,
    simulate,
)

AU = {name: j for j, name in enumerate(AFFWILD2_AUS)}


def simulate_person(seed: int, seconds: float = 25, speaks: bool = True) -> FacialBehaviour:
    return simulate(np.random.default_rng(seed), seconds, np.random.default_rng([seed, 1]), speaks)


@pytest.fixture(scope="module")
def many() -> list[FacialBehaviour]:
    return [simulate_person(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def labels(many: list[FacialBehaviour]) -> np.ndarray:
    return np.concatenate([labels_of(each.movement) for each in many])


def test_the_same_seed_gives_the_same_behaviour_and_another_a_different_one() -> None:
    assert np.array_equal(simulate_person(3).movement, simulate_person(3).movement)
    assert np.array_equal(simulate_person(3).pose, simulate_person(3).pose)
    assert not np.array_equal(simulate_person(3).movement, simulate_person(4).movement)


def test_aus_are_about_as_frequent_as_in_aff_wild2(labels: np.ndarray) -> None:
    rates = labels.mean(axis=0)
    assert np.all(rates > 0.5 * BASE_RATES - 0.005)
    without_speech = np.arange(len(AFFWILD2_AUS)) != AU["AU26"]
    assert np.all(rates[without_speech] < 1.5 * BASE_RATES[without_speech] + 0.01)


def test_wide_syllables_drop_the_jaw_in_a_third_of_speech_and_silence_does_not(
    many: list[FacialBehaviour], labels: np.ndarray
) -> None:
    speaking = np.concatenate([each.speaking for each in many])
    opening = np.concatenate([each.opening for each in many])
    jaw = labels[:, AU["AU26"]] == 1
    assert 0.3 < jaw[speaking].mean() < 0.42
    assert jaw[opening > 0.65].all()
    assert jaw[~speaking].mean() < 1.5 * BASE_RATES[AU["AU26"]]


def test_aus_of_one_expression_co_occur(labels: np.ndarray) -> None:
    together = np.corrcoef(labels.T)
    assert together[AU["AU06"], AU["AU12"]] > 0.25
    assert together[AU["AU01"], AU["AU02"]] > 0.1
    assert together[AU["AU04"], AU["AU12"]] < 0.05


def test_pressed_lips_are_not_parted(labels: np.ndarray) -> None:
    pressed = labels[labels[:, AU["AU24"]] == 1]
    assert pressed[:, AU["AU25"]].mean() < 0.15


def test_a_dropped_jaw_parts_the_lips(labels: np.ndarray) -> None:
    assert labels[labels[:, AU["AU26"]] == 1][:, AU["AU25"]].mean() > 0.95


def test_episodes_last_seconds_and_begin_and_end_gradually(many: list[FacialBehaviour]) -> None:
    smiles = np.concatenate([np.r_[0, each.movement[:, AU["AU12"]], 0] for each in many])
    begins = (np.diff((smiles >= LABEL_LEVEL).astype(int)) == 1).sum()
    assert 1 < (smiles >= LABEL_LEVEL).sum() / begins / CLOCK_HZ < 4
    inner = np.concatenate([np.abs(np.diff(each.movement[:, AU["AU12"]])) for each in many])
    assert np.quantile(inner, 0.999) < 0.15  # of full intensity in a hundredth of a second


def test_the_label_is_movement_from_the_resting_face_and_not_what_is_shown() -> None:
    movement = np.zeros((1, len(AFFWILD2_AUS)))
    movement[0, AU["AU04"]] = LABEL_LEVEL
    assert labels_of(movement)[0, AU["AU04"]] == 1
    assert labels_of(movement - 1e-6)[0, AU["AU04"]] == 0


def best_f1(active: np.ndarray, score: np.ndarray) -> float:
    """Return the F1 of the best threshold on a score [N] for labels [N]."""
    found = []
    for threshold in np.linspace(-0.3, 1.5, 60):
        predicted = score >= threshold
        found.append(2 * (predicted & active).sum() / max(1, predicted.sum() + active.sum()))
    return max(found)


def test_one_frame_is_ambiguous_even_with_exact_intensities_and_a_persons_baseline_resolves_it() -> None:
    behaviours = [simulate_person(seed, seconds=90) for seed in range(30)]
    active = np.concatenate([labels_of(each.movement[::20]) for each in behaviours]) == 1
    shown = [each.movement[::20] + each.rest for each in behaviours]
    alone = np.concatenate(shown)
    corrected = np.concatenate([one - np.quantile(one, 0.15, axis=0) for one in shown])
    used = active.any(axis=0)
    single = np.mean([best_f1(active[:, j], alone[:, j]) for j in np.flatnonzero(used)])
    context = np.mean([best_f1(active[:, j], corrected[:, j]) for j in np.flatnonzero(used)])
    assert single < 0.8
    assert context > 0.95
    assert max(abs(each.rest).max() for each in behaviours) <= REST_MAX


def test_a_persons_resting_face_is_the_same_in_all_parts() -> None:
    one = simulate(np.random.default_rng(1), 5, np.random.default_rng(9))
    two = simulate(np.random.default_rng(2), 5, np.random.default_rng(9))
    assert np.array_equal(one.rest, two.rest)
    assert not np.array_equal(one.movement[:100], two.movement[:100])


def test_speech_opens_the_mouth_and_silence_does_not(many: list[FacialBehaviour]) -> None:
    for each in many[:20]:
        far = np.convolve(each.speaking, np.ones(41), "same") == 0
        assert not each.opening[far].any()
    talk = [each.opening[each.speaking].mean() for each in many if each.speaking.any()]
    assert 0.3 < np.mean(talk) < 0.8


def test_a_silent_person_has_no_voiced_sounds() -> None:
    silent = simulate_person(5, speaks=False)
    assert not silent.voiced.any()
    assert not silent.speaking.any()


def test_large_head_yaw_occurs_sometimes(many: list[FacialBehaviour]) -> None:
    yaw = np.concatenate([np.abs(each.pose[:, 0]) for each in many])
    assert 0.02 < (yaw > 35).mean() < 0.2
    assert yaw.max() <= 70


def test_curves_are_interpolated_between_ticks_and_clamped_beyond_the_end() -> None:
    each = simulate_person(0, seconds=2)
    line = np.arange(len(each.opening), dtype=float)
    assert np.allclose(each.interpolate(np.array([0.0, 0.125, 99.0]), line), [0, 12.5, len(line) - 1])


@pytest.fixture(scope="module")
def complete() -> list[FacialBehaviour]:
    """Behaviours with all AUs of the faces."""
    return [
        simulate(
            np.random.default_rng([seed, 0]),
            60,
            np.random.default_rng([seed, 1]),
            speaks=seed % 2 == 0,
            extra_random=np.random.default_rng([seed, 2]),
        )
        for seed in range(40)
    ]


def of(behaviour: FacialBehaviour, au: str) -> np.ndarray:
    return behaviour.movement[:, RIG_AUS.index(au)]


def test_the_further_aus_leave_the_twelve_of_aff_wild2_as_they_are() -> None:
    twelve = simulate_person(3)
    every = simulate(
        np.random.default_rng(3), 25, np.random.default_rng([3, 1]), extra_random=np.random.default_rng(0)
    )
    assert every.au_names == RIG_AUS
    assert twelve.au_names == AFFWILD2_AUS
    assert np.array_equal(every.movement[:, :12], twelve.movement)
    assert np.array_equal(every.rest[:12], twelve.rest)


def test_people_blink_briefly_and_10_to_25_times_a_minute(complete: list[FacialBehaviour]) -> None:
    counts, lengths_s = [], []
    for each in complete:
        blinks = runs(of(each, "AU45") > 0.01)
        counts.append(len(blinks))
        lengths_s += [(end - start) / CLOCK_HZ for start, end in blinks]
    assert BLINKS_PER_MINUTE[0] < np.mean(counts) < BLINKS_PER_MINUTE[1]
    assert np.median(lengths_s) == pytest.approx(0.26, abs=0.06)
    assert np.quantile(lengths_s, 0.98) <= 0.45


def test_a_blink_is_not_au07(complete: list[FacialBehaviour]) -> None:
    blinks, tightened = (
        np.concatenate([of(each, au) >= LABEL_LEVEL for each in complete]) for au in ("AU45", "AU07")
    )
    assert tightened[blinks].mean() == pytest.approx(tightened.mean(), abs=0.1)


def test_the_further_aus_are_about_as_frequent_as_stated(complete: list[FacialBehaviour]) -> None:
    for au in EXTRA_AUS[:-1]:
        rate = np.mean([of(each, au) >= LABEL_LEVEL for each in complete])
        assert 0.2 * EXTRA_RATES[au] < rate < 1.5 * EXTRA_RATES[au], au


@pytest.mark.parametrize(
    ("au", "other"),
    [("AU28", "AU25"), ("AU28", "AU26"), ("AU28", "AU24"), ("AU05", "AU45"), ("AU17", "AU26")],
)
def test_aus_that_exclude_each_other_are_not_active_together(
    complete: list[FacialBehaviour], au: str, other: str
) -> None:
    for each in complete:
        assert not ((of(each, au) >= LABEL_LEVEL) & (of(each, other) > 0.9)).any()
