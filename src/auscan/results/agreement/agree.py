"""How far two coders agree on each AU, frame by frame and event by event, with intervals.

Frames follow each other and are no independent witnesses, so not frames are drawn for an interval but
stretches of time (block bootstrap): the time is cut into stretches of `stretch_s`, which are drawn with
replacement 2000 times, frames and events of a stretch together. With fewer than `FEWEST` stretches there is
no interval. Where an AU comes and goes more slowly than a stretch lasts, intervals are too narrow.

In: two codings of one face.  Out: an `Agreement`: a row a level and AU, and one for the mean of the AUs.
Not here: reading files (coders/), the measures (measures.py), matching events (match.py), the common clock
(clock.py), drawing (figure.py).  What all of it means: docs/agreement.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.errors import InputError
from auscan.results.agreement.clock import Clock, Said, on_one_clock
from auscan.results.agreement.measures import MEASURES, Sums, sums_of, units_of
from auscan.results.readers.coding import Coding

LEVELS: Final[tuple[str, ...]] = ("frame", "event")
MEAN: Final[str] = "mean"
DRAWS: Final[int] = 2000
FEWEST: Final[int] = 10
"""Stretches of time; fewer give no interval."""
PERCENT: Final[float] = 95.0

COUNTS: Final[tuple[str, ...]] = ("units", "a_active", "b_active", "both")
"""Frames, or events and pauses; those in which A, B, both say yes."""

COLUMNS: Final[tuple[str, ...]] = (
    *("level", "AU", *COUNTS),
    *(f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")),
)
"""The columns of the table."""


@dataclass(frozen=True, kw_only=True)
class AgreeSettings:
    """What the event level and the intervals go by; see match.py and the top of this file."""

    overlap: float = 0.5
    """Events are one if they share at least this part of the time that they cover together."""
    stretch_s: float = 5.0
    """Length of the stretches of time that are drawn."""
    rate_hz: float | None = None
    """Frames a second of files without times; None: the other file's times."""

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise InputError(f"The overlap is a share, above 0 and at most 1; got {self.overlap}.")
        for name, value in (("length of a stretch", self.stretch_s), ("frame rate", self.rate_hz)):
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"The {name} should be above 0; got {value}.")


USUAL: Final[AgreeSettings] = AgreeSettings()


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far A and B agree."""

    a: str
    b: str
    table: pd.DataFrame
    """`COLUMNS`: a row a level and AU that both have coded, and one of their mean a level."""
    notes: tuple[str, ...]
    """Sentences that a reader of the table should know."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; None is undefined."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"a": self.a, "b": self.b, "figures": rows, "notes": list(self.notes)}


def agree(a: Coding, b: Coding, settings: AgreeSettings = USUAL) -> Agreement:
    """Compare two codings of one face.

    Raises InputError where they have no time or no AU in common, or no times at all.
    """
    clock, said_a, said_b = on_one_clock(a, b, settings.rate_hz)
    known = ~(np.isnan(said_a.labels) | np.isnan(said_b.labels))  # [G, A]
    aus = [j for j in range(len(AU_NAMES)) if known[:, j].any()]
    if not aus:
        raise InputError(f"{a.name} and {b.name} have no AU in common that both have coded.")
    stretches = _Stretches(clock, settings.stretch_s)
    graded = said_a.scale == said_b.scale and said_a.scale is not None
    rows = []
    for level in LEVELS:
        sums = [
            _frame_sums(said_a, said_b, known[:, j], j, stretches, graded)
            if level == "frame"
            else _event_sums(said_a, said_b, known[:, j], j, stretches, settings.overlap)
            for j in aus
        ]
        rows += _rows(level, [AU_NAMES[j] for j in aus], sums, stretches.draws())
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Agreement(a.name, b.name, table, tuple(_notes(a, b, known, clock, stretches, graded)))


