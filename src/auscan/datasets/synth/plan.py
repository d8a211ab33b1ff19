"""Decide which videos there are: names, lengths, rates, persons, splits, and every oddity of the real set.

Oddities come in a round of twelve videos from ten recordings (CASES), so from twelve videos on each is there.
Which split a recording falls into is dealt anew every round.

In: how many videos, how long, a seed.  Out: a list of `VideoPlan`.
Not here: making them (video.py).
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from auscan.core.errors import InputError
from auscan.datasets.synth.dynamics import Random

Missing = Literal["none", "few", "many"]
Timing = Literal["even", "variable", "late"]

SPLITS: Final[tuple[str, ...]] = (
    *("train", "val", "train", "test", "train"),
    *("train", "test", "train", "val", "train"),
)
"""Shares of the splits: the n-th recording of a round, after shuffling, goes here."""

SIZES: Final = ((320, 240), (426, 240), (480, 270), (320, 320), (270, 480))  # width, height in px
PAIR_SIZES: Final = ((480, 270), (640, 360))
RATES: Final = (30, 30, 30, 25, 24)
"""Frames a second, as often as they come in the real set."""


@dataclass(frozen=True, kw_only=True)
class RecordingCase:
    """A recording of the round."""

    parts: int = 1
    """Videos cut from it."""
    name_form: Literal["sized", "counted", "number"] = "sized"
    """<id>-<fps>-<W>x<H>, video<k> or <id>."""
    suffix: str = ".mp4"
    timing: Timing = "even"
    """late: the first frame comes after 0 s."""
    tracks: tuple[str, ...] = ("",)
    """Endings of the tracks' names; one person each."""
    sound: Literal["yes", "none", "late"] = "yes"
    named_rate: int | None = None
    """The rate in the name where it is not that of the file."""
    surplus: int = 1
    """Label rows less frames of the video."""
    missing: Missing = "few"
    """Pictures that are missing; of a second track always many."""
    partial_labels: bool = False
    """Are there rows with only some -1?"""
    dark: bool = False
    low_quality: bool = False


CASES: Final[tuple[RecordingCase, ...]] = (
    RecordingCase(missing="none"),
    RecordingCase(name_form="number", suffix=".avi", surplus=0, partial_labels=True),
    RecordingCase(name_form="counted", timing="variable"),
    RecordingCase(tracks=("_left", "_right"), surplus=1),
    RecordingCase(name_form="counted", parts=2, low_quality=True),
    RecordingCase(sound="none", named_rate=24),
    RecordingCase(timing="late", named_rate=60, surplus=-1),
    RecordingCase(parts=2, timing="variable", dark=True),
    RecordingCase(name_form="number", tracks=("", "_left"), surplus=2),
    RecordingCase(name_form="number", sound="late", missing="none", low_quality=True, dark=True, surplus=0),
)


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """One video to make."""

    name: str
    case: RecordingCase
    split: str
    batch: str
    """Folder: batch1 or batch2."""
    seconds: float
    rate_hz: float
    width: int
    height: int
    seed: tuple[int, ...]
    """Of everything in this video."""
    person_seed: tuple[int, ...]
    """Of who is in it: the parts of a recording share it."""
    tracks: tuple[str, ...] = field(default=())

    @property
    def path(self) -> str:
        """From the data set's folder."""
        return f"{self.batch}/{self.name}{self.case.suffix}"


def plan_videos(videos: int, seconds: float, seed: int, rate_hz: float | None = None) -> list[VideoPlan]:
    """So many videos of about so many seconds each; the same for the same numbers.

    rate_hz: frames a second of all of them; None deals the real set's 30, 25 and 24
    Raises InputError for fewer than one video, less than two seconds or an impossible rate.
    """
    if videos < 1:
        raise InputError(f"--videos is {videos}; at least 1 is needed, and 12 for every oddity to be there.")
    if seconds < 2:
        raise InputError(f"--seconds is {seconds:g}; at least 2 are needed.")
    if rate_hz is not None and not 5 <= rate_hz <= 60:
        raise InputError(f"--rate is {rate_hz:g}; 5 to 60 frames a second can be made.")
    plans: list[VideoPlan] = []
    recording = 0
    while len(plans) < videos:
        round_number, position = divmod(recording, len(CASES))
        order = np.random.default_rng([seed, 1, round_number]).permutation(len(CASES))
        # Shuffle cases over splits, not the order of splits: few videos have all three splits.
        case = CASES[int(order[position])]
        plans += _plan_recording(case, SPLITS[position], recording, seconds, seed, rate_hz)
        recording += 1
    return plans[:videos]


def _plan_recording(
    case: RecordingCase, split: str, recording: int, seconds: float, seed: int, rate_hz: float | None
) -> list[VideoPlan]:
    """The videos of one recording."""
    random = np.random.default_rng([seed, 2, recording])
    drawn_hz = float(random.choice(RATES))  # drawn in any case, so that a given rate changes nothing else
    rate_hz = drawn_hz if rate_hz is None else rate_hz
    width, height = random.choice(SIZES if len(case.tracks) == 1 else PAIR_SIZES).tolist()
    stem = _recording_name(case, recording, rate_hz, width, height)
    plans = []
    for part in range(case.parts):
        name = stem if case.parts == 1 else f"{stem}{'_' if case.name_form == 'counted' else '-'}{part + 1}"
        plans.append(
            VideoPlan(
                name=name,
                case=case,
                split=split,
                batch=f"batch{1 + recording % 2}",
                seconds=seconds * random.uniform(0.75, 1.25),
                rate_hz=rate_hz,
                width=width,
                height=height,
                seed=(seed, 3, recording, part),
                person_seed=(seed, 4, recording),
                tracks=tuple(name + ending for ending in case.tracks),
            )
        )
    return plans


def _recording_name(case: RecordingCase, recording: int, rate_hz: float, width: int, height: int) -> str:
    number = 1001 + recording  # beyond the numbers of the real set
    if case.name_form == "sized":
        return f"{number}-{case.named_rate or round(rate_hz)}-{width}x{height}"
    return f"video{number}" if case.name_form == "counted" else str(number)


def sample_frame_times(random: Random, plan: VideoPlan) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[T] s: when the frames of a video are shown, on the clock of its sound."""
    count = max(2, round(plan.seconds * plan.rate_hz))
    times_s = np.arange(count) / plan.rate_hz
    if plan.case.timing == "variable":
        # Now and then frames were dropped, and whole stretches run at half the rate.
        kept = random.random(count) > 0.06
        slow = np.repeat(random.random(count // 45 + 1) < 0.25, 45)[:count]
        kept &= ~slow | (np.arange(count) % 2 == 0)
        kept[0] = True
        times_s = times_s[kept]
    if plan.case.timing == "late":
        times_s = times_s[times_s >= min(0.6, plan.seconds / 4)]
    return times_s
