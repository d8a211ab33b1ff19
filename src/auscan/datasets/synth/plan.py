"""Plan the videos: names, lengths, frame rates, persons, splits, and the irregularities of Aff-Wild2.

CASES lists ten recordings, twelve videos in total, that together have all irregularities. They repeat in
rounds, so a data set of at least twelve videos has each of them. Each round shuffles the recordings over the
splits.

Inputs: number and length of the videos, a seed.  Returns: a list of `VideoPlan`.
See also: video.py (rendering).
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from auscan.core.errors import InputError
from auscan.datasets.synth.dynamics import Random

Missing = Literal["none", "few", "many"]
"""Frequency of missing pictures."""

Timing = Literal["even", "variable", "late"]
"""Frame timing: constant rate, variable rate, or a first frame after 0 s."""

SPLITS: Final[tuple[str, ...]] = (
    *("train", "val", "train", "test", "train"),
    *("train", "test", "train", "val", "train"),
)
"""Split of the n-th recording of a round, after shuffling."""

SIZES: Final = ((320, 240), (426, 240), (480, 270), (320, 320), (270, 480))
"""Width and height of videos of one person, px."""

PAIR_SIZES: Final = ((480, 270), (640, 360))
"""Width and height of videos of two persons, px."""

RATES: Final = (30, 30, 30, 25, 24)
"""Frame rates in Hz, repeated according to their frequency in Aff-Wild2."""


@dataclass(frozen=True, kw_only=True)
class RecordingCase:
    """Properties of a recording."""

    parts: int = 1
    """Number of videos cut from it."""
    name_form: Literal["sized", "counted", "number"] = "sized"
    """Form of the name: <id>-<fps>-<W>x<H>, video<k> or <id>."""
    suffix: str = ".mp4"
    """Suffix of the video files."""
    timing: Timing = "even"
    """Frame timing."""
    tracks: tuple[str, ...] = ("",)
    """Endings of the track names, one per person."""
    sound: Literal["yes", "none", "late"] = "yes"
    """Sound stream: from the start, none, or from 0.8 s."""
    named_rate: int | None = None
    """Frame rate in the name, if it differs from the file's."""
    surplus: int = 1
    """Number of label rows minus number of frames."""
    missing: Missing = "few"
    """Frequency of missing pictures; a rarely detected second person always has many."""
    partial_labels: bool = False
    """Whether some rows have -1 in some AUs only."""
    dark: bool = False
    """Whether the light is low."""
    low_quality: bool = False
    """Whether the picture is blurred, noisy and of low resolution."""


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
"""Recordings of one round."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Difficulty of the videos; the ablation of the network uses harder ones."""

    covered_speech: float = 0.33
    """Share of the utterances with a covered mouth."""
    other_voice: float = 0.0
    """Share of these utterances in which another person's voice replaces the person's."""
    occluders: tuple[str, ...] = ("hand", "microphone")
    """Objects that may cover the mouth; also "card", which shows a moving mouth."""
    all_aus: bool = False
    """Whether faces also move in the AUs that Aff-Wild2 does not have; their truth is in truth/ only."""
    blank_every_s: float | None = None
    """Mean time between episodes with a grey area over the whole face, in seconds; None: no such episode."""


USUAL: Final = Conditions()
"""Conditions of `auscan synth`."""


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """Plan of one video."""

    name: str
    """Name without suffix."""
    case: RecordingCase
    """Properties of its recording."""
    split: str
    """train, val or test."""
    batch: str
    """Folder: batch1 or batch2."""
    seconds: float
    """Length, seconds."""
    rate_hz: float
    """Frame rate, Hz."""
    width: int
    """Width, px."""
    height: int
    """Height, px."""
    seed: tuple[int, ...]
    """Seed of the video, except for its persons' traits."""
    person_seed: tuple[int, ...]
    """Seed of the persons' traits, shared by the parts of a recording."""
    conditions: Conditions = field(default=USUAL)
    """Occlusions and voices."""
    tracks: tuple[str, ...] = field(default=())
    """Track names, one per person."""

    @property
    def path(self) -> str:
        """Path below the data set's folder."""
        return f"{self.batch}/{self.name}{self.case.suffix}"


def plan_videos(videos: int, seconds: float, seed: int, rate_hz: float | None = None) -> list[VideoPlan]:
    """Plan `videos` videos with a mean length of `seconds`; equal arguments return equal plans.

    rate_hz: frame rate of all videos in Hz; None draws it from Aff-Wild2's 30, 25 and 24
    Raises InputError for fewer than one video, less than two seconds or an unsupported rate.
    """
    if videos < 1:
        raise InputError(
            f"--videos is {videos}. Use at least 1, or at least 12 to include all irregularities."
        )
    if seconds < 2:
        raise InputError(f"--seconds is {seconds:g}. Use at least 2.")
    if rate_hz is not None and not 5 <= rate_hz <= 60:
        raise InputError(f"--rate is {rate_hz:g}. Use a frame rate from 5 to 60 Hz.")
    plans: list[VideoPlan] = []
    recording = 0
    while len(plans) < videos:
        round_number, position = divmod(recording, len(CASES))
        order = np.random.default_rng([seed, 1, round_number]).permutation(len(CASES))
        # Cases are shuffled, the order of splits is fixed, so that even few videos have all three splits.
        case = CASES[int(order[position])]
        plans += _plan_recording(case, SPLITS[position], recording, seconds, seed, rate_hz)
        recording += 1
    return plans[:videos]


def _plan_recording(
    case: RecordingCase, split: str, recording: int, seconds: float, seed: int, rate_hz: float | None
) -> list[VideoPlan]:
    """Plan the videos of one recording."""
    random = np.random.default_rng([seed, 2, recording])
    drawn_hz = float(random.choice(RATES))  # always drawn, so that `rate_hz` does not change other draws
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
    number = 1001 + recording  # above the numbers in Aff-Wild2
    if case.name_form == "sized":
        return f"{number}-{case.named_rate or round(rate_hz)}-{width}x{height}"
    return f"video{number}" if case.name_form == "counted" else str(number)


def sample_frame_times(random: Random, plan: VideoPlan) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Sample the frame times [T] of a video in seconds, on the clock of its sound."""
    count = max(2, round(plan.seconds * plan.rate_hz))
    times_s = np.arange(count) / plan.rate_hz
    if plan.case.timing == "variable":
        # Single frames are dropped, and some runs of 45 frames have half the rate.
        kept = random.random(count) > 0.06
        slow = np.repeat(random.random(count // 45 + 1) < 0.25, 45)[:count]
        kept &= ~slow | (np.arange(count) % 2 == 0)
        kept[0] = True
        times_s = times_s[kept]
    if plan.case.timing == "late":
        times_s = times_s[times_s >= min(0.6, plan.seconds / 4)]
    return times_s
