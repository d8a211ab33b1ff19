"""Cohen's kappa, ICC(3,1) and F1 of two coders, all from sums that can be added up.

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

Numbers = NDArray[np.float64]

MEASURES: Final[tuple[str, ...]] = ("kappa", "icc", "f1")

_NOTHING = 1e-12
"""A variance below this is rounding."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over units, of any shape; that of V stretches of time is [V]."""

    units: Numbers
    a_yes: Numbers
    b_yes: Numbers
    both: Numbers
    """Units in which both say yes."""
    a: Numbers
    b: Numbers
    aa: Numbers
    bb: Numbers
    ab: Numbers
    """Sums of the values, their squares and their product."""

    def weighted(self, times: Numbers) -> "Sums":
        """Sums in which stretch v counts `times` [..., V] over: [V] -> [...]."""
        return Sums(*(times @ each for each in vars(self).values()))

    def kappa(self) -> Numbers:
        """Cohen's kappa."""
        agreed = self.units - self.a_yes - self.b_yes + 2 * self.both
        chance = self.a_yes * self.b_yes + (self.units - self.a_yes) * (self.units - self.b_yes)
        return _ratio(agreed * self.units - chance, self.units**2 - chance)

    def icc(self) -> Numbers:
        """ICC(3,1)."""
        n = np.maximum(self.units, 1)
        spread = self.aa - self.a**2 / n + self.bb - self.b**2 / n
        spread = np.where(spread > _NOTHING * n, spread, 0.0)
        return _ratio(2 * (self.ab - self.a * self.b / n), spread)

    def f1(self) -> Numbers:
        """F1."""
        return _ratio(2 * self.both, self.a_yes + self.b_yes)

    def measure(self, name: str) -> Numbers:
        """One of MEASURES."""
        found: Numbers = {"kappa": self.kappa, "icc": self.icc, "f1": self.f1}[name]()
        return found


def sums_of(
    stretch: NDArray[np.integer],
    stretches: int,
    a_yes: NDArray[np.bool_],
    b_yes: NDArray[np.bool_],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
) -> Sums:
    """Sums [V] over U units, apart for each of V = `stretches`.

    stretch: [U] the stretch of time that a unit is of    a_yes, b_yes: [U] what each says
    a, b: [U] values of each; they are taken from their means, which an ICC of consistency does not notice
    """
    a = np.asarray(a, np.float64) - (np.mean(a, dtype=np.float64) if len(a) else 0.0)
    b = np.asarray(b, np.float64) - (np.mean(b, dtype=np.float64) if len(b) else 0.0)
    weights = (np.ones(len(a)), a_yes, b_yes, a_yes & b_yes, a, b, a * a, b * b, a * b)
    summed = (np.bincount(stretch, each.astype(np.float64), stretches) for each in weights)
    return Sums(*(each.astype(np.float64) for each in summed))  # without units bincount counts in integers


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0))
