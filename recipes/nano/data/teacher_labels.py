"""Derive AU labels from the blendshape scores of the teacher model, MediaPipe Face Landmarker.

An AU is active if the left-right mean of its blendshape exceeds a fixed score (`RULES`). Exceptions:

    AU25  inner-lip gap over face height, from landmarks or the column `lip_gap`
    AU06  squint and smile together: active; neither: inactive; one of them: not annotated
    AU07  not annotated while the eyes close if AU45 is among the AUs: a blink is AU45 and not AU07
    AU09  not annotated on real faces, because the teacher's noseSneer is silent; trained on rendered faces
    AU23  as AU09

Inputs: a data frame with columns `bs_*`, lip gaps [n], AUs. Returns: labels and soft targets [n, A].
"""

from collections.abc import Sequence
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
    "AU05": ("eyeWide", 0.06),
    "AU14": ("mouthDimple", 0.07),
    "AU17": ("mouthShrugLower", 0.2),
    "AU20": ("mouthStretch", 0.4),
    "AU28": ("mouthRoll", 0.2),
    "AU45": ("eyeBlink", 0.5),
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


BLINK_OFF = 0.35
"""Score of eyeBlink above which AU07 is not annotated: the teacher's squint also rises in a blink."""


@dataclass(frozen=True)
class Targets:
    """Teacher labels and soft targets of n faces."""

    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, A] soft targets, 0 to 1; 0.5 at the threshold, 0 if not annotated."""


PARTS = ("", "Left", "Right", "Lower", "Upper")
"""Endings of the names of blendshapes."""


def blendshape(table: pd.DataFrame, name: str) -> NDArray[np.float32]:
    """Average left and right, or lower and upper lip, of a blendshape: scores [n]."""
    columns = [c for c in (f"bs_{name}{part}" for part in PARTS) if c in table]
    return table[columns].mean(axis=1).to_numpy(np.float32)


def lip_gap(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute inner-lip distance over face height [n] from landmarks [n, 478, 2]."""

    def distance(a: int, b: int) -> NDArray[np.floating]:
        return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)

    return (distance(13, 14) / distance(10, 152)).astype(np.float32)


def teacher_targets(
    table: pd.DataFrame, lip_gaps: NDArray[np.floating], au_names: Sequence[str] = AFFWILD2_AUS
) -> Targets:
    """Convert the rows of `table`, with lip gaps [n], into labels and soft targets of some AUs."""
    labels = np.full((len(table), len(au_names)), -1, dtype=np.int8)
    soft = np.zeros((len(table), len(au_names)), dtype=np.float32)
    for column, au in enumerate(au_names):
        if au not in RULES:
            continue
        name, least = RULES[au]
        score = lip_gaps if name == "lip_gap" else blendshape(table, name)
        labels[:, column] = score > least
        soft[:, column] = 1 / (1 + np.exp(-(score - least) / (0.4 * least)))
    if "AU45" in au_names and "AU07" in au_names:
        closing, lid = blendshape(table, "eyeBlink") > BLINK_OFF, au_names.index("AU07")
        labels[closing, lid], soft[closing, lid] = -1, 0
    if "AU06" in au_names:
        _set_cheek(table, labels[:, au_names.index("AU06")], soft[:, au_names.index("AU06")])
    return Targets(labels, soft)


def _set_cheek(table: pd.DataFrame, labels: NDArray[np.int8], soft: NDArray[np.float32]) -> None:
    """Write labels and soft targets [n] of AU06 in place."""
    squint, smile = blendshape(table, "eyeSquint"), blendshape(table, "mouthSmile")
    on = (squint > CHEEK_ON[0]) & (smile > CHEEK_ON[1])
    off = (squint < CHEEK_OFF[0]) & (smile < CHEEK_OFF[1])
    labels[on], soft[on] = 1, 0.95
    labels[off], soft[off] = 0, 0.05
