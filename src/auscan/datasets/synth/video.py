"""Simulate, render, crop and encode one planned video, and record the ground truth of every frame.

Annotation files receive corrupted labels, as in human annotation: unlabelled rows, and a row count that
differs from the frame count. Each frame is written with its own time, as H.264 and AAC in .mp4 and as MPEG-4
and PCM in .avi.

Inputs: a `VideoPlan`, a face, the data set's folder.
Returns: a `SyntheticVideo`; writes a video, pictures and annotation files.
See also: plan.py (plans), writer.py (test lists), results/readers/annotations.py (reading annotations).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS, au_columns
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.datasets.index import cover_columns
from auscan.datasets.synth.dynamics import Array, Random, labels_of, ticks_for
from auscan.datasets.synth.person import OCCLUDED, Face, Person, sample_person, sample_traits
from auscan.datasets.synth.plan import Missing, VideoPlan, sample_frame_times
from auscan.datasets.synth.scene import DARK, Scene, SceneFrame, render_frame, sample_scene
from auscan.datasets.synth.voice import mix_audio, synthesise_speech
from auscan.faces.align import crop_face

Labels = NDArray[np.int8]

Image = NDArray[np.uint8]

ANNOTATIONS_FOLDER: Final[str] = "Third ABAW Annotations/AU_Detection_Challenge"
"""Folder of the annotations below the data set's folder."""

SPLIT_FOLDER_NAMES: Final[dict[str, str]] = {"train": "Train_Set", "val": "Validation_Set"}
"""Annotation folders by split; the test set has none."""

UNLABELLED_SHARE: Final[float] = 0.05
"""Share of rows labelled -1."""

HEADER: Final[str] = ",".join(f"AU{int(name[2:])}" for name in AFFWILD2_AUS)
"""First line of an annotation file."""

COVERED: Final[float] = 0.6
"""Covered share of a region from which its AUs count as covered."""

VISIBLE: Final[float] = 0.15
"""Covered share of a region up to which its AUs count as visible."""

_UPPER_AUS: Final = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU45")
"""AUs of eyes and brows; the others are of nose, cheeks and mouth."""

_LATE_AUDIO_S: Final[float] = 0.8
"""Start of a late sound stream, seconds."""

_AUDIO_TAIL_S: Final[float] = 0.3
"""Length of the sound after the last frame, seconds."""

_TIME_BASE: Final[Fraction] = Fraction(1, 90_000)  # s

_AUDIO_BLOCK: Final[int] = 1024  # samples


@dataclass(frozen=True, eq=False)
class SyntheticVideo:
    """Ground truth of a rendered video."""

    frames: pd.DataFrame
    """Ground truth with one row per frame and track."""
    covers: pd.DataFrame
    """Covers of the AU regions with one row per frame and track, as in covers.parquet."""
    tracks: pd.DataFrame
    """One row per track: its resting face and properties that are constant over frames."""
    rows: dict[str, int]
    """Number of label or template rows by track."""


