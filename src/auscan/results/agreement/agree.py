"""Compute inter-rater agreement on each AU, for frames and for events, with confidence intervals.

Consecutive frames are not independent, so intervals come from a block bootstrap: time is divided into blocks
of `block_s`, and `DRAWS` samples of blocks are drawn with replacement. The frames and events of a block stay
together. With fewer than `MIN_BLOCKS` blocks there is no interval. If an AU changes more slowly than one
block lasts, intervals are too narrow.

Inputs: two codings of one face.
Returns: an `Agreement` with one row for each level and AU, and one row for the mean over AUs.
See also: readers/ (files), timeline.py (common frames), measures.py (measures and event matching),
figure.py (figure), docs/agreement.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.results.agreement.measures import MEASURES, AgreementSums, event_units, sum_units
from auscan.results.agreement.timeline import AlignedCoding, SharedTimeline, align_codings
from auscan.results.readers.coding import Coding

LEVELS: Final[tuple[str, ...]] = ("frame", "event")
MEAN: Final[str] = "mean"
"""Value of the column AU in the row of the mean over AUs."""
DRAWS: Final[int] = 2000
"""Bootstrap samples."""
MIN_BLOCKS: Final[int] = 10
"""Blocks needed for an interval."""
CONFIDENCE_PERCENT: Final[float] = 95.0
"""Confidence level of the intervals."""

COUNTS: Final[tuple[str, ...]] = ("units", "a_active", "b_active", "both")
"""Number of units (frames, or events and pauses); units active for A, for B, and for both."""

COLUMNS: Final[tuple[str, ...]] = (
    *("level", "AU", *COUNTS),
    *(f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")),
)
"""Columns of `Agreement.table`."""


@dataclass(frozen=True, kw_only=True)
class AgreementSettings:
    """Settings of event matching (measures.py) and of the block bootstrap."""

    overlap: float = 0.5
    """Least intersection over union of two matching events, above 0 and at most 1."""
    block_s: float = 5.0
    """Length of a bootstrap block, seconds."""
    rate_hz: float | None = None
    """Frames per second of files without times; None: use the times of the other file."""

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise InputError(f"The overlap should be above 0 and at most 1; got {self.overlap}.")
        for name, value in (("length of a block", self.block_s), ("frame rate", self.rate_hz)):
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"The {name} should be above 0 and finite; got {value}.")


DEFAULT_AGREEMENT_SETTINGS: Final[AgreementSettings] = AgreementSettings()


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of two codings A and B."""

    a: str
    """Name of coding A."""
    b: str
    """Name of coding B."""
    table: pd.DataFrame
    """`COLUMNS`; for each level one row for each AU that both have coded, and one row for their mean."""
    notes: tuple[str, ...]
    """Sentences that explain the table: faces, frames, scale of the ICC, intervals."""

    def to_dict(self) -> dict[str, Any]:
        """Return the agreement as plain JSON types; an undefined measure is None."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"a": self.a, "b": self.b, "figures": rows, "notes": list(self.notes)}


def compute_agreement(
    a: Coding, b: Coding, settings: AgreementSettings = DEFAULT_AGREEMENT_SETTINGS
) -> Agreement:
    """Compute the agreement of two codings of one face.

    Raises InputError if the codings have no time or no AU in common, or if neither has times.
    """
    timeline, aligned_a, aligned_b = align_codings(a, b, settings.rate_hz)
    known = ~(np.isnan(aligned_a.labels) | np.isnan(aligned_b.labels))  # [G, A]
    au_names = aligned_a.au_names
    aus = [j for j in range(len(au_names)) if known[:, j].any()]
    if not aus:
        raise InputError(f"{a.name} and {b.name} have no AU in common that both have coded.")
    blocks = _BootstrapBlocks(timeline, settings.block_s)
    same_scale = aligned_a.scale == aligned_b.scale and aligned_a.scale is not None
    rows = []
    for level in LEVELS:
        sums = [
            _frame_sums(aligned_a, aligned_b, known[:, j], j, blocks, same_scale)
            if level == "frame"
            else _event_sums(aligned_a, aligned_b, known[:, j], j, blocks, settings.overlap)
            for j in aus
        ]
        rows += _table_rows(level, [au_names[j] for j in aus], sums, blocks.draw_counts())
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Agreement(
        a.name, b.name, table, tuple(_notes(a, b, au_names, known, timeline, blocks, same_scale))
    )


class _BootstrapBlocks:
    """Blocks of equal length that divide a timeline; the last block may be shorter."""

    def __init__(self, timeline: SharedTimeline, length_s: float) -> None:
        self.timeline, self.length_s = timeline, length_s
        self.count = int(self.block_at(timeline.middle_s[-1:])[0]) + 1

    def block_at(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the block index of each time."""
        since_s = np.maximum(times_s - self.timeline.begin_s[0], 0)
        return np.asarray(since_s // self.length_s, np.int64)

    def draw_counts(self) -> NDArray[np.float64]:
        """Return how often each sample draws each block, [D, V]; D is 0 if there are too few blocks."""
        if self.count < MIN_BLOCKS:
            return np.empty((0, self.count))
        equal_chances = np.full(self.count, 1 / self.count)
        return np.random.default_rng(0).multinomial(self.count, equal_chances, DRAWS).astype(np.float64)


def _frame_sums(
    a: AlignedCoding,
    b: AlignedCoding,
    known: NDArray[np.bool_],
    au: int,
    blocks: _BootstrapBlocks,
    same_scale: bool,
) -> AgreementSums:
    active = [coding.labels[known, au] == 1 for coding in (a, b)]
    values: list[NDArray[Any]] = [each.astype(np.float64) for each in active]
    if same_scale and a.values is not None and b.values is not None:
        values = [a.values[known, au], b.values[known, au]]
    block = blocks.block_at(blocks.timeline.middle_s[known])
    return sum_units(block, blocks.count, active[0], active[1], values[0], values[1])


def _event_sums(
    a: AlignedCoding,
    b: AlignedCoding,
    known: NDArray[np.bool_],
    au: int,
    blocks: _BootstrapBlocks,
    overlap: float,
) -> AgreementSums:
    spans_by_coder = [
        coding.events.loc[coding.events["AU"] == a.au_names[au], ["onset", "offset"]] for coding in (a, b)
    ]
    one, other = (spans.to_numpy(np.float64) for spans in spans_by_coder)
    units = event_units(one, other, blocks.timeline, known, overlap)
    block = np.minimum(blocks.block_at(units.begin_s), blocks.count - 1)
    return sum_units(block, blocks.count, units.a_s > 0, units.b_s > 0, units.a_s, units.b_s)


def _table_rows(
    level: str, names: Sequence[str], sums: Sequence[AgreementSums], draw_counts: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return one row for each AU and one for their mean; all intervals use the same bootstrap samples."""
    rows: list[dict[str, Any]] = []
    for name, sums_of_au in zip(names, sums, strict=True):
        total = sums_of_au.weighted(np.ones(len(sums_of_au.units)))
        counts = (total.units, total.a_yes, total.b_yes, total.both)
        row: dict[str, Any] = {"level": level, "AU": name}
        row |= dict(zip(COUNTS, map(int, counts), strict=True))
        row |= {measure: float(total.measure(measure)) for measure in MEASURES}
        rows.append(row)
    mean: dict[str, Any] = {"level": level, "AU": MEAN}
    mean |= {key: sum(row[key] for row in rows) for key in COUNTS}
    for measure in MEASURES:
        drawn = np.stack([sums_of_au.weighted(draw_counts).measure(measure) for sums_of_au in sums])  # [A, D]
        mean[measure] = float(_mean(np.array([[row[measure]] for row in rows]))[0])
        for row, values in zip([*rows, mean], [*drawn, _mean(drawn)], strict=True):
            row[f"{measure}_low"], row[f"{measure}_high"] = _interval(values, row[measure])
    return [*rows, mean]


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the defined values over AUs, [A, D] -> [D]; NaN if none is defined."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _interval(values: NDArray[np.float64], value: float) -> tuple[float, float]:
    """Return the percentile interval of the defined values; NaN if most samples are undefined."""
    values = values[~np.isnan(values)]
    if np.isnan(value) or len(values) < DRAWS / 2:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [50 - CONFIDENCE_PERCENT / 2, 50 + CONFIDENCE_PERCENT / 2])
    return float(low), float(high)


def _notes(
    a: Coding,
    b: Coding,
    au_names: Sequence[str],
    known: NDArray[np.bool_],
    timeline: SharedTimeline,
    blocks: _BootstrapBlocks,
    same_scale: bool,
) -> list[str]:
    span_s = float(timeline.end_s[-1] - timeline.begin_s[0])
    notes = [
        f"A is {a.name}, face {a.face}; B is {b.name}, face {b.face}.",
        f"{len(timeline.begin_s)} common frames, {span_s:.1f} s, "
        f"{len(timeline.begin_s) / span_s:.4g} per second. Frames unknown to A or to B are left out.",
    ]
    if missing := [name for j, name in enumerate(au_names) if not known[:, j].any()]:
        notes.append(f"Not coded by both: {', '.join(missing)}.")
    icc_source = "the values behind the labels" if same_scale else "the labels as 0 and 1"
    notes.append(f"ICC(3,1) uses {icc_source} for frames, and active seconds for events.")
    if blocks.count < MIN_BLOCKS:
        notes.append(
            f"No intervals: they need {MIN_BLOCKS} blocks of {blocks.length_s:g} s, "
            f"and {span_s:.1f} s have {blocks.count}."
        )
    else:
        notes.append(
            f"Intervals: {CONFIDENCE_PERCENT:g} %, "
            f"block bootstrap over {blocks.count} blocks of {blocks.length_s:g} s."
        )
    return notes
