"""Turn the teacher's blendshape scores into AU targets; silent where the teacher is silent.

The teacher is MediaPipe Face Landmarker, a model and not a human coder. Label rule: an AU is active where
the left-right mean of its blendshape lies above a fixed score (`RULES`, from the data's README).

    AU25  has no blendshape of its own: inner-lip gap over face height, from landmarks or `lip_gap`
    AU06  has no direct teacher: squint together with smile counts as active, absence of both as
          inactive, anything else is not annotated
    AU23  has no teacher at all: never annotated on real faces, left to rendered ones

In: a data frame with the columns `bs_*` and an array of lip gaps.  Out: labels and soft targets [n, 12].
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES

RULES: dict[str, tuple[str, float]] = {
    "AU01": ("browInnerUp", 0.25),
    "AU02": ("browOuterUp", 0.25),
    "AU04": ("browDown", 0.35),
    "AU07": ("eyeSquint", 0.5),
    "AU10": ("mouthUpperUp", 0.25),
    "AU12": ("mouthSmile", 0.4),
    "AU15": ("mouthFrown", 0.1),
    "AU24": ("mouthPress", 0.2),
    "AU25": ("lip_gap", 0.035),
    "AU26": ("jawOpen", 0.15),
}
"""AU -> (blendshape, score above which it counts as active)."""

REFERENCE = (
    "Its labels came from a teacher model (MediaPipe Face Landmarker) by a fixed rule, and from rendered "
    "faces, not from human coders; agreement with trained FACS coders has not been measured."
)
"""What the checkpoint says of its labels."""

CHEEK_ON = (0.4, 0.4)
"""Squint and smile both above: AU06 counts as active."""
CHEEK_OFF = (0.3, 0.25)
"""Squint and smile both below: AU06 counts as inactive."""


@dataclass(frozen=True)
class Targets:
    """What the teacher says of n faces."""

    labels: NDArray[np.int8]
    """[n, 12]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, 12] in 0..1: how clearly, 0.5 exactly at the rule's score; 0 where not annotated."""


def blendshape(table: pd.DataFrame, name: str) -> NDArray[np.float32]:
    """A score by its name without side; left and right are averaged: [n]."""
    columns = [c for c in (f"bs_{name}", f"bs_{name}Left", f"bs_{name}Right") if c in table]
    return table[columns].mean(axis=1).to_numpy(np.float32)


def lip_gap(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """[n, 478, 2] landmarks -> inner-lip distance over face height [n]."""

    def distance(a: int, b: int) -> NDArray[np.floating]:
        return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)

    return (distance(13, 14) / distance(10, 152)).astype(np.float32)


def teacher_targets(table: pd.DataFrame, lip_gaps: NDArray[np.floating]) -> Targets:
    """Labels and soft targets of every row of `table` [n rows], with its lip gaps [n]."""
    labels = np.full((len(table), len(AU_NAMES)), -1, dtype=np.int8)
    soft = np.zeros((len(table), len(AU_NAMES)), dtype=np.float32)
    for au, (name, least) in RULES.items():
        score = lip_gaps if name == "lip_gap" else blendshape(table, name)
        column = AU_NAMES.index(au)
        labels[:, column] = score > least
        soft[:, column] = 1 / (1 + np.exp(-(score - least) / (0.4 * least)))
    squint, smile = blendshape(table, "eyeSquint"), blendshape(table, "mouthSmile")
    cheek = AU_NAMES.index("AU06")
    on = (squint > CHEEK_ON[0]) & (smile > CHEEK_ON[1])
    off = (squint < CHEEK_OFF[0]) & (smile < CHEEK_OFF[1])
    labels[on, cheek] = 1
    labels[off, cheek] = 0
    soft[on, cheek] = 0.95
    soft[off, cheek] = 0.05
    return Targets(labels, soft)
