"""Compute inter-rater agreement on each AU, for frames, events and intensities, with confidence intervals.

Consecutive frames are not independent, so intervals come from a block bootstrap: time is divided into blocks
of `block_s`, and `DRAWS` samples of blocks are drawn with replacement. The frames and events of a block stay
together. With fewer than `MIN_BLOCKS` blocks there is no interval. If an AU changes more slowly than one
block lasts, intervals are too narrow.

Inputs: two codings of one face.
Returns: an `Agreement`: tables with one row for each AU, and one for the mean over AUs.
See also: readers/ (files), timeline.py (common frames), measures.py (measures and event matching),
figure.py (figure), docs/agreement.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.results.agreement.measures import (
    INTENSITY_MEASURES,
    MEASURES,
    AgreementSums,
    event_units,
    sum_units,
)
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

ENDS: Final[tuple[str, ...]] = ("", "_low", "_high")
"""Ends of the column names of a measure: its value, and both ends of its interval."""
COLUMNS: Final[tuple[str, ...]] = (
    *("level", "AU", *COUNTS),
    *(f"{measure}{end}" for measure in MEASURES for end in ENDS),
)
"""Columns of `Agreement.table`."""
INTENSITY_COLUMNS: Final[tuple[str, ...]] = (
    *("AU", "frames"),
    *(f"{measure}{end}" for measure in INTENSITY_MEASURES for end in ENDS),
)
"""Columns of `Agreement.intensities`."""


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
    intensities: pd.DataFrame
    """`INTENSITY_COLUMNS`; one row for each AU with intensities of both, and one row for their mean; no row
    if there is no such AU."""
    notes: tuple[str, ...]
    """Sentences that explain the tables: faces, frames, scale of the ICC, intervals."""

    def to_dict(self) -> dict[str, Any]:
        """Return the agreement as plain JSON types; an undefined measure is None."""
        figures, intensities = (
            table.astype(object).where(table.notna(), None).to_dict("records")
            for table in (self.table, self.intensities)
        )
        return {
            **{"a": self.a, "b": self.b, "figures": figures, "intensities": intensities},
            "notes": list(self.notes),
        }


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
    draw_counts = blocks.draw_counts()
    rows = []
    for level in LEVELS:
        sums = [
            _frame_sums(aligned_a, aligned_b, known[:, j], j, blocks)
            if level == "frame"
            else _event_sums(aligned_a, aligned_b, known[:, j], j, blocks, settings.overlap)
            for j in aus
        ]
        rows += _table_rows(level, [au_names[j] for j in aus], sums, draw_counts)
    intensity_sums = _intensity_sums(aligned_a, aligned_b, blocks)
    intensities = pd.DataFrame(_intensity_rows(intensity_sums, draw_counts), columns=list(INTENSITY_COLUMNS))
    has_probabilities = aligned_a.probabilities is not None and aligned_b.probabilities is not None
    notes = _notes(a, b, au_names, known, timeline, blocks, has_probabilities)
    return Agreement(a.name, b.name, pd.DataFrame(rows, columns=list(COLUMNS)), intensities, tuple(notes))


class _BootstrapBlocks:
    """Blocks of equal length that divide a timeline without its pauses; the last block may be shorter."""

    def __init__(self, timeline: SharedTimeline, length_s: float) -> None:
        self.timeline, self.length_s = timeline, length_s
        self.count = int(self.block_at(timeline.middle_s[-1:])[0]) + 1

    def block_at(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the block index of each time."""
        return np.asarray(self.timeline.without_pauses(times_s) // self.length_s, np.int64)

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
) -> AgreementSums:
    active = [coding.labels[known, au] == 1 for coding in (a, b)]
    values: list[NDArray[Any]] = [each.astype(np.float64) for each in active]
    if a.probabilities is not None and b.probabilities is not None:
        values = [a.probabilities[known, au], b.probabilities[known, au]]
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


