"""Spoil known labels the way human annotation is spoiled, and write the text files that Aff-Wild2 comes with.

In: labels [T, A] of the frames.  Out: annotation files, test lists, templates.
Not here: reading them (results/coders/annotations.py, datasets/lists.py).

Write a video with sound, each frame at its own time: H.264 and AAC in .mp4, MPEG-4 and PCM in .avi.

In: frames with times, a waveform.  Out: a file.
Not here: reading one (media/).

Make one video of the plan: act, film, cut out faces, encode; and keep the truth about every frame.

In: a `VideoPlan`, a face, the data set's folder.  Out: a video, pictures, annotation files, tables.
Not here: which videos there are (plan.py), the lists of the test set (writer.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.synth.dynamics import Array, Random, labels_of, ticks_for
from auscan.datasets.synth.person import COVERED, Face, Person, draw_looks, draw_person
from auscan.datasets.synth.plan import Missing, VideoPlan, frame_times
from auscan.datasets.synth.scene import DARK, Shot, Stage, draw_stage, take
from auscan.datasets.synth.voice import mix, speak
from auscan.faces.align import crop_face

Labels = NDArray[np.int8]

UNLABELLED: Final[float] = 0.05
"""Share of rows that carry -1."""

HEADER: Final[str] = ",".join(f"AU{int(name[2:])}" for name in AU_NAMES)

_LIST_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_test_set_release.txt"
_COUNTS_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_expected_frames.txt"
_FORMAT_5 = "prediction_files_format/CVPR_5th_ABAW_AU_test_set_sample.txt"
_FORMAT_6 = "prediction_files_format/CVPR_6th_ABAW_AU_test_set_example.txt"


def spoil(random: Random, labels: Labels, surplus: int, partly: bool) -> Labels:
    """Rows as annotators leave them, [T + surplus, A]: -1 in some stretches, an end that is off.

    partly: some rows have -1 in some AUs only.
    """
    rows = np.concatenate([labels, np.repeat(labels[-1:], max(0, surplus), axis=0)])[: len(labels) + surplus]
    rows = rows.copy()
    left = round(UNLABELLED * len(rows))
    while left > 0:
        length = min(left, int(random.integers(5, 60)))
        start = int(random.integers(0, max(1, len(rows) - length)))
        rows[start : start + length] = -1
        left -= length
    if partly:
        start = int(random.integers(0, max(1, len(rows) - 20)))
        rows[start : start + 20, random.choice(len(AU_NAMES), 3, replace=False)] = -1
    return rows


def missing_images(random: Random, count: int, yaw: NDArray[np.floating], how: Missing) -> NDArray[np.bool_]:
    """[T]: frames for which no face was found. Rare short gaps and profile views, or most of the track."""
    if how == "none":
        return np.zeros(count, bool)
    gone: NDArray[np.bool_] = np.abs(yaw) > 62
    for _ in range(1 + count // 400):
        start = int(random.integers(0, count))
        gone[start : start + int(random.integers(1, 7))] = True
    if how == "many":
        stretches = random.random(count // 40 + 1) < 0.65
        gone |= np.repeat(stretches, 40)[:count]
    gone[0] &= how == "many"
    if gone.all():
        gone[count // 2] = False
    return gone


def write_annotation(path: Path, rows: Labels) -> None:
    """One file of a track: a header and a line a row."""
    lines = [HEADER, *(",".join(map(str, row)) for row in rows.tolist())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "ascii")


def write_test_files(folder: Path, counts: dict[str, int], random: Random) -> None:
    """List, expected counts and both styles of template for test tracks with so many rows each."""
    locations = [f"{track}/{n:05d}.jpg" for track, count in counts.items() for n in range(1, count + 1)]
    header = f"image_location,{HEADER}"
    placeholders = random.integers(0, 2, (len(locations), len(AU_NAMES))).tolist()
    filled = [f"{at},{','.join(map(str, row))}" for at, row in zip(locations, placeholders, strict=True)]
    texts = {
        _LIST_NAME: list(counts),
        _COUNTS_NAME: [f"{track},{count}" for track, count in counts.items()],
        _FORMAT_5: [header, *(f"{at}," for at in locations)],
        _FORMAT_6: [header, *filled],
    }
    for name, lines in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", "ascii")


Image = NDArray[np.uint8]

_TICKS: Final[Fraction] = Fraction(1, 90_000)  # s
_BLOCK: Final[int] = 1024  # samples


class VideoFile:
    """A file being written; use it as a context manager and add frames in order of time."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate_hz: float,
        wave: NDArray[np.float32] | None,
        quality: int = 24,
        sound_from_s: float = 0.0,
    ) -> None:
        """size: width, height in px.  wave: [M] from 0 s, or None for a video without a sound stream.

        quality: x264's crf, or the quantiser of MPEG-4 plus 18; larger is worse.
        sound_from_s: sound before it is left out, so that its stream starts late.
        An .avi has no times of its own: its frames are even, whatever their times.
        """
        self._is_avi = path.suffix == ".avi"
        self._container = av.open(str(path), "w")
        rate = Fraction(rate_hz).limit_denominator(1001)
        self._clock = 1 / rate if self._is_avi else _TICKS
        video: Any = self._container.add_stream("mpeg4" if self._is_avi else "libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = self._clock
        # One thread: the same bytes on any machine.
        video.codec_context.thread_count = 1
        if self._is_avi:
            video.codec_context.qmin = video.codec_context.qmax = max(2, quality - 18)
        else:
            video.options = {"preset": "ultrafast", "crf": str(quality)}
        self._video, self._frames = video, 0
        self._wave, self._heard = wave, round(sound_from_s * SAMPLE_RATE_HZ)
        if wave is not None:
            codec = "pcm_s16le" if self._is_avi else "aac"
            self._audio: Any = self._container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono")

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._add_sound(None)
            self._container.mux(self._video.encode(None))
            if self._wave is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()

    def add(self, image: Image, time_s: float) -> None:
        """Append a frame [H, W, 3] RGB to be shown from `time_s` on, and the sound up to there."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.time_base = self._clock
        frame.pts = self._frames if self._is_avi else round(time_s / _TICKS)
        self._frames += 1
        self._container.mux(self._video.encode(frame))
        self._add_sound(time_s)

    def _add_sound(self, until_s: float | None) -> None:
        if self._wave is None:
            return
        end = len(self._wave) if until_s is None else min(len(self._wave), int(until_s * SAMPLE_RATE_HZ))
        while self._heard < end and (until_s is None or self._heard + _BLOCK <= end):
            block = self._wave[None, self._heard : min(end, self._heard + _BLOCK)]
            form = "s16" if self._is_avi else "fltp"
            samples = (
                np.round(block * 32767).astype(np.int16) if self._is_avi else np.ascontiguousarray(block)
            )
            frame = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._heard
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._heard += block.shape[1]
            self._container.mux(self._audio.encode(frame))


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
