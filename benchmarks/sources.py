"""Faces and clips that no training step saw, with what the teacher says of them.

`faces_val.parquet` holds other people than the training faces. The clips are those of `HELD_OUT`
(recipes/nano/clip_data.py). The teacher is MediaPipe Face Landmarker, a model: agreement with it is no
accuracy against human coders. AU06 and AU23 have no teacher and are -1 here.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "nano"))
from auscan.core.aus import AU_NAMES
from clip_data import HELD_OUT
from labels import RULES, Targets, blendshape, lip_gap, teacher_targets

NO_TEACHER = ("AU06", "AU23")
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


@dataclass(frozen=True, eq=False)
class Teacher:
    """What the teacher says of R pictures or frames."""

    labels: NDArray[np.int8]
    """[R, A]; -1 where it is silent or found no face."""
    soft: NDArray[np.float32]
    """[R, A]."""
    scores: NDArray[np.float32]
    """[R, A] blendshapes by their AU; NaN where it is silent or found no face."""
    points: NDArray[np.float32]
    """[R, 5, 2] px."""


def judged_faces(data: Path, every: int = 1) -> tuple[pd.DataFrame, Teacher]:
    """Rows of `faces_val.parquet`, each `every`-th one."""
    table = pd.read_parquet(data / "faces_val.parquet").iloc[::every].reset_index(drop=True)
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    return table, _teacher(table, lip_gap(landmarks))


def picture(jpeg: bytes) -> NDArray[np.uint8]:
    """[H, W, 3] RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def judged_clips(data: Path, names: tuple[str, ...] = HELD_OUT) -> dict[Path, Teacher]:
    """The files of the held-out clips and the teacher's row for each of their frames."""
    found = {}
    for name in names:
        table = pd.read_parquet(data / "clips_teacher" / f"{name}.parquet")
        silent = ~table["found"].to_numpy(bool)
        teacher = _teacher(table, table["lip_gap"].to_numpy(np.float32))
        teacher.labels[silent] = -1
        teacher.scores[silent] = np.nan
        found[next((data / "clips").glob(f"{name}.*"))] = teacher
    return found


def _teacher(table: pd.DataFrame, gaps: NDArray[np.float32]) -> Teacher:
    targets: Targets = teacher_targets(table, gaps)
    scores = np.full(targets.soft.shape, np.nan, np.float32)
    for name, (shape, _) in RULES.items():
        scores[:, AU_NAMES.index(name)] = gaps if shape == "lip_gap" else blendshape(table, shape)
    targets.labels[:, [AU_NAMES.index(name) for name in NO_TEACHER]] = -1
    points = np.stack([table[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in POINTS], axis=1)
    return Teacher(targets.labels, targets.soft, scores, points)
