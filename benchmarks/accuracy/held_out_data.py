"""Faces and clips that no training step saw, with their labels.

    faces      `faces_val.parquet`: identities that are not in the training table; teacher labels
    rendered   rendered people of recipes/nano/render/rendered_faces.py: TEST; exact labels
    clips      real_clips.HELD_OUT (recipes/nano/data/real_clips.py); teacher labels
    talking    rendered people who speak, written once as video files into a folder; exact labels

The teacher is MediaPipe Face Landmarker, a model: agreement with it is not accuracy against human coders. It
gives no labels for AU06 and AU23 (-1).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform, read_waveform
from auscan.media.video import Frame, read_frames
from benchmarks.accuracy.face_tracking import POINTS
from recipes.nano.data.real_clips import HELD_OUT
from recipes.nano.data.teacher_labels import RULES, Targets, blendshape, lip_gap, teacher_targets

NO_TEACHER = ("AU06", "AU23")
RENDER_SEED = 7
"""Seed of expressions and scenes, not of persons."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of R pictures or frames."""

    labels: NDArray[np.int8]
    """[R, A]; -1 where unknown."""
    points: NDArray[np.float32]
    """[R, 5, 2] px."""
    soft: NDArray[np.float32]
    """[R, A] soft targets, 0 to 1."""
    scores: NDArray[np.float32]
    """[R, A] the teacher's scores or rendered intensities; NaN where unknown."""


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """R pictures with one face each."""

    encoded: list[bytes]
    """Contents of image files."""
    truth: Truth
    about: pd.DataFrame
    """A row a picture; always with `yaw` in degrees."""

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures [H, W, 3] RGB."""
        for data in self.encoded:
            yield np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """A clip with audio and labels."""

    path: Path
    truth: Truth
    """A row a frame."""
    sound: Waveform
    """The whole audio."""

    def frames(self) -> Iterator[Frame]:
        """Decode the frames from the beginning."""
        return read_frames(self.path)


def real_faces(data: Path, every: int = 1) -> LabelledPictures:
    """Each `every`-th picture of `faces_val.parquet`."""
    table = pd.read_parquet(data / "faces_val.parquet").iloc[::every].reset_index(drop=True)
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    about = table.drop(columns=["jpeg", "landmarks"])
    return LabelledPictures(table["jpeg"].tolist(), _teacher_truth(table, lip_gap(landmarks)), about)


def rendered_faces(data: Path, persons: int, occluded: float) -> LabelledPictures:
    """Four pictures of each of some rendered people.

    occluded: share of the pictures with an occluder.
    `about`: yaw, pitch, covered (share of the face), lightness (L* of the skin), glasses.
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
    """The held-out clips with teacher labels for each frame."""
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
    """Read the audio of a clip; every held-out clip has some."""
    chunks = read_waveform(path)
    assert chunks is not None
    pieces = list(chunks)
    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].start_s)


def _teacher_truth(table: pd.DataFrame, gaps: NDArray[np.float32]) -> Truth:
    targets: Targets = teacher_targets(table, gaps)
    scores = np.full(targets.soft.shape, np.nan, np.float32)
    for name, (shape, _) in RULES.items():
        scores[:, AU_NAMES.index(name)] = gaps if shape == "lip_gap" else blendshape(table, shape)
    targets.labels[:, [AU_NAMES.index(name) for name in NO_TEACHER]] = -1
    points = np.stack([table[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in POINTS], axis=1)
    return Truth(targets.labels, points, targets.soft, scores)


SECONDS = 6.0
"""Length of a clip of a talking person."""
CLOCK = Fraction(1, 90_000)


def talking_clips(data: Path, folder: Path, persons: int) -> list[LabelledClip]:
    """Clips of rendered people who speak; clips in the folder are not rendered again."""
    from recipes.nano.render.rendered_faces import TEST

    folder.mkdir(parents=True, exist_ok=True)
    for person in TEST[-persons:]:
        if not (folder / f"{person}.npz").exists():
            _render_clip(data / "ict_facekit.npz", person, folder)
    return [_load(folder, person) for person in TEST[-persons:]]


def _render_clip(ict: Path, person: int, folder: Path) -> None:
    """Render one clip: pictures as .mp4, then audio and truth as .npz."""
    from recipes.nano.render.expressions import labels_of, soft_targets
    from recipes.nano.render.head_mesh import load_head
    from recipes.nano.render.rendered_clips import draw_clip, render_frames

    clip = draw_clip(load_head(ict), person, SECONDS, mouth="free")
    pictures = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for shot in render_frames(clip):
            pictures.append(shot.picture)
            yield shot.image

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
    with np.load(folder / f"{person}.npz") as stored:
        truth = Truth(**{name: stored[name] for name in ("labels", "points", "soft", "scores")})
        wave = Waveform(stored["wave"].astype(np.float32), 0.0)
    assert len(wave.samples) >= SAMPLE_RATE_HZ
    return LabelledClip(folder / f"{person}.mp4", truth, wave)


def _write(path: Path, images: Iterator[NDArray[np.uint8]], times_s: NDArray[np.float64]) -> None:
    """Write H.264 4:4:4, nearly lossless."""
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
