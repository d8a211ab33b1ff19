"""Things that come before a face for a while: covered copies of the crops of a track.

A thing eases in from outside, stays for half a second to five seconds, moving with the hand that holds it,
and goes again. Labels stay as they are: what the face does under the hand is what sound and memory must tell.
The same seed gives the same copy, so benchmarks use it too.

In: crops [T, S, S] or [T, S, S, 3] uint8 of SIDE px, times [T] s, a random generator.  Out: a `CoveredTrack`.
Not here: how things look (occluders.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from occluders import KINDS, PARTS, Occluder, covered_share, draw_occluder, parts_covered, paste

SPAN_S = (0.5, 5.0)
"""How long a thing stays."""
PLAN = ("mouth", "mouth", "mouth", "eyes", "left", "right")
"""What is covered: the mouth as often as anything else together, since sound tells of it."""
_FAR = 130.0  # crop px from where things come


@dataclass(frozen=True, eq=False)
class CoveredTrack:
    """A copy of a track with things before the face."""

    crops: NDArray[np.uint8]
    """[T, S, S] or [T, S, S, 3]."""
    hidden: NDArray[np.bool_]
    """[T, 4]: is the part covered, in the order of occluders.PARTS?"""
    share: NDArray[np.float32]
    """[T]: share of the face that is covered."""

    def part(self, name: str) -> NDArray[np.bool_]:
        """[T]: is this one of occluders.PARTS covered?"""
        return self.hidden[:, PARTS.index(name)]


@dataclass(frozen=True, eq=False)
class Passing:
    """One thing on its way before the face and away."""

    thing: Occluder
    frames: NDArray[np.intp]
    """[n]: the frames in which it is in or near the picture."""
    shifts: NDArray[np.floating]
    """[n, 2] px of the crop."""
    leans: NDArray[np.floating]
    """[n] degrees."""


def plan_covers(
    times_s: NDArray[np.floating],
    random: np.random.Generator,
    spans_s: list[tuple[float, float]],
    parts: tuple[str, ...] = PLAN,
    kinds: tuple[str, ...] = KINDS,
) -> list[Passing]:
    """A thing for each span of time, over one of `parts`, of one of `kinds`; times [T] s of the frames."""
    found = []
    for start_s, end_s in spans_s:
        thing = draw_occluder(random, str(random.choice(parts)), str(random.choice(kinds)))
        frames = np.flatnonzero((times_s >= start_s - 0.5) & (times_s <= end_s + 0.5))
        found.append(Passing(thing, frames, *_movement(random, times_s[frames], start_s, end_s)))
    return found


def cover_track(
    crops: NDArray[np.uint8],
    times_s: NDArray[np.floating],
    random: np.random.Generator,
    busy: float = 0.5,
    parts: tuple[str, ...] = PLAN,
    kinds: tuple[str, ...] = KINDS,
) -> CoveredTrack:
    """Cover parts of a face for spans of time.

    busy: about the share of the time in which something is there; 1 covers from end to end.
    parts: what is covered, one drawn for each span.  kinds: what may cover it.
    """
    out, share = crops.copy(), np.zeros(len(crops), np.float32)
    hidden = np.zeros((len(crops), len(PARTS)), np.bool_)
    spans_s = draw_spans(random, float(times_s[0]), float(times_s[-1]), busy)
    for passing in plan_covers(times_s, random, spans_s, parts, kinds):
        for frame, shift, lean in zip(passing.frames, passing.shifts, passing.leans, strict=True):
            light = float(np.clip(crops[frame].mean() / 110.0, 0.35, 1.15))  # dark where the picture is dark
            out[frame], here = paste(out[frame], passing.thing, shift, lean, light=light)
            share[frame] = max(share[frame], covered_share(here))
            hidden[frame] |= np.array(list(parts_covered(here).values()))
    return CoveredTrack(out, hidden, share)


def cover_still(
    crop: NDArray[np.uint8], part: str, random: np.random.Generator, kind: str | None = None
) -> NDArray[np.uint8]:
    """One aligned crop, or one picture made of an aligned crop's size, with a part of the face covered."""
    return paste(crop, draw_occluder(random, part, kind), random.normal(0, 1.5, 2))[0]


def draw_spans(
    random: np.random.Generator, first_s: float, last_s: float, busy: float
) -> list[tuple[float, float]]:
    """Start and end of each span, s, in order; `busy` is about the share of the time within them."""
    if busy >= 1:
        return [(first_s - 1, last_s + 1)]
    mean_s = 2.0  # of a span, by the square below
    gap_s = mean_s * (1 - busy) / busy
    found, now = [], first_s + float(random.exponential(gap_s))
    while now < last_s:
        length = SPAN_S[0] + (SPAN_S[1] - SPAN_S[0]) * float(random.random()) ** 2
        found.append((now, now + length))
        now += length + min(0.6, gap_s) + float(random.exponential(max(0.0, gap_s - 0.6)))
    return found


def _movement(
    random: np.random.Generator, times_s: NDArray[np.floating], start_s: float, end_s: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Shifts [n, 2] px and leans [n] degrees: in from outside, a slow drift with a tremble, and out."""
    pace_s = random.uniform(0.1, 0.25)
    away = 1 - _step((times_s - start_s) / pace_s) * _step((end_s - times_s) / pace_s)
    angle = random.uniform(0.05, 0.95) * np.pi  # from below, left or right of it
    come = _FAR * np.array([np.cos(angle), np.sin(angle)])
    width = max(1.0, 8.0 * pace_s / 0.2)
    drift = gaussian_filter1d(random.normal(0, 1, (len(times_s), 3)), width, axis=0) * np.sqrt(3.5 * width)
    tremble = random.normal(0, 0.25, (len(times_s), 2))
    shifts = away[:, None] * come + 1.6 * drift[:, :2] + tremble + random.normal(0, 1.5, 2)
    return shifts, 2.0 * drift[:, 2]


def _step(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """From 0 to 1 around 0."""
    return np.asarray(1 / (1 + np.exp(-4 * x)))
