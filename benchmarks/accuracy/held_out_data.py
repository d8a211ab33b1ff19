"""Load faces and clips that were not used in training, with their labels.

    faces      `faces_val.parquet`, with identities that are not in the training table; teacher labels
    rendered   people of the range TEST in recipes/nano/render/rendered_faces.py; exact labels
    clips      HELD_OUT in recipes/nano/data/real_clips.py; teacher labels
    talking    rendered people who speak, written once as video files into a folder; exact labels

The teacher is MediaPipe Face Landmarker, a model: agreement with it is not accuracy against human coders.
Teacher labels of AU06, AU09 and AU23 are -1 (unknown).

Inputs: the data folder. Returns: `LabelledPictures`, or a list of `LabelledClip`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform, read_waveform
from auscan.media.video import Frame, read_frames
from benchmarks.accuracy.face_tracking import POINTS
from recipes.nano.data.real_clips import HELD_OUT
from recipes.nano.data.teacher_labels import (
    NANO_AUS,
    RULES,
    Targets,
    lip_gap,
    rule_score,
    teacher_targets,
)

NO_TEACHER = ("AU06", "AU09", "AU23")
"""AUs without a teacher score."""
RENDER_SEED = 7
"""Seed of expressions, poses and cameras. Persons have their own seeds."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of R pictures or frames, for the AUs of NANO_AUS."""

    labels: NDArray[np.int8]
    """[R, A]: 1 active, 0 inactive, -1 unknown."""
    points: NDArray[np.float32]
    """[R, 5, 2] px."""
    soft: NDArray[np.float32]
    """[R, A] soft targets, 0 to 1."""
    scores: NDArray[np.float32]
    """[R, A] teacher scores or rendered intensities; NaN if unknown."""

    def of(self, au_names: Sequence[str]) -> "Truth":
        """Return the truth of some AUs, in their order."""
        columns = [NANO_AUS.index(name) for name in au_names]
        labels, soft, scores = (each[:, columns] for each in (self.labels, self.soft, self.scores))
        return Truth(labels, self.points, soft, scores)


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """R pictures with one face each."""

    encoded: list[bytes]
    """Contents of image files."""
    truth: Truth
    about: pd.DataFrame
    """A row for each picture, with `yaw` in degrees and other columns."""

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures [H, W, 3] RGB."""
        for data in self.encoded:
            yield np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """A clip with audio and labels."""

    path: Path
    truth: Truth
    """A row for each frame."""
    sound: Waveform
    """Audio of the whole clip."""

    def frames(self) -> Iterator[Frame]:
        """Decode the frames from the beginning."""
        return read_frames(self.path)


def real_faces(data: Path, every: int = 1) -> LabelledPictures:
    """Read each `every`-th picture of `faces_val.parquet`."""
    table = pd.read_parquet(data / "faces_val.parquet").iloc[::every].reset_index(drop=True)
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    about = table.drop(columns=["jpeg", "landmarks"])
    return LabelledPictures(table["jpeg"].tolist(), _teacher_truth(table, lip_gap(landmarks)), about)


def rendered_faces(data: Path, persons: int, occluded: float) -> LabelledPictures:
    """Render four pictures of each of some people.

    occluded: share of the pictures with an occluder.
    Columns of `about`: yaw, pitch, covered (share of the face), lightness (L* of the skin), glasses.
    """
    from recipes.nano.render.rendered_faces import TEST
    from recipes.nano.render.rendered_faces import rendered_faces as render

    encoded, faces = [], []
    for face in render(data / "ict_facekit.npz", RENDER_SEED, TEST[:persons], occluded=occluded):
        encoded.append(cv2.imencode(".png", face.image[..., ::-1])[1].tobytes())
        faces.append(replace(face, image=face.image[:0]))
    labels, points, soft, scores = (
        np.stack([getattr(face, name) for face in faces])
        for name in ("labels", "points", "soft", "intensities")
    )
    about = pd.DataFrame(
        {
            "yaw": [face.pose[0] for face in faces],
            "pitch": [face.pose[1] for face in faces],
            "covered": [face.covered for face in faces],
            "lightness": [face.lightness for face in faces],
            "glasses": [face.glasses for face in faces],
        }
    )
    return LabelledPictures(encoded, Truth(labels, points, soft, scores), about)


def held_out_clips(data: Path) -> list[LabelledClip]:
    """Read the held-out clips with teacher labels for each frame."""
    found = []
    for name in HELD_OUT:
        table = pd.read_parquet(data / "clips_teacher" / f"{name}.parquet")
        silent = ~table["found"].to_numpy(bool)
        truth = _teacher_truth(table, table["lip_gap"].to_numpy(np.float32))
        truth.labels[silent] = -1
        truth.scores[silent] = np.nan
        path = next((data / "clips").glob(f"{name}.*"))
        found.append(LabelledClip(path, truth, _whole_sound(path)))
    return found


def _whole_sound(path: Path) -> Waveform:
    """Read the audio of a clip; every held-out clip has audio."""
    chunks = read_waveform(path)
    assert chunks is not None
    pieces = list(chunks)
    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].start_s)


def _teacher_truth(table: pd.DataFrame, gaps: NDArray[np.float32]) -> Truth:
    """Convert the teacher's scores into ground truth."""
    targets: Targets = teacher_targets(table, gaps)
    scores = np.full(targets.soft.shape, np.nan, np.float32)
    for column, name in enumerate(NANO_AUS):
        if name in RULES:
            scores[:, column] = rule_score(table, gaps, name)
    targets.labels[:, [NANO_AUS.index(name) for name in NO_TEACHER]] = -1
    points = np.stack([table[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in POINTS], axis=1)
    return Truth(targets.labels, points, targets.soft, scores)


SECONDS = 6.0
"""Length of a clip of a talking person."""
CLOCK = Fraction(1, 90_000)
"""Time base of the video files, seconds."""


def talking_clips(data: Path, folder: Path, persons: int) -> list[LabelledClip]:
    """Render clips of people who speak; clips in the folder are not rendered again."""
    from recipes.nano.render.rendered_faces import TEST

    folder.mkdir(parents=True, exist_ok=True)
    for person in TEST[-persons:]:
        if not (folder / f"{person}.npz").exists():
            _render_clip(data / "ict_facekit.npz", person, folder)
    return [_load(folder, person) for person in TEST[-persons:]]


def _render_clip(ict: Path, person: int, folder: Path) -> None:
    """Render one clip: pictures into an .mp4, audio and ground truth into an .npz."""
    from recipes.nano.render.expressions import labels_of, soft_targets
    from recipes.nano.render.head_mesh import load_head
    from recipes.nano.render.rendered_clips import draw_clip, render_frames

    clip = draw_clip(load_head(ict), person, SECONDS, mouth="free")
    pictures = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for frame in render_frames(clip):
            pictures.append(frame.picture)
            yield frame.image

    _write(folder / f"{person}.mp4", images(), clip.times_s)
    gaps = np.asarray([picture.lip_gap for picture in pictures])
    truth: dict[str, Any] = {
        "labels": labels_of(clip.intensities, gaps),
        "points": np.stack([picture.points for picture in pictures]),
        "soft": soft_targets(clip.intensities, gaps),
        "scores": clip.intensities,
    }
    np.savez(folder / f"{person}.npz", wave=clip.wave, **truth)


def _load(folder: Path, person: int) -> LabelledClip:
    """Read a rendered clip from the folder."""
    with np.load(folder / f"{person}.npz") as stored:
        truth = Truth(**{name: stored[name] for name in ("labels", "points", "soft", "scores")})
        wave = Waveform(stored["wave"].astype(np.float32), 0.0)
    assert len(wave.samples) >= SAMPLE_RATE_HZ
    return LabelledClip(folder / f"{person}.mp4", truth, wave)


def _write(path: Path, images: Iterator[NDArray[np.uint8]], times_s: NDArray[np.float64]) -> None:
    """Write a nearly lossless video: H.264, 4:4:4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8", "preset": "veryfast"})
        stream.pix_fmt = "yuv444p"
        stream.time_base = stream.codec_context.time_base = CLOCK
        for number, (image, time_s) in enumerate(zip(images, times_s, strict=True)):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = CLOCK, round(time_s / CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