def make_video(plan: VideoPlan, face: Face, out: Path) -> SyntheticVideo:
    """Render a video with its pictures and annotations into `out`; equal plans produce identical pictures."""
    random = np.random.default_rng(plan.seed)
    times_s = sample_frame_times(random, plan)
    ticks = ticks_for(plan.seconds + _AUDIO_TAIL_S)
    persons = _persons(random, plan, face)
    scene = sample_scene(
        random, plan.width, plan.height, ticks, len(persons), plan.case.dark, plan.case.low_quality
    )
    disturbance = [None, None, "voice", "music"][random.integers(4)]
    speech = [synthesise_speech(random, p.speaker, p.behaviour, p.own_voice) for p in persons]
    wave = mix_audio(random, ticks, speech, disturbance)
    truths = [_ground_truth(person, scene, times_s) for person in persons]
    missing = _missing_images(random, plan, truths)
    rendered = ((s, render_frame(scene, face, persons, s, index)) for index, s in enumerate(times_s.tolist()))
    shares = _write_media(random, plan, rendered, None if plan.case.sound == "none" else wave, missing, out)
    rows: dict[str, int] = {}
    tables, covers, summaries = [], [], []
    for track, person, truth, missing_here, shares_here in zip(
        plan.tracks, persons, truths, missing, shares, strict=True
    ):
        au_names = au_columns(truth.columns)
        labels = labels_of(truth[list(au_names)].to_numpy())
        in_affwild2 = labels[:, : len(AFFWILD2_AUS)]
        annotated = corrupt_labels(random, in_affwild2, plan.case.surplus, plan.case.partial_labels)
        rows[track] = len(annotated)
        if plan.split in SPLIT_FOLDER_NAMES:
            write_annotation(
                out / ANNOTATIONS_FOLDER / SPLIT_FOLDER_NAMES[plan.split] / f"{track}.txt", annotated
            )
        truth.insert(0, "track", track)
        truth["has_image"] = ~missing_here
        for j, name in enumerate(au_names):
            truth[f"{name}_label"] = labels[:, j]
        truth["mouth_share"], truth["eyes_share"] = shares_here.T
        covers.append(cover_table(track, truth, person.fringe))
        tables.append(truth)
        summaries.append(_track_summary(plan, track, person, disturbance))
    frames, covers_of_all = (pd.concat(each, ignore_index=True) for each in (tables, covers))
    return SyntheticVideo(frames, covers_of_all, pd.DataFrame(summaries), rows)


def _persons(random: Random, plan: VideoPlan, face: Face) -> tuple[Person, ...]:
    """Sample one person per track; the traits are the same in all parts of a recording."""
    identity_random = np.random.default_rng(plan.person_seed)
    person_traits = [sample_traits(identity_random, face) for _ in plan.tracks]
    seconds = plan.seconds + _AUDIO_TAIL_S
    return tuple(
        sample_person(random, face, each, seconds, conditions=plan.conditions) for each in person_traits
    )


def _missing_images(random: Random, plan: VideoPlan, truths: list[pd.DataFrame]) -> list[NDArray[np.bool_]]:
    """Return a mask [T] of frames without a picture per track; a `_left` beside a bare name has many."""
    second_is_rare = plan.case.tracks == ("", "_left")
    return [
        sample_missing_images(
            random,
            len(truth),
            truth["yaw"].to_numpy(),
            "many" if second_is_rare and number else plan.case.missing,
        )
        for number, truth in enumerate(truths)
    ]


def _ground_truth(person: Person, scene: Scene, times_s: Array) -> pd.DataFrame:
    """Return the ground truth, one row per frame: AU movements, head pose, occlusion, speech, light."""
    behaviour = person.behaviour
    at_frames = partial(behaviour.interpolate, times_s)
    pose = at_frames(behaviour.pose)
    speaking = at_frames(behaviour.speaking.astype(float)) >= 0.5
    mouth_covered = at_frames(person.mouth_occlusion) >= OCCLUDED
    columns = {
        "number": np.arange(1, len(times_s) + 1),
        "time_s": times_s,
        **dict(zip(behaviour.au_names, at_frames(behaviour.movement).T.astype(np.float32), strict=True)),
        **dict(zip(("yaw", "pitch", "roll"), pose.T.astype(np.float32), strict=True)),
        "opening": at_frames(behaviour.opening).astype(np.float32),
        "voiced": at_frames(behaviour.voiced).astype(np.float32),
        "speaking": speaking,
        "mouth_covered": mouth_covered,
        "eyes_covered": at_frames(person.eye_occlusion) >= OCCLUDED,
        "covered_while_speaking": mouth_covered & speaking,
        "own_voice": at_frames(person.own_voice.astype(float)) >= 0.5,
        "blank": at_frames(person.blank.astype(float)) >= 0.5,
        "large_yaw": np.abs(pose[:, 0]) > 35,
        "dark": at_frames(scene.light) < DARK,
    }
    return pd.DataFrame(columns)


