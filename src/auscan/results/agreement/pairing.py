"""Decide which face of one coding is which face of the other.

Both sides follow one rule. A face that was asked for is taken. Otherwise

    by place   if both files tell where their faces are: boxes that overlap at the same time
    by name    else, if both files number their faces: equal numbers
    by time    else: the same time

The pair with the longest common time is compared. If one of its faces would fit another face nearly as well,
nothing tells which is meant, and the pair is refused.

Inputs: the codings of two files, one for each face. Returns: a `FacePair`.
See also: timeline.py (common frames), agree.py (comparison).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.results.agreement.timeline import AlignedCoding, align_codings
from auscan.results.readers.coding import Coding, FrameCoding

MIN_OVERLAP: Final[float] = 0.2
"""Least intersection over union of two boxes of one face."""
RIVAL_SHARE: Final[float] = 0.5
"""Share of the longest common time from which another pair is a rival."""


@dataclass(frozen=True, eq=False)
class FacePair:
    """Two codings of one face."""

    a: Coding
    b: Coding
    common_s: float
    """Time in which both know the face, seconds."""
    others: tuple[str, ...] = ()
    """Further pairs that are not compared, such as "1 and 1"."""


def pair_faces(
    a: Sequence[Coding],
    b: Sequence[Coding],
    face_a: int | None = None,
    face_b: int | None = None,
    rate_hz: float | None = None,
) -> FacePair:
    """Return the pair to compare.

    face_a, face_b: number of the face; None: decided by the rule above    rate_hz: of files without times
    Raises InputError if there is no such face, no pair, or more than one pair that fits.
    """
    a, b = _faces_asked_for(a, face_a), _faces_asked_for(b, face_b)
    if len(a) == len(b) == 1:
        return FacePair(a[0], b[0], 0.0)
    candidates = _candidates(a, b)
    pairs = [FacePair(one, other, _common_s(one, other, rate_hz)) for one, other in candidates]
    pairs = sorted((pair for pair in pairs if pair.common_s > 0), key=lambda pair: -pair.common_s)
    if not pairs:
        raise InputError(
            f"No face of {_described(a)} is a face of {_described(b)}: none is at the same place at the same "
            "time. Check that both belong to the same video, or choose with --face-a and --face-b."
        )
    best = pairs[0]
    for rival in pairs[1:]:
        shares_a_face = rival.a is best.a or rival.b is best.b
        if shares_a_face and rival.common_s >= RIVAL_SHARE * best.common_s:
            raise InputError(
                f"Faces {_pair_name(best)} of {a[0].name} and {b[0].name} fit, and so do "
                f"{_pair_name(rival)}. Choose with --face-a and --face-b."
            )
    return replace(best, others=_further_pairs(pairs))


def _faces_asked_for(codings: Sequence[Coding], face: int | None) -> Sequence[Coding]:
    if face is None:
        return codings
    found = [coding for coding in codings if (coding.face or 0) == face]
    if not found:
        raise InputError(f"{codings[0].name} has no face {face}. Its faces: {_faces(codings)}.")
    return found


def _candidates(a: Sequence[Coding], b: Sequence[Coding]) -> list[tuple[Coding, Coding]]:
    """Return the pairs that may be one face: all, or by name those with equal numbers."""
    every = [(one, other) for one in a for other in b]
    if all(_has_places(coding) for coding in (*a, *b)):
        return every
    named = [(one, other) for one, other in every if one.face is not None and one.face == other.face]
    return named or every


def _has_places(coding: Coding) -> bool:
    return isinstance(coding, FrameCoding) and coding.boxes is not None


def _common_s(a: Coding, b: Coding, rate_hz: float | None) -> float:
    """Return the time in which both know the face, at one place if both tell where it is; seconds."""
    try:
        timeline, aligned_a, aligned_b = align_codings(a, b, rate_hz)
    except InputError:  # no time in common, or no times at all: one pair alone says so
        return 0.0
    known = _known(aligned_a) & _known(aligned_b)
    if aligned_a.boxes is not None and aligned_b.boxes is not None:
        known &= _overlap(aligned_a.boxes, aligned_b.boxes) >= MIN_OVERLAP
    return float((timeline.end_s - timeline.begin_s)[known].sum())


def _known(coding: AlignedCoding) -> NDArray[np.bool_]:
    return np.asarray((~np.isnan(coding.labels)).any(axis=1))


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the intersection over union [G] of boxes [G, 4]; 0 where one is unknown."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    both = (high - low).clip(min=0).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - both
    share = np.divide(both, union, out=np.zeros(len(a)), where=union > 0)
    return np.asarray(np.nan_to_num(share), np.float64)


def _further_pairs(pairs: Sequence[FacePair]) -> tuple[str, ...]:
    """Return the names of the pairs after the first, each face in one pair."""
    used, names = [pairs[0].a, pairs[0].b], []
    for pair in pairs[1:]:
        if not any(pair.a is each or pair.b is each for each in used):
            used += [pair.a, pair.b]
            names.append(_pair_name(pair))
    return tuple(names)


def _pair_name(pair: FacePair) -> str:
    return f"{_number(pair.a)} and {_number(pair.b)}"


def _number(coding: Coding) -> str:
    return "without a number" if coding.face is None else str(coding.face)


def _faces(codings: Sequence[Coding]) -> str:
    return ", ".join(_number(coding) for coding in codings)


def _described(codings: Sequence[Coding]) -> str:
    return f"{codings[0].name} (faces {_faces(codings)})"