class _Stretches:
    """The time of a clock in stretches of one length; the last may be shorter."""

    def __init__(self, clock: Clock, length_s: float) -> None:
        self.clock, self.length_s = clock, length_s
        self.count = int(self.at(clock.middle_s[-1:])[0]) + 1

    def at(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """The stretch of each time."""
        since_s = np.maximum(times_s - self.clock.begin_s[0], 0)
        return np.asarray(since_s // self.length_s, np.int64)

    def draws(self) -> NDArray[np.float64]:
        """[D, V] how often each stretch is drawn; none where there are too few."""
        if self.count < FEWEST:
            return np.empty((0, self.count))
        even = np.full(self.count, 1 / self.count)
        return np.random.default_rng(0).multinomial(self.count, even, DRAWS).astype(np.float64)


def _frame_sums(
    a: Said, b: Said, known: NDArray[np.bool_], au: int, stretches: _Stretches, graded: bool
) -> Sums:
    yes = [said.labels[known, au] == 1 for said in (a, b)]
    values: list[NDArray[Any]] = [each.astype(np.float64) for each in yes]
    if graded and a.values is not None and b.values is not None:
        values = [a.values[known, au], b.values[known, au]]
    place = stretches.at(stretches.clock.middle_s[known])
    return sums_of(place, stretches.count, yes[0], yes[1], values[0], values[1])


def _event_sums(
    a: Said, b: Said, known: NDArray[np.bool_], au: int, stretches: _Stretches, overlap: float
) -> Sums:
    spans = [said.events.loc[said.events["AU"] == AU_NAMES[au], ["onset", "offset"]] for said in (a, b)]
    one, other = (each.to_numpy(np.float64) for each in spans)
    units = units_of(one, other, stretches.clock, known, overlap)
    place = np.minimum(stretches.at(units.begin_s), stretches.count - 1)
    return sums_of(place, stretches.count, units.a_s > 0, units.b_s > 0, units.a_s, units.b_s)


def _rows(
    level: str, names: Sequence[str], sums: Sequence[Sums], draws: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """A row an AU, and one of their mean, whose interval comes from the same draws."""
    rows: list[dict[str, Any]] = []
    for name, each in zip(names, sums, strict=True):
        whole = each.weighted(np.ones(len(each.units)))
        counts = (whole.units, whole.a_yes, whole.b_yes, whole.both)
        row: dict[str, Any] = {"level": level, "AU": name}
        row |= dict(zip(COUNTS, map(int, counts), strict=True))
        row |= {measure: float(whole.measure(measure)) for measure in MEASURES}
        rows.append(row)
    mean: dict[str, Any] = {"level": level, "AU": MEAN}
    mean |= {key: sum(row[key] for row in rows) for key in COUNTS}
    for measure in MEASURES:
        drawn = np.stack([each.weighted(draws).measure(measure) for each in sums])  # [A, D]
        mean[measure] = float(_mean(np.array([[row[measure]] for row in rows]))[0])
        for row, values in zip([*rows, mean], [*drawn, _mean(drawn)], strict=True):
            row[f"{measure}_low"], row[f"{measure}_high"] = _interval(values, row[measure])
    return [*rows, mean]


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the AUs [A, D] -> [D] of what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _interval(values: NDArray[np.float64], whole: float) -> tuple[float, float]:
    """Percentile interval of the draws in which the measure is defined, if most are."""
    values = values[~np.isnan(values)]
    if np.isnan(whole) or len(values) < DRAWS / 2:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [50 - PERCENT / 2, 50 + PERCENT / 2])
    return float(low), float(high)


def _notes(
    a: Coding, b: Coding, known: NDArray[np.bool_], clock: Clock, stretches: _Stretches, graded: bool
) -> list[str]:
    span_s = float(clock.end_s[-1] - clock.begin_s[0])
    notes = [
        f"A is {a.name}, face {a.face}; B is {b.name}, face {b.face}.",
        f"{len(clock.begin_s)} frames of the common clock, {span_s:.1f} s, "
        f"{len(clock.begin_s) / span_s:.4g} a second. Frames that either does not know are left out.",
    ]
    if missing := [name for j, name in enumerate(AU_NAMES) if not known[:, j].any()]:
        notes.append(f"Not coded by both: {', '.join(missing)}.")
    made = "the values behind the labels" if graded else "the labels as 0 and 1"
    notes.append(f"ICC(3,1) of frames is of {made}, that of events of seconds.")
    if stretches.count < FEWEST:
        notes.append(
            f"No intervals: it takes {FEWEST} stretches of {stretches.length_s:g} s, and {span_s:.1f} s give "
            f"{stretches.count}."
        )
    else:
        notes.append(
            f"Intervals: {PERCENT:g} %, by drawing {stretches.count} stretches of {stretches.length_s:g} s."
        )
    return notes
