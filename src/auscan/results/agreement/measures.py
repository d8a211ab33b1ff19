"""Match the events of two coders, and compute measures of agreement from sums.

Two events match if their intersection over union is at least `overlap`. Each event is matched at most once,
pairs with the largest overlap first. The time known to both coders is divided into units: a matched pair, an
event of one coder only, and each pause in which neither coder has an event. In each unit each coder is active
or not, for a number of seconds. Pauses are the negatives that kappa needs, and a long pause counts as one.

    kappa     (p_o - p_e) / (1 - p_e) of active and inactive units; Cohen (1960)
    ICC(3,1)  (MS_rows - MS_error) / (MS_rows + MS_error), two-way mixed, consistency, single coder; Shrout
              and Fleiss (1979). For two coders it equals 2 cov(a, b) / (var a + var b)
    F1        2 both / (2 both + only a + only b); it does not depend on which coder is the reference
    r         cov(a, b) / sqrt(var a var b), Pearson's correlation; of intensities
    MAE       mean absolute difference of a and b; of intensities

A measure is NaN if it is 0 / 0. All are computed from sums that can be added over blocks of time, so
the bootstrap (agree.py) does not read frames again.

Inputs: the events of one AU, or the labels and values of U units (frames or events).
Returns: units, sums for each block of time, and the measures.
See also: training/, which uses the sums for intensities, with a source video as a block.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.results.agreement.timeline import SharedTimeline, within

Spans = NDArray[np.float64]
"""[E, 2] onset and offset, seconds."""

MIN_KNOWN_SHARE = 0.5
"""Least share of an event's frames that both coders must know; other events are left out."""


@dataclass(frozen=True, eq=False)
class EventUnits:
    """Event-level units of one AU: matched pairs, unmatched events and pauses."""

    begin_s: NDArray[np.float64]
    """[U] seconds."""
    a_s: NDArray[np.float64]
    """[U] seconds active for A; 0 if A has no event."""
    b_s: NDArray[np.float64]
    """[U] seconds active for B; 0 if B has no event."""


def match_events(a: Spans, b: Spans, overlap: float) -> list[tuple[int, int]]:
    """Return pairs (index in a, index in b) of matching events.

    overlap: least intersection over union.
    """
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    covered = np.maximum(a[:, None, 1], b[None, :, 1]) - np.minimum(a[:, None, 0], b[None, :, 0])
    share = np.maximum(shared, 0) / covered  # [Ea, Eb]
    pairs: list[tuple[int, int]] = []
    free_a, free_b = set(range(len(a))), set(range(len(b)))
    for flat in np.argsort(-share, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(b))
        if share[i, j] <= 0 or share[i, j] < overlap:
            break
        if i in free_a and j in free_b:
            free_a.remove(i)
            free_b.remove(j)
            pairs.append((i, j))
    return sorted(pairs)


def event_units(
    a: Spans, b: Spans, timeline: SharedTimeline, known: NDArray[np.bool_], overlap: float
) -> EventUnits:
    """Return the units of one AU.  known: [G] whether both coders know the frame of the timeline."""
    a, b = _clip_to_known(a, timeline, known), _clip_to_known(b, timeline, known)
    pairs = match_events(a, b, overlap) if len(a) and len(b) else []
    unmatched_a = np.setdiff1d(np.arange(len(a)), [i for i, _ in pairs])
    unmatched_b = np.setdiff1d(np.arange(len(b)), [j for _, j in pairs])
    in_pause = known & ~within(timeline.middle_s, a) & ~within(timeline.middle_s, b)
    pauses_s = timeline.begin_s[np.flatnonzero(in_pause & ~np.append(False, in_pause[:-1]))]
    rows = [
        *((min(a[i, 0], b[j, 0]), a[i, 1] - a[i, 0], b[j, 1] - b[j, 0]) for i, j in pairs),
        *((a[i, 0], a[i, 1] - a[i, 0], 0.0) for i in unmatched_a),
        *((b[j, 0], 0.0, b[j, 1] - b[j, 0]) for j in unmatched_b),
        *((pause_s, 0.0, 0.0) for pause_s in pauses_s),
    ]
    table = np.array(rows, np.float64).reshape(-1, 3)
    return EventUnits(table[:, 0], table[:, 1], table[:, 2])


def _clip_to_known(spans: Spans, timeline: SharedTimeline, known: NDArray[np.bool_]) -> Spans:
    """Return the events that overlap the timeline and are known well enough, clipped to the timeline."""
    if not len(spans):
        return spans.reshape(0, 2)
    begin, end = np.searchsorted(timeline.middle_s, spans).T
    sums = np.concatenate([[0], np.cumsum(known)])
    frames = end - begin
    is_counted = (frames > 0) & (sums[end] - sums[begin] >= MIN_KNOWN_SHARE * frames)
    return np.asarray(np.clip(spans[is_counted], timeline.begin_s[0], timeline.end_s[-1]))


