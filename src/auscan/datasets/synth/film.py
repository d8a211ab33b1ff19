"""Make one video of the plan: act, film, cut out faces, encode; and keep the truth about every frame.

In: a `VideoPlan`, a face, the data set's folder.  Out: a video, pictures, annotation files, tables.
Not here: which videos there are (plan.py), the lists of the test set (writer.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.datasets.synth.annotation import missing_images, spoil, write_annotation
from auscan.datasets.synth.container import VideoFile
from auscan.datasets.synth.dynamics import Array, Random, labels_of, ticks_for
from auscan.datasets.synth.face import Face
from auscan.datasets.synth.person import COVERED, Person, draw_looks, draw_person
from auscan.datasets.synth.plan import VideoPlan, frame_times
from auscan.datasets.synth.scene import DARK, Shot, Stage, draw_stage, take
from auscan.datasets.synth.voice import mix, speak
from auscan.faces.align import crop_face

ANNOTATIONS: Final[str] = "Third ABAW Annotations/AU_Detection_Challenge"
SET_NAMES: Final[dict[str, str]] = {"train": "Train_Set", "val": "Validation_Set"}

_SOUND_LATE_S: Final[float] = 0.8
_TAIL_S: Final[float] = 0.3  # sound goes on for a moment after the last frame


@dataclass(frozen=True, eq=False)
class Film:
    """What is known about a video once it is made."""

    frames: pd.DataFrame
    """The truth: a row a frame and track."""
    tracks: pd.DataFrame
    """A row a track: its resting face, and what holds for all its frames."""
    rows: dict[str, int]
    """Rows of labels, or of the template, by track."""


def make_film(plan: VideoPlan, face: Face, out: Path) -> Film:
    """Make a video and all that belongs to it in `out`; the same bytes of pictures for the same plan."""
    random = np.random.default_rng(plan.seed)
    times_s = frame_times(random, plan)
    ticks = ticks_for(plan.seconds + _TAIL_S)
    persons = _persons(random, plan, face)
    stage = draw_stage(random, plan.width, plan.height, ticks, len(persons), plan.case.dark, plan.case.poor)
    disturbance = [None, None, "voice", "music"][random.integers(4)]
    wave = mix(random, ticks, [speak(random, p.speaker, p.performance) for p in persons], disturbance)
    truths = [_truth(person, stage, times_s) for person in persons]
    gone = _missing(random, plan, truths)
    shots = ((s, take(stage, face, persons, s, index)) for index, s in enumerate(times_s.tolist()))
    _write_media(random, plan, shots, None if plan.case.sound == "none" else wave, gone, out)
    rows: dict[str, int] = {}
    tables, summaries = [], []
    for track, person, truth, absent in zip(plan.tracks, persons, truths, gone, strict=True):
        labels = labels_of(truth.filter(regex=r"^AU\d\d$").to_numpy())
        kept = spoil(random, labels, plan.case.surplus, plan.case.partly)
        rows[track] = len(kept)
        if plan.split in SET_NAMES:
            write_annotation(out / ANNOTATIONS / SET_NAMES[plan.split] / f"{track}.txt", kept)
        truth.insert(0, "track", track)
        truth["has_image"] = ~absent
        for j, name in enumerate(AU_NAMES):
            truth[f"{name}_label"] = labels[:, j]
        tables.append(truth)
        summaries.append(_summary(plan, track, person, disturbance))
    return Film(pd.concat(tables, ignore_index=True), pd.DataFrame(summaries), rows)


def _persons(random: Random, plan: VideoPlan, face: Face) -> tuple[Person, ...]:
    """Who is in the video: one person a track; their looks are those of all parts of the recording."""
    looks = np.random.default_rng(plan.person_seed)
    drawn = [draw_looks(looks, face) for _ in plan.tracks]
    return tuple(draw_person(random, face, each, plan.seconds + _TAIL_S) for each in drawn)


def _missing(random: Random, plan: VideoPlan, truths: list[pd.DataFrame]) -> list[NDArray[np.bool_]]:
    """[T] a track: frames without a picture; a second person is seldom found where one is enough."""
    rarely = plan.case.tracks == ("", "_left")
    return [
        missing_images(
            random, len(truth), truth["yaw"].to_numpy(), "many" if rarely and number else plan.case.missing
        )
        for number, truth in enumerate(truths)
    ]


def _write_media(
    random: Random,
    plan: VideoPlan,
    shots: Iterator[tuple[float, Shot]],
    wave: NDArray[np.float32] | None,
    gone: list[NDArray[np.bool_]],
    out: Path,
) -> None:
    """Write the video from its shots with their times, and the pictures of its tracks."""
    path = out / plan.path
    path.parent.mkdir(parents=True, exist_ok=True)
    folders = [out / "cropped_aligned" / track for track in plan.tracks]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    compression, jpeg = int(random.integers(20, 34)), int(random.integers(70, 96))
    sound_from_s = _SOUND_LATE_S if plan.case.sound == "late" else 0.0
    with VideoFile(path, (plan.width, plan.height), plan.rate_hz, wave, compression, sound_from_s) as file:
        for index, (time_s, shot) in enumerate(shots):
            file.add(shot.image, time_s)
            for folder, points, absent in zip(folders, shot.points, gone, strict=True):
                if not absent[index]:
                    _write_picture(folder / f"{index + 1:05d}.jpg", crop_face(shot.image, points), jpeg)
    for folder, absent in zip(folders, gone, strict=True):
        if absent.mean() > 0.4:
            (folder / f"{int(np.argmax(absent)) + 1:05d}.jpg").touch()  # a picture of 0 bytes
            (folder / ".DS_Store").touch()


def _write_picture(path: Path, crop: NDArray[np.uint8], quality: int) -> None:
    found, data = cv2.imencode(
        ".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert found
    path.write_bytes(data.tobytes())


def _truth(person: Person, stage: Stage, times_s: Array) -> pd.DataFrame:
    """A row a frame: movements (AU01...), pose, covers, speech, light."""
    acts = person.performance
    pose = acts.at(times_s, acts.pose)
    speaking = acts.at(times_s, acts.speaking.astype(float)) >= 0.5
    mouth_covered = acts.at(times_s, person.mouth_cover) >= COVERED
    columns = {
        "number": np.arange(1, len(times_s) + 1),
        "time_s": times_s,
        **dict(zip(AU_NAMES, acts.at(times_s, acts.movement).T.astype(np.float32), strict=True)),
        **dict(zip(("yaw", "pitch", "roll"), pose.T.astype(np.float32), strict=True)),
        "opening": acts.at(times_s, acts.opening).astype(np.float32),
        "voiced": acts.at(times_s, acts.voiced).astype(np.float32),
        "speaking": speaking,
        "mouth_covered": mouth_covered,
        "eyes_covered": acts.at(times_s, person.eye_cover) >= COVERED,
        "covered_while_speaking": mouth_covered & speaking,
        "large_yaw": np.abs(pose[:, 0]) > 35,
        "dark": acts.at(times_s, stage.light) < DARK,
    }
    return pd.DataFrame(columns)


def _summary(plan: VideoPlan, track: str, person: Person, disturbance: str | None) -> dict[str, object]:
    return {
        "track": track,
        "video": plan.name,
        "split": plan.split,
        "timing": plan.case.timing,
        "sound": plan.case.sound,
        "disturbance": disturbance or "none",
        "glasses": person.glasses,
        "fringe": person.fringe,
        "holds": person.holds,
        "poor": plan.case.poor,
        **{f"{name}_rest": float(person.performance.rest[j]) for j, name in enumerate(AU_NAMES)},
    }