def _intensity_sums(a: AlignedCoding, b: AlignedCoding, blocks: _BootstrapBlocks) -> dict[str, AgreementSums]:
    """Return the sums of the AUs with intensities of both codings, by name."""
    sums: dict[str, AgreementSums] = {}
    if a.intensities is None or b.intensities is None:
        return sums
    for j, name in enumerate(a.au_names):
        values = np.stack([a.intensities[:, j], b.intensities[:, j]])
        known = ~np.isnan(values).any(axis=0)
        if known.any():
            one, other = values[:, known]
            block = blocks.block_at(blocks.timeline.middle_s[known])
            sums[name] = sum_units(block, blocks.count, one > 0, other > 0, one, other)
    return sums


def _table_rows(
    level: str, names: Sequence[str], sums: Sequence[AgreementSums], draw_counts: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return one row for each AU and one for their mean."""
    rows: list[dict[str, Any]] = []
    for name, sums_of_au in zip(names, sums, strict=True):
        total = sums_of_au.weighted(np.ones(len(sums_of_au.units)))
        counts = (total.units, total.a_yes, total.b_yes, total.both)
        rows.append({"level": level, "AU": name} | dict(zip(COUNTS, map(int, counts), strict=True)))
    rows.append({"level": level, "AU": MEAN} | {key: sum(row[key] for row in rows) for key in COUNTS})
    _add_measures(rows, sums, draw_counts, MEASURES)
    return rows


def _intensity_rows(
    sums: Mapping[str, AgreementSums], draw_counts: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return one row for each AU and one for their mean; none without AUs."""
    if not sums:
        return []
    frames = [int(sums_of_au.units.sum()) for sums_of_au in sums.values()]
    names = [*sums, MEAN]
    rows = [{"AU": name, "frames": n} for name, n in zip(names, [*frames, sum(frames)], strict=True)]
    _add_measures(rows, [*sums.values()], draw_counts, INTENSITY_MEASURES)
    return rows


def _add_measures(
    rows: Sequence[dict[str, Any]],
    sums: Sequence[AgreementSums],
    draw_counts: NDArray[np.float64],
    measures: Sequence[str],
) -> None:
    """Add measures and intervals to the rows of the AUs and, last, of their mean.

    All intervals use the same bootstrap samples.
    """
    totals = [sums_of_au.weighted(np.ones(len(sums_of_au.units))) for sums_of_au in sums]
    for measure in measures:
        values = np.array([[float(total.measure(measure))] for total in totals])  # [A, 1]
        drawn = np.stack([sums_of_au.weighted(draw_counts).measure(measure) for sums_of_au in sums])  # [A, D]
        with_mean = [*values[:, 0], _mean(values)[0]]
        for row, value, samples in zip(rows, with_mean, [*drawn, _mean(drawn)], strict=True):
            row[measure] = float(value)
            row[f"{measure}_low"], row[f"{measure}_high"] = _interval(samples, row[measure])


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


def _face_name(coding: Coding) -> str:
    return "its only face" if coding.face is None else f"face {coding.face}"


def _notes(
    a: Coding,
    b: Coding,
    au_names: Sequence[str],
    known: NDArray[np.bool_],
    timeline: SharedTimeline,
    blocks: _BootstrapBlocks,
    has_probabilities: bool,
) -> list[str]:
    span_s = timeline.duration_s
    notes = [
        f"A is {a.name}, {_face_name(a)}; B is {b.name}, {_face_name(b)}.",
        f"{len(timeline.begin_s)} common frames, {span_s:.1f} s, "
        f"{len(timeline.begin_s) / span_s:.4g} per second. Frames unknown to A or to B are left out.",
    ]
    if missing := [name for j, name in enumerate(au_names) if not known[:, j].any()]:
        notes.append(f"Not coded by both: {', '.join(missing)}.")
    icc_source = "the probabilities" if has_probabilities else "the labels as 0 and 1"
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
