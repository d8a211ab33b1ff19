"""Compare two codings of one video: common frames, matched events, measures and intervals."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import cohen_kappa_score, f1_score

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.results.agreement.agree import (
    COLUMNS,
    INTENSITY_COLUMNS,
    AgreementSettings,
    compute_agreement,
)
from auscan.results.agreement.figure import write_figure
from auscan.results.agreement.measures import match_events
from auscan.results.agreement.timeline import align_codings
from auscan.results.readers.coding import Coding, EventCoding, FrameCoding

AU12 = AFFWILD2_AUS.index("AU12")


def frames(
    active: list[float] | np.ndarray, rate_hz: float | None = 25.0, start_s: float = 0.0, name: str = "f"
) -> FrameCoding:
    """Return a coding of AU12 only, frame by frame."""
    labels = np.full((len(active), 12), np.nan, np.float32)
    labels[:, AU12] = active
    index = np.arange(len(active))
    times_s = None if rate_hz is None else start_s + index / rate_hz
    return FrameCoding(name=name, face=0, au_names=AFFWILD2_AUS, frames=index, times_s=times_s, labels=labels)


def events(*spans: tuple[float, float], name: str = "e") -> EventCoding:
    """Return a coding of AU12 only, as events."""
    rows = [("AU12", *span) for span in spans]
    table = pd.DataFrame(rows, columns=["AU", "onset", "offset"])
    table = table.astype({"onset": float, "offset": float})
    return EventCoding(name=name, face=0, au_names=("AU12",), events=table)


def compare(a: Coding, b: Coding, level: str, **options: float) -> pd.Series:
    """Return the row of AU12 of a level."""
    table = compute_agreement(a, b, AgreementSettings(**options)).table.set_index(["level", "AU"])
    return table.loc[(level, "AU12")]


def labels_in(seconds: float, spans: list[tuple[float, float]], rate_hz: float = 25.0) -> np.ndarray:
    """Return labels at `rate_hz`, 1 within the spans."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.any([(times_s >= a) & (times_s < b) for a, b in spans], axis=0).astype(float)


def test_frame_measures_equal_those_of_scikit_learn_and_ignore_unknown_frames() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 400)).astype(float)
    a[50:90] = np.nan
    b[80:120] = np.nan
    known = ~np.isnan(a + b)
    found = compare(frames(a), frames(b), "frame")
    assert found["units"] == known.sum() == 330
    assert found["both"] == (a[known] * b[known]).sum()
    assert found["kappa"] == pytest.approx(cohen_kappa_score(a[known], b[known]))
    assert found["f1"] == pytest.approx(f1_score(a[known], b[known]))


@pytest.mark.parametrize("rate_hz", [10.0, 24.0, 30.0, 50.0, 59.94])
def test_two_frame_rates_are_aligned_by_time_at_the_lower_rate(rate_hz: float) -> None:
    spans = [(1.0, 3.0), (5.0, 5.5)]
    a, b = frames(labels_in(10, spans)), frames(labels_in(10, spans, rate_hz), rate_hz)
    found = compare(a, b, "frame")
    assert found["units"] == pytest.approx(10 * min(25, rate_hz), abs=1)
    assert found["kappa"] > 0.94  # one frame of error at each of four edges, but no drift
    assert compare(a, b, "event")["f1"] == 1


def test_times_rounded_to_milliseconds_lose_no_frame() -> None:
    """OpenFace writes 0.033 and 0.067, so the label at the begin of a frame may be that of the previous."""
    active = np.random.default_rng(1).integers(0, 2, 300).astype(float)
    exact, rounded = frames(active, 30.0), frames(active, 30.0)
    assert rounded.times_s is not None
    object.__setattr__(rounded, "times_s", rounded.times_s.round(3))
    assert compare(exact, rounded, "frame")["kappa"] == compare(rounded, exact, "frame")["kappa"] == 1


def test_only_the_time_covered_by_both_codings_counts() -> None:
    timeline, a, b = align_codings(frames(np.ones(100)), frames(np.ones(100), start_s=2.0))
    assert timeline.begin_s[[0, -1]] == pytest.approx([2.0, 3.96])
    assert_array_equal(a.labels[:, AU12], b.labels[:, AU12])


def test_an_event_coding_is_inactive_outside_events_and_unknown_for_other_aus() -> None:
    _, a, b = align_codings(frames(np.zeros(100)), events((1.0, 2.0)))
    assert b.labels[:, AU12].sum() == 25
    assert np.isnan(np.delete(b.labels, AU12, axis=1)).all()
    assert len(a.labels) == 100