def _track_summary(plan: VideoPlan, track: str, person: Person, disturbance: str | None) -> dict[str, object]:
    return {
        "track": track,
        "video": plan.name,
        "split": plan.split,
        "timing": plan.case.timing,
        "sound": plan.case.sound,
        "disturbance": disturbance or "none",
        "glasses": person.glasses,
        "fringe": person.fringe,
        "holds": person.mouth_occluder,
        "poor": plan.case.low_quality,
        **{
            f"{name}_rest": float(person.behaviour.rest[j])
            for j, name in enumerate(person.behaviour.au_names)
        },
    }


def _write_media(
    random: Random,
    plan: VideoPlan,
    rendered_frames: Iterator[tuple[float, SceneFrame]],
    wave: NDArray[np.float32] | None,
    missing: list[NDArray[np.bool_]],
    out: Path,
) -> NDArray[np.float32]:
    """Write the video from its frames and times, and the aligned pictures of its tracks.

    wave: sound [M], or None.  missing: masks [T] of frames without a picture, per track.
    Returns the covered shares [P, T, 2] of mouth and eyes of each track.
    """
    path = out / plan.path
    path.parent.mkdir(parents=True, exist_ok=True)
    folders = [out / "cropped_aligned" / track for track in plan.tracks]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    compression, jpeg = int(random.integers(20, 34)), int(random.integers(70, 96))
    audio_start_s = _LATE_AUDIO_S if plan.case.sound == "late" else 0.0
    covered = []
    with VideoFile(path, (plan.width, plan.height), plan.rate_hz, wave, compression, audio_start_s) as file:
        for index, (time_s, rendered) in enumerate(rendered_frames):
            file.add(rendered.image, time_s)
            covered.append(np.stack(rendered.covered))
            for folder, points, missing_here in zip(folders, rendered.points, missing, strict=True):
                if not missing_here[index]:
                    _write_jpeg(folder / f"{index + 1:05d}.jpg", crop_face(rendered.image, points), jpeg)
    for folder, missing_here in zip(folders, missing, strict=True):
        if missing_here.mean() > 0.4:
            (folder / f"{int(np.argmax(missing_here)) + 1:05d}.jpg").touch()  # picture of 0 bytes
            (folder / ".DS_Store").touch()
    return np.stack(covered, axis=1)


def cover_table(track: str, truth: pd.DataFrame, fringe: bool) -> pd.DataFrame:
    """Return the covers of a track's AU regions: 1 covered, 0 visible, -1 in between or without a picture.

    fringe: whether hair hangs over the brows, so that those of the eyes are known only if they are covered.
    """
    au_names = au_columns(truth.columns)
    is_upper = np.isin(au_names, _UPPER_AUS)
    shares = np.where(is_upper, truth[["eyes_share"]].to_numpy(), truth[["mouth_share"]].to_numpy())  # [T, A]
    covers = np.where(shares >= COVERED, 1, np.where(shares <= VISIBLE, 0, -1))
    if fringe:
        covers[:, is_upper] = np.where(covers[:, is_upper] == 1, 1, -1)
    covers[~truth["has_image"].to_numpy()] = -1
    table = pd.DataFrame(covers.astype(np.int8), columns=cover_columns(au_names))
    table.insert(0, "track", track)
    table.insert(1, "frame", truth["number"].to_numpy())
    return table


def _write_jpeg(path: Path, crop: NDArray[np.uint8], quality: int) -> None:
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert encoded
    path.write_bytes(data.tobytes())


def corrupt_labels(random: Random, labels: Labels, surplus: int, partial_labels: bool) -> Labels:
    """Return label rows [T + surplus, A] from labels [T, A], with -1 in about UNLABELLED_SHARE of the rows.

    Unlabelled rows form runs of up to 60 rows. A positive surplus repeats the last row; a negative one drops
    the last rows.
    partial_labels: also set three AUs to -1 in 20 consecutive rows.
    """
    rows = np.concatenate([labels, np.repeat(labels[-1:], max(0, surplus), axis=0)])[: len(labels) + surplus]
    rows = rows.copy()
    remaining = round(UNLABELLED_SHARE * len(rows))
    while remaining > 0:
        length = min(remaining, int(random.integers(5, 60)))
        start = int(random.integers(0, max(1, len(rows) - length)))
        rows[start : start + length] = -1
        remaining -= length
    if partial_labels:
        start = int(random.integers(0, max(1, len(rows) - 20)))
        rows[start : start + 20, random.choice(len(AFFWILD2_AUS), 3, replace=False)] = -1
    return rows


