"""Faces and clips that no training step saw, with what is known of them.

    faces      `faces_val.parquet`: other people than the training faces; labels by the teacher
    rendered   rendered people that training leaves alone (recipes/nano/rendered_faces.py); exact labels
    clips      those of `HELD_OUT` (recipes/nano/clip_data.py); labels by the teacher

The teacher is MediaPipe Face Landmarker, a model: agreement with it is no accuracy against human coders. Of
AU06 and AU23 it says nothing: -1.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "nano"))
from faces import POINTS

from auscan.core.aus import AU_NAMES
from auscan.media.audio import Waveform, read_waveform
from auscan.media.video import Frame, read_frames
from clip_data import HELD_OUT
from labels import RULES, Targets, blendshape, lip_gap, teacher_targets

NO_TEACHER = ("AU06", "AU23")
RENDER_SEED = 7
"""Of what the rendered people do, not of who they are."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of R pictures or frames."""

    labels: NDArray[np.int8]
    """[R, A]; -1 where nobody knows."""
    points: NDArray[np.float32]
    """[R, 5, 2] px."""
    soft: NDArray[np.float32]
    """[R, A] how clearly, 0 to 1."""
    scores: NDArray[np.float32]
    """[R, A] how much, in the units of whoever says so; NaN where nobody knows."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """R single faces."""

    encoded: list[bytes]
    """As in an image file."""
    truth: Truth
    about: pd.DataFrame
    """A row a picture; both have `yaw` in degrees."""

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """[H, W, 3] RGB, one after the other."""
        for data in self.encoded:
            yield np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


@dataclass(frozen=True, eq=False)
class Footage:
    """A clip with sound."""

    path: Path
    truth: Truth
    """A row a frame."""
    sound: Waveform
    """All of it."""

    def frames(self) -> Iterator[Frame]:
        """Decoded anew by every call."""
        return read_frames(self.path)


def real_faces(data: Path, every: int = 1) -> Pictures:
    """Each `every`-th picture of `faces_val.parquet`."""
    table = pd.read_parquet(data / "faces_val.parquet").iloc[::every].reset_index(drop=True)
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    about = table.drop(columns=["jpeg", "landmarks"])
    return Pictures(table["jpeg"].tolist(), _by_teacher(table, lip_gap(landmarks)), about)


def rendered_faces(data: Path, persons: int, occluded: float) -> Pictures:
    """Four pictures each of so many rendered people.

    occluded: share of the pictures with a thing before the face.
    `about`: yaw, pitch, covered (share of the face), lightness (L* of the skin), glasses.
    """
    from rendered_faces import TEST
    from rendered_faces import rendered_faces as render

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
    return Pictures(encoded, Truth(labels, points, soft, scores), about)


def held_out_clips(data: Path) -> list[Footage]:
    """The held-out clips with the teacher's row for each of their frames."""
    found = []
    for name in HELD_OUT:
        table = pd.read_parquet(data / "clips_teacher" / f"{name}.parquet")
        silent = ~table["found"].to_numpy(bool)
        truth = _by_teacher(table, table["lip_gap"].to_numpy(np.float32))
        truth.labels[silent] = -1
        truth.scores[silent] = np.nan
        path = next((data / "clips").glob(f"{name}.*"))
        found.append(Footage(path, truth, _whole_sound(path)))
    return found


def _whole_sound(path: Path) -> Waveform:
    """Every held-out clip has some."""
    chunks = read_waveform(path)
    assert chunks is not None
    pieces = list(chunks)
    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].start_s)


def _by_teacher(table: pd.DataFrame, gaps: NDArray[np.float32]) -> Truth:
    targets: Targets = teacher_targets(table, gaps)
    scores = np.full(targets.soft.shape, np.nan, np.float32)
    for name, (shape, _) in RULES.items():
        scores[:, AU_NAMES.index(name)] = gaps if shape == "lip_gap" else blendshape(table, shape)
    targets.labels[:, [AU_NAMES.index(name) for name in NO_TEACHER]] = -1
    points = np.stack([table[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in POINTS], axis=1)
    return Truth(targets.labels, points, targets.soft, scores)
