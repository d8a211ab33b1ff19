"""Which event of one coder is which of the other's, and what there is to agree on.

Two events are one if their overlap is at least `overlap` of the time that they cover together (intersection
over union). Each is matched once at most, the pairs that overlap most first.

The time that both know is cut into units: a matched pair, an event that only one has, and each stretch in
which neither has any. In each unit each coder says yes or no, and for how many seconds. So kappa has a no to
count, and a long pause weighs no more than a short one.

In: the events of one AU and what is known.  Out: the units.

Cohen's kappa, ICC(3,1) and F1 of two coders, all from sums that can be added up.

    kappa     (p_o - p_e) / (1 - p_e), by Cohen (1960), of yes and no
    ICC(3,1)  (MS_rows - MS_error) / (MS_rows + MS_error), two-way mixed, consistency, single coder, by
              Shrout and Fleiss (1979); for two coders that is 2 cov(a, b) / (var a + var b)
    F1        2 both / (2 both + only a + only b), which is the same whoever is called right

Each is NaN where it is 0 / 0. Why sums: an interval follows from drawing stretches of time anew without
touching a frame again (agree.py).

In: what two coders say of U units, frames or events.  Out: sums by stretch of time, and the three measures.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.results.agreement.timeline import SharedTimeline, within

Spans = NDArray[np.float64]
"""[E, 2] onset and offset, seconds."""

MIN_KNOWN_SHARE = 0.5
"""An event counts if at least this share of its frames is known to both."""


@dataclass(frozen=True, eq=False)
class EventUnits:
    """U units of one AU."""

    begin_s: NDArray[np.float64]
    a_s: NDArray[np.float64]
    """[U] seconds for which A says yes; 0: A says no."""
    b_s: NDArray[np.float64]


def match_events(a: Spans, b: Spans, overlap: float) -> list[tuple[int, int]]:
    """Pairs of an event of a and one of b, by index."""
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
    """The units of one AU.  known: [G] frames of the clock of which both say something."""
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
    """The events that lie in the clock's time and of which enough is known, cut to that time."""
    if not len(spans):
        return spans.reshape(0, 2)
    begin, end = np.searchsorted(timeline.middle_s, spans).T
    sums = np.concatenate([[0], np.cumsum(known)])
    frames = end - begin
    is_counted = (frames > 0) & (sums[end] - sums[begin] >= MIN_KNOWN_SHARE * frames)
    return np.asarray(np.clip(spans[is_counted], timeline.begin_s[0], timeline.end_s[-1]))


FloatArray = NDArray[np.float64]

MEASURES: Final[tuple[str, ...]] = ("kappa", "icc", "f1")

_MIN_VARIANCE = 1e-12
"""A variance below this is rounding."""


def cohen_kappa(units: FloatArray, a_yes: FloatArray, b_yes: FloatArray, both: FloatArray) -> FloatArray:
    """Compute Cohen's kappa of two coders from counts of any shape; NaN where it is 0 / 0.

    units: all units    a_yes, b_yes: units in which A, B says yes    both: units in which both say yes
    """
    agreed = units - a_yes - b_yes + 2 * both
    chance = a_yes * b_yes + (units - a_yes) * (units - b_yes)
    return _ratio(agreed * units - chance, units**2 - chance)


@dataclass(frozen=True, eq=False)
class AgreementSums:
    """Sums over units, of any shape; that of V stretches of time is [V]."""

    units: FloatArray
    a_yes: FloatArray
    b_yes: FloatArray
    both: FloatArray
    """Units in which both say yes."""
    a: FloatArray
    b: FloatArray
    aa: FloatArray
    bb: FloatArray
    ab: FloatArray
    """Sums of the values, their squares and their product."""

    def weighted(self, weights: FloatArray) -> "AgreementSums":
        """Sums in which stretch v counts `weights` [..., V] over: [V] -> [...]."""
        return AgreementSums(*(weights @ each for each in vars(self).values()))

    def kappa(self) -> FloatArray:
        """Cohen's kappa."""
        return cohen_kappa(self.units, self.a_yes, self.b_yes, self.both)

    def icc(self) -> FloatArray:
        """ICC(3,1)."""
        n = np.maximum(self.units, 1)
        variance = self.aa - self.a**2 / n + self.bb - self.b**2 / n
        variance = np.where(variance > _MIN_VARIANCE * n, variance, 0.0)
        return _ratio(2 * (self.ab - self.a * self.b / n), variance)

    def f1(self) -> FloatArray:
        """F1."""
        return _ratio(2 * self.both, self.a_yes + self.b_yes)

    def measure(self, name: str) -> FloatArray:
        """One of MEASURES."""
        value: FloatArray = {"kappa": self.kappa, "icc": self.icc, "f1": self.f1}[name]()
        return value


def sum_units(
    block: NDArray[np.integer],
    blocks: int,
    a_yes: NDArray[np.bool_],
    b_yes: NDArray[np.bool_],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
) -> AgreementSums:
    """Sums [V] over U units, apart for each of V = `blocks`.

    block: [U] the stretch of time that a unit is of    a_yes, b_yes: [U] what each says
    a, b: [U] values of each; they are taken from their means, which an ICC of consistency does not notice
    """
    a = np.asarray(a, np.float64) - (np.mean(a, dtype=np.float64) if len(a) else 0.0)
    b = np.asarray(b, np.float64) - (np.mean(b, dtype=np.float64) if len(b) else 0.0)
    weights = (np.ones(len(a)), a_yes, b_yes, a_yes & b_yes, a, b, a * a, b * b, a * b)
    summed = (np.bincount(block, each.astype(np.float64), blocks) for each in weights)
    # Without units bincount counts in integers.
    return AgreementSums(*(each.astype(np.float64) for each in summed))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.asarray(
        np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)
    )
