"""Derive AU labels from the blendshape scores of the teacher model, MediaPipe Face Landmarker.

An AU is active if the left-right mean of its blendshape exceeds a fixed score (`RULES`). Exceptions:

    AU25  inner-lip gap over face height, from landmarks or the column `lip_gap`
    AU06  squint and smile together: active; neither: inactive; one of them: not annotated
    AU23  not annotated on real faces; trained on rendered faces

Inputs: a data frame with columns `bs_*`, lip gaps [n]. Returns: labels and soft targets [n, 12].
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS

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
"""AU -> (blendshape, threshold on its score)."""
REFERENCE = (
    "Its labels came from a teacher model (MediaPipe Face Landmarker) by a fixed rule, and from rendered "
    "faces, not from human coders; agreement with trained FACS coders has not been measured."
)
"""Description of the labels that is stored in the checkpoint."""
CHEEK_ON = (0.4, 0.4)
"""Scores of squint and smile above which AU06 is active."""
CHEEK_OFF = (0.3, 0.25)
"""Scores of squint and smile below which AU06 is inactive."""


@dataclass(frozen=True)
class Targets:
    """Teacher labels and soft targets of n faces."""

    labels: NDArray[np.int8]
    """[n, 12]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, 12] soft targets, 0 to 1; 0.5 at the threshold, 0 if not annotated."""


def blendshape(table: pd.DataFrame, name: str) -> NDArray[np.float32]:
    """Average left and right of a blendshape, by its name without side: scores [n]."""
    columns = [c for c in (f"bs_{name}", f"bs_{name}Left", f"bs_{name}Right") if c in table]
    return table[columns].mean(axis=1).to_numpy(np.float32)


def lip_gap(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute inner-lip distance over face height [n] from landmarks [n, 478, 2]."""

    def distance(a: int, b: int) -> NDArray[np.floating]:
        return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)

    return (distance(13, 14) / distance(10, 152)).astype(np.float32)


def teacher_targets(table: pd.DataFrame, lip_gaps: NDArray[np.floating]) -> Targets:
    """Convert the rows of `table`, with lip gaps [n], into labels and soft targets."""
    labels = np.full((len(table), len(AFFWILD2_AUS)), -1, dtype=np.int8)
    soft = np.zeros((len(table), len(AFFWILD2_AUS)), dtype=np.float32)
    for au, (name, least) in RULES.items():
        score = lip_gaps if name == "lip_gap" else blendshape(table, name)
        column = AFFWILD2_AUS.index(au)
        labels[:, column] = score > least
        soft[:, column] = 1 / (1 + np.exp(-(score - least) / (0.4 * least)))
    squint, smile = blendshape(table, "eyeSquint"), blendshape(table, "mouthSmile")
    cheek = AFFWILD2_AUS.index("AU06")
    on = (squint > CHEEK_ON[0]) & (smile > CHEEK_ON[1])
    off = (squint < CHEEK_OFF[0]) & (smile < CHEEK_OFF[1])
    labels[on, cheek] = 1
    labels[off, cheek] = 0
    soft[on, cheek] = 0.95
    soft[off, cheek] = 0.05
    return Targets(labels, soft)