def sample_missing_images(
    random: Random, count: int, yaw: NDArray[np.floating], frequency: Missing
) -> NDArray[np.bool_]:
    """Sample a mask [T] of frames without a detected face: short gaps and profiles, or most of the track.

    yaw: head yaw [T], degrees.
    """
    if frequency == "none":
        return np.zeros(count, bool)
    missing: NDArray[np.bool_] = np.abs(yaw) > 62
    for _ in range(1 + count // 400):
        start = int(random.integers(0, count))
        missing[start : start + int(random.integers(1, 7))] = True
    if frequency == "many":
        gaps = random.random(count // 40 + 1) < 0.65
        missing |= np.repeat(gaps, 40)[:count]
    missing[0] &= frequency == "many"
    if missing.all():
        missing[count // 2] = False
    return missing


def write_annotation(path: Path, rows: Labels) -> None:
    """Write the annotation file of a track: a header and one line per row [N, A]."""
    lines = [HEADER, *(",".join(map(str, row)) for row in rows.tolist())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "ascii")


class VideoFile:
    """Video file writer; use it as a context manager and add frames in order of time."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate_hz: float,
        wave: NDArray[np.float32] | None,
        quality: int = 24,
        audio_start_s: float = 0.0,
    ) -> None:
        """Open the file for writing.

        size: width and height, px.  rate_hz: nominal frame rate.
        wave: samples [M] at 16 kHz from 0 s, or None for a video without a sound stream.
        quality: CRF of x264, or quantiser of MPEG-4 plus 18; larger is worse.
        audio_start_s: start of the sound stream, seconds; earlier samples are dropped.
        An .avi stores no times, so its frames are evenly spaced.
        """
        self._is_avi = path.suffix == ".avi"
        self._container = av.open(str(path), "w")
        rate = Fraction(rate_hz).limit_denominator(1001)
        self._time_base = 1 / rate if self._is_avi else _TIME_BASE
        video: Any = self._container.add_stream("mpeg4" if self._is_avi else "libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = self._time_base
        # One thread, so that the bytes are the same on every machine.
        video.codec_context.thread_count = 1
        if self._is_avi:
            video.codec_context.qmin = video.codec_context.qmax = max(2, quality - 18)
        else:
            video.options = {"preset": "ultrafast", "crf": str(quality)}
        self._video, self._frames = video, 0
        self._wave, self._samples_written = wave, round(audio_start_s * SAMPLE_RATE_HZ)
        if wave is not None:
            codec = "pcm_s16le" if self._is_avi else "aac"
            self._audio: Any = self._container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono")

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write_audio(None)
            self._container.mux(self._video.encode(None))
            if self._wave is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()

    def add(self, image: Image, time_s: float) -> None:
        """Append a frame [H, W, 3] RGB at `time_s`, and the sound up to that time."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.time_base = self._time_base
        frame.pts = self._frames if self._is_avi else round(time_s / _TIME_BASE)
        self._frames += 1
        self._container.mux(self._video.encode(frame))
        self._write_audio(time_s)

    def _write_audio(self, until_s: float | None) -> None:
        if self._wave is None:
            return
        end = len(self._wave) if until_s is None else min(len(self._wave), int(until_s * SAMPLE_RATE_HZ))
        while self._samples_written < end and (
            until_s is None or self._samples_written + _AUDIO_BLOCK <= end
        ):
            block = self._wave[None, self._samples_written : min(end, self._samples_written + _AUDIO_BLOCK)]
            sample_format = "s16" if self._is_avi else "fltp"
            samples = (
                np.round(block * 32767).astype(np.int16) if self._is_avi else np.ascontiguousarray(block)
            )
            frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._samples_written
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._samples_written += block.shape[1]
            self._container.mux(self._audio.encode(frame))