FloatArray = NDArray[np.float64]

MEASURES: Final[tuple[str, ...]] = ("kappa", "icc", "f1")
"""Measures of labels and of events."""
INTENSITY_MEASURES: Final[tuple[str, ...]] = ("icc", "r", "mae")
"""Measures of intensities."""

_MIN_VARIANCE = 1e-12
"""A smaller variance for each unit is a rounding error and counts as 0."""


def cohen_kappa(units: FloatArray, a_yes: FloatArray, b_yes: FloatArray, both: FloatArray) -> FloatArray:
    """Compute Cohen's kappa of two coders from counts of any shape; NaN if it is 0 / 0.

    units: all units    a_yes, b_yes: units active for A, for B    both: units active for both
    """
    agreed = units - a_yes - b_yes + 2 * both
    chance = a_yes * b_yes + (units - a_yes) * (units - b_yes)
    return _ratio(agreed * units - chance, units**2 - chance)


@dataclass(frozen=True, eq=False)
class AgreementSums:
    """Sums over units, all of one shape; [V] for V blocks of time."""

    units: FloatArray
    """Number of units."""
    a_yes: FloatArray
    """Units active for A."""
    b_yes: FloatArray
    """Units active for B."""
    both: FloatArray
    """Units active for both."""
    a: FloatArray
    """Sum of A's values."""
    b: FloatArray
    """Sum of B's values."""
    aa: FloatArray
    """Sum of A's squared values."""
    bb: FloatArray
    """Sum of B's squared values."""
    ab: FloatArray
    """Sum of the products of A's and B's values."""
    error: FloatArray
    """Sum of the absolute differences of A's and B's values."""

    def weighted(self, weights: FloatArray) -> "AgreementSums":
        """Return sums over blocks, weighted by how often each was drawn, [..., V]: [V] -> [...]."""
        return AgreementSums(*(weights @ each for each in vars(self).values()))

    def kappa(self) -> FloatArray:
        """Return Cohen's kappa."""
        return cohen_kappa(self.units, self.a_yes, self.b_yes, self.both)

    def icc(self) -> FloatArray:
        """Return ICC(3,1)."""
        variance_a, variance_b, covariance = self._spread()
        return _ratio(2 * covariance, variance_a + variance_b)

    def r(self) -> FloatArray:
        """Return Pearson's correlation."""
        variance_a, variance_b, covariance = self._spread()
        return _ratio(covariance, np.sqrt(variance_a * variance_b))

    def mae(self) -> FloatArray:
        """Return the mean absolute difference."""
        return _ratio(self.error, self.units)

    def _spread(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return n times the variances of A and of B, and n times their covariance."""
        n = np.maximum(self.units, 1)
        variances = (self.aa - self.a**2 / n, self.bb - self.b**2 / n)
        variance_a, variance_b = (np.where(each > _MIN_VARIANCE * n, each, 0.0) for each in variances)
        return variance_a, variance_b, np.asarray(self.ab - self.a * self.b / n)

    def f1(self) -> FloatArray:
        """Return F1."""
        return _ratio(2 * self.both, self.a_yes + self.b_yes)

    def measure(self, name: str) -> FloatArray:
        """Return the measure `name`, one of MEASURES or INTENSITY_MEASURES."""
        measures = {"kappa": self.kappa, "icc": self.icc, "f1": self.f1, "r": self.r, "mae": self.mae}
        return measures[name]()


def sum_units(
    block: NDArray[np.integer],
    blocks: int,
    a_yes: NDArray[np.bool_],
    b_yes: NDArray[np.bool_],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
) -> AgreementSums:
    """Return sums [V] over U units for each of V = `blocks` blocks of time.

    block: [U] block index of each unit    a_yes, b_yes: [U] whether the unit is active for A, for B
    a, b: [U] values. Their means are subtracted for precision; this does not change ICC(3,1) and r, which
    measure consistency.
    """
    error = np.abs(np.asarray(a, np.float64) - b)
    a = np.asarray(a, np.float64) - (np.mean(a, dtype=np.float64) if len(a) else 0.0)
    b = np.asarray(b, np.float64) - (np.mean(b, dtype=np.float64) if len(b) else 0.0)
    weights = (np.ones(len(a)), a_yes, b_yes, a_yes & b_yes, a, b, a * a, b * b, a * b, error)
    summed = (np.bincount(block, each.astype(np.float64), blocks) for each in weights)
    # bincount returns integers if there are no units.
    return AgreementSums(*(each.astype(np.float64) for each in summed))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.asarray(
        np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)
    )