def test_frames_without_times_take_those_of_the_other_file() -> None:
    """An Aff-Wild2 file of a video with a variable rate: frame k is frame k."""
    times_s = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.08, 50))
    timed = frames(np.arange(50) % 2)
    object.__setattr__(timed, "times_s", times_s)
    untimed = frames(np.arange(55) % 2, rate_hz=None)
    assert compare(timed, untimed, "frame")["kappa"] == 1
    assert compare(timed, untimed, "frame")["units"] == 50


def test_frames_without_times_against_events_need_a_rate() -> None:
    untimed = frames(labels_in(4, [(1, 2)]), rate_hz=None, name="a.txt")
    with pytest.raises(InputError, match=r"a\.txt has frame numbers but no times.*--fps"):
        compute_agreement(untimed, events((1, 2)))
    assert compare(untimed, events((1, 2)), "frame", rate_hz=25.0)["kappa"] == 1


def test_two_event_codings_are_compared_25_times_a_second() -> None:
    found = compare(events((0, 2), (3, 4)), events((0, 2)), "frame")
    assert (found["units"], found["a_active"], found["b_active"]) == (100, 75, 50)


def test_events_match_by_overlap_over_the_time_covered_and_once_at_most() -> None:
    a = np.array([[0.0, 4.0], [10.0, 11.0]])
    b = np.array([[0.0, 1.0], [1.0, 4.0], [10.6, 11.6]])
    assert match_events(a, b, 0.5) == [(0, 1)]  # overlap 3 / 4; 0.4 / 1.6 is too small
    assert match_events(a, b, 0.2) == [(0, 1), (1, 2)]
    assert match_events(a, b, 0.8) == []
    assert match_events(a, np.array([[4.0, 5.0]]), 0.01) == []  # adjacent events do not overlap


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
@settings(max_examples=50)
def test_matching_is_one_to_one_symmetric_and_leaves_no_pair_above_the_overlap(
    seed: int, overlap: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.sort(rng.choice(100, 2 * rng.integers(1, 8), replace=False)).reshape(-1, 2) / 10 for _ in "ab")
    shared = np.minimum(a[:, None, 1], b[:, 1]) - np.maximum(a[:, None, 0], b[:, 0])
    share = np.maximum(shared, 0) / (np.maximum(a[:, None, 1], b[:, 1]) - np.minimum(a[:, None, 0], b[:, 0]))
    pairs = match_events(a, b, overlap)
    ours, theirs = [i for i, _ in pairs], [j for _, j in pairs]
    assert len(set(ours)) == len(set(theirs)) == len(pairs)
    assert all(share[i, j] >= overlap for i, j in pairs)
    left = np.delete(np.delete(share, ours, axis=0), theirs, axis=1)
    assert (left < overlap).all()
    assert sorted((j, i) for j, i in match_events(b, a, overlap)) == sorted((j, i) for i, j in pairs) or (
        len(np.unique(share[share > 0])) < (share > 0).sum()  # of equal overlaps either may be matched
    )


def test_event_measures_equal_values_computed_by_hand() -> None:
    """A has three events; B has two of them and another one. There are five pauses.

    Of 9 units 2 are active for both, 1 for A only, 1 for B only and 5 for neither: observed 7/9, by chance
    45/81, so kappa is 0.5; F1 is 4/6. Seconds: (2, 2), (1, 1), (1, 0), (0, 1) and five times (0, 0).
    """
    a = events((1, 3), (5, 6), (9, 10))
    b = frames(labels_in(20, [(1, 3), (5, 6), (14, 15)]))
    found = compare(a, b, "event")
    assert found[["units", "a_active", "b_active", "both"]].tolist() == [9, 3, 3, 2]
    assert found["kappa"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx(4 / 6)
    seconds = np.array([[2, 1, 1, 0, 0, 0, 0, 0, 0], [2, 1, 0, 1, 0, 0, 0, 0, 0]])
    variance = np.cov(seconds)
    assert found["icc"] == pytest.approx(2 * variance[0, 1] / (variance[0, 0] + variance[1, 1]))


def test_an_event_where_the_other_coding_is_unknown_does_not_count() -> None:
    b = labels_in(20, [(1, 3)])
    b[200:300] = np.nan  # 8 to 12 s
    found = compare(events((1, 3), (9, 10)), frames(b), "event")
    assert found["f1"] == 1
    assert found["units"] == 4  # the event, and pauses before it, after it and after the unknown span


def test_one_active_frame_is_not_an_event() -> None:
    found = compare(frames(labels_in(20, [(1, 3), (5, 5.05)])), events((1, 3)), "event")
    assert found["a_active"] == 1


def noisy(seed: int, seconds: float = 120, swap: float = 0.1) -> tuple[FrameCoding, FrameCoding]:
    """Return two codings that differ in random spans of about half a second."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random(round(seconds / 2)) < 0.4, 50)
    a, b = (truth ^ np.repeat(rng.random(len(truth) // 12 + 1) < swap, 12)[: len(truth)] for _ in "ab")
    return frames(a.astype(float)), frames(b.astype(float))


def test_intervals_contain_the_value_and_are_wider_than_with_blocks_of_one_frame() -> None:
    a, b = noisy(0)
    for level in ("frame", "event"):
        found = compare(a, b, level)
        for measure in ("kappa", "icc", "f1"):
            assert found[f"{measure}_low"] < found[measure] < found[f"{measure}_high"]
    frame, by_frame = compare(a, b, "frame"), compare(a, b, "frame", block_s=0.04)
    width = frame["kappa_high"] - frame["kappa_low"]
    assert width > 1.5 * (by_frame["kappa_high"] - by_frame["kappa_low"])


@pytest.mark.slow
def test_intervals_cover_the_true_value_at_about_their_nominal_rate() -> None:
    """The true value is that of one very long simulation; 60 short ones are compared with it."""
    truth = compare(*noisy(999, seconds=6_000), "frame")["kappa"]
    inside = [compare(*noisy(seed), "frame") for seed in range(60)]
    share = np.mean([each["kappa_low"] <= truth <= each["kappa_high"] for each in inside])
    assert 0.85 <= share <= 1.0


def test_a_short_clip_has_no_intervals_and_a_note_gives_the_reason() -> None:
    agreement = compute_agreement(frames(labels_in(20, [(1, 3)])), events((1, 3)))
    assert agreement.table.filter(regex="_low|_high").isna().all(axis=None)
    assert any("need 10 blocks of 5 s, and 20.0 s have 4." in note for note in agreement.notes)


def test_the_mean_is_taken_over_the_aus_with_a_defined_value() -> None:
    a, b = noisy(1)
    labels_a, labels_b = a.labels.copy(), b.labels.copy()
    labels_a[:, 0] = labels_b[:, 0] = 0  # AU01, never active: undefined
    labels_a[:, 1] = labels_b[:, 1] = a.labels[:, AU12]
    for coding, labels in ((a, labels_a), (b, labels_b)):
        object.__setattr__(coding, "labels", labels)
    table = compute_agreement(a, b).table
    assert tuple(table.columns) == COLUMNS
    frame = table[table["level"] == "frame"].set_index("AU")
    assert frame.index.tolist() == ["AU01", "AU02", "AU12", "mean"]
    assert np.isnan(frame.loc["AU01", ["kappa", "icc", "f1"]].astype(float)).all()
    assert frame.loc["mean", "kappa"] == pytest.approx((1 + frame.loc["AU12", "kappa"]) / 2)


def test_icc_of_frames_uses_probabilities_if_both_have_them_and_labels_otherwise() -> None:
    rng = np.random.default_rng(0)
    values = np.full((2, 300, 12), np.nan, np.float32)
    values[:, :, AU12] = rng.random((2, 300))
    values[1, :, AU12] = 0.5 * (values[0, :, AU12] + values[1, :, AU12])
    a, b = (
        FrameCoding(
            name="v",
            face=0,
            au_names=AFFWILD2_AUS,
            frames=np.arange(300),
            times_s=np.arange(300) / 25,
            labels=np.where(np.isnan(each), np.nan, each > 0.5).astype(np.float32),
            probabilities=each,
        )
        for each in values
    )
    graded, plain = compare(a, b, "frame"), compare(a, frames(b.labels[:, AU12]), "frame")
    c = np.cov(values[:, :, AU12].astype(float))
    assert graded["icc"] == pytest.approx(2 * c[0, 1] / (c[0, 0] + c[1, 1]))
    c = np.cov([a.labels[:, AU12], b.labels[:, AU12]])
    assert plain["icc"] == pytest.approx(2 * c[0, 1] / (c[0, 0] + c[1, 1]))


def graded(intensities: np.ndarray, rate_hz: float = 25.0) -> FrameCoding:
    """Return a coding of AU12 and AU45 with intensities, active from 1 on."""
    index = np.arange(len(intensities))
    return FrameCoding(
        name="g",
        face=0,
        au_names=("AU12", "AU45"),
        frames=index,
        times_s=index / rate_hz,
        labels=np.where(np.isnan(intensities), 0, intensities >= 1).astype(np.float32),
        intensities=intensities.astype(np.float32),
    )


def test_intensities_of_both_are_compared_where_both_are_known() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(5 * rng.random((60, 1)), 25, axis=0)
    a, b = (np.clip(truth + 0.3 * rng.standard_normal((1500, 2)), 0, 5) for _ in "ab")
    a[:100, 0] = np.nan  # unknown
    b[:, 1] = np.nan  # AU45 has no intensity in B
    agreement = compute_agreement(graded(a), graded(b))
    assert tuple(agreement.intensities.columns) == INTENSITY_COLUMNS
    row, mean = agreement.intensities.to_dict("records")
    assert (row["AU"], row["frames"], mean["AU"]) == ("AU12", 1400, "mean")
    assert row["r"] == pytest.approx(np.corrcoef(a[100:, 0], b[100:, 0])[0, 1], abs=1e-6)
    assert row["mae"] == pytest.approx(np.abs(a[100:, 0] - b[100:, 0]).mean(), abs=1e-6)
    assert row["icc_low"] < row["icc"] < row["icc_high"]
    assert agreement.to_dict()["intensities"][0]["AU"] == "AU12"


def test_without_intensities_of_both_there_are_none_to_compare() -> None:
    agreement = compute_agreement(graded(np.ones((50, 2))), frames(np.ones(50)))
    assert agreement.intensities.empty
    assert agreement.to_dict()["intensities"] == []


def test_the_figure_has_a_panel_of_intensities(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((300, 2)) * 5
    write_figure(tmp_path / "a.svg", compute_agreement(graded(values), graded(values)))
    text = (tmp_path / "a.svg").read_text()
    assert ">Intensities</text>" in text
    assert "Pearson's r 1.00" in text


def test_agreement_is_symmetric_in_a_and_b() -> None:
    a, b = noisy(2)
    one, other = compute_agreement(a, b).table, compute_agreement(b, a).table
    assert_allclose(one[["kappa", "icc", "f1"]], other[["kappa", "icc", "f1"]])
    assert one["a_active"].tolist() == other["b_active"].tolist()


def test_codings_without_time_or_au_in_common_are_refused() -> None:
    with pytest.raises(InputError, match="no time in common"):
        compute_agreement(frames(np.ones(50)), frames(np.ones(50), start_s=10.0))
    with pytest.raises(InputError, match="no AU in common"):
        compute_agreement(frames(np.full(50, np.nan)), events((0, 1)))


@pytest.mark.parametrize(
    "options", [{"overlap": 0.0}, {"overlap": 1.1}, {"block_s": 0.0}, {"rate_hz": -1.0}, {"rate_hz": np.inf}]
)
def test_invalid_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        AgreementSettings(**options)


def test_the_figure_is_an_svg_with_a_text_alternative(tmp_path: Path) -> None:
    agreement = compute_agreement(*noisy(0))
    write_figure(tmp_path / "a.svg", agreement)
    root = Xml.parse(tmp_path / "a.svg").getroot()
    text = "".join(root.itertext())
    kappa = agreement.table.loc[agreement.table["AU"] == "AU12", "kappa"].iloc[0]
    assert f"Cohen's kappa {kappa:.2f}" in text
    assert (tmp_path / "a.svg").stat().st_size < 50_000
    assert "http" not in (tmp_path / "a.svg").read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_time_of_a_pause_belongs_to_no_frame_and_to_no_block() -> None:
    """A pause of 97 s made 20 empty blocks, and its last frame lasted for all of it."""
    active = labels_in(6, [(1, 2), (4, 5)])
    times_s = np.arange(150) / 25 + 97 * (np.arange(150) >= 75)
    coding = replace(frames(active), times_s=times_s)
    timeline, _, _ = align_codings(coding, coding)
    assert timeline.duration_s == pytest.approx(6.0)
    assert timeline.without_pauses(times_s) == pytest.approx(np.arange(150) / 25)
    agreement = compute_agreement(coding, coding)
    assert any("6.0 s have 2" in note for note in agreement.notes)
