"""Derive AU labels and intensities from the blendshape scores of the teacher, MediaPipe Face Landmarker.

An AU is active if the left-right mean of its blendshape exceeds a fixed score (`RULES`). Exceptions:

    AU06  squint and smile together: active; neither: inactive; one of them: not annotated
    AU07  with AU45 in the AU set, closing lids do not count: see `teacher_targets`
    AU09  not annotated on real faces (noseSneer is always 0); trained on rendered faces
    AU20  not annotated during a smile, which also raises mouthStretch
    AU23  not annotated on real faces; trained on rendered faces
    AU25  inner-lip gap over face height, from landmarks or the column `lip_gap`
    AU28  lesser of the rolls of lower and upper lip

Inputs: a data frame with columns `bs_*`, lip gaps [n]. Returns: labels, soft targets and intensities [n, A].
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.config import MAX_INTENSITY

NANO_AUS: tuple[str, ...] = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12", "AU14"),
    *("AU15", "AU17", "AU20", "AU23", "AU24", "AU25", "AU26", "AU28", "AU45"),
)
"""AU set of nano: all 18 AUs of OpenFace 2.2, and AU24."""
RULES: dict[str, tuple[str, float]] = {
    "AU01": ("browInnerUp", 0.25),
    "AU02": ("browOuterUp", 0.25),
    "AU04": ("browDown", 0.35),
    "AU05": ("eyeWide", 0.08),
    "AU07": ("eyeSquint", 0.5),
    "AU10": ("mouthUpperUp", 0.25),
    "AU12": ("mouthSmile", 0.4),
    "AU14": ("mouthDimple", 0.08),
    "AU15": ("mouthFrown", 0.1),
    "AU17": ("mouthShrugLower", 0.2),
    "AU20": ("mouthStretch", 0.3),
    "AU24": ("mouthPress", 0.2),
    "AU25": ("lip_gap", 0.035),
    "AU26": ("jawOpen", 0.15),
    "AU28": ("mouthRoll", 0.3),
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
STRETCH_SMILE = 0.2
"""Score of smile above which a stretched mouth is not annotated as AU20."""
LID_MARGIN_S = 0.1
"""Time before and after closed lids in which the lids close and open, seconds."""
MAX_BLINK_S = 0.5
"""Longest blink, seconds; longer closures are closed eyes or a look down."""


@dataclass(frozen=True)
class Targets:
    """Teacher labels, soft targets and intensities of n faces."""

    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, A] soft targets, 0 to 1; 0.5 at the threshold, 0 if not annotated."""
    intensities: NDArray[np.float32]
    """[n, A] 0 to 5, a monotone map of the score: 2.5 at the threshold; NaN if not annotated."""


def blendshape(table: pd.DataFrame, name: str) -> NDArray[np.float32]:
    """Average left and right of a blendshape, by its name without side: scores [n]."""
    columns = [c for c in (f"bs_{name}", f"bs_{name}Left", f"bs_{name}Right") if c in table]
    return table[columns].mean(axis=1).to_numpy(np.float32)


def lip_gap(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute inner-lip distance over face height [n] from landmarks [n, 478, 2]."""

    def distance(a: int, b: int) -> NDArray[np.floating]:
        return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)

    return (distance(13, 14) / distance(10, 152)).astype(np.float32)


def rule_score(table: pd.DataFrame, lip_gaps: NDArray[np.floating], au: str) -> NDArray[np.float32]:
    """Return the score [n] that the rule of an AU compares with its threshold."""
    name = RULES[au][0]
    if name == "lip_gap":
        return lip_gaps.astype(np.float32)
    if name == "mouthRoll":
        return np.minimum(blendshape(table, "mouthRollLower"), blendshape(table, "mouthRollUpper"))
    return blendshape(table, name)


def teacher_targets(
    table: pd.DataFrame,
    lip_gaps: NDArray[np.floating],
    au_names: tuple[str, ...] = NANO_AUS,
    times_s: NDArray[np.floating] | None = None,
) -> Targets:
    """Convert the rows of `table`, with lip gaps [n], into labels, soft targets and intensities.

    times_s: times [n] in seconds if the rows are the frames of one face in a clip; None: single pictures.

    Closing lids raise the squint score. If `au_names` has AU45, AU07 therefore keeps during a blink the label
    it has before and after it; it is not annotated if these differ, during longer closures, and on single
    pictures with closed lids and a squint.
    """
    shape = (len(table), len(au_names))
    labels, soft = np.full(shape, -1, dtype=np.int8), np.zeros(shape, dtype=np.float32)
    intensities = np.full(shape, np.nan, dtype=np.float32)
    for column, au in enumerate(au_names):
        if au in RULES:
            score, least = rule_score(table, lip_gaps, au), RULES[au][1]
            labels[:, column] = score > least
            soft[:, column] = 1 / (1 + np.exp(-(score - least) / (0.4 * least)))
            intensities[:, column] = _intensity(score / least)
    targets = Targets(labels, soft, intensities)
    if "AU06" in au_names:
        _set_cheek_raiser(targets, au_names.index("AU06"), table)
    if "AU20" in au_names:
        column = au_names.index("AU20")
        _mask(targets, column, (labels[:, column] == 1) & (blendshape(table, "mouthSmile") > STRETCH_SMILE))
    if {"AU07", "AU45"} <= set(au_names):
        column, lids = au_names.index("AU07"), blendshape(table, "eyeBlink")
        if times_s is None:
            _mask(targets, column, (labels[:, column] == 1) & (lids > RULES["AU45"][1]))
        else:
            _bridge_blinks(targets, column, lids, times_s)
    return targets


def _intensity(ratio: NDArray[np.floating]) -> NDArray[np.float32]:
    """Map scores over their thresholds to intensities; half of the maximum at the threshold."""
    squared = np.square(ratio)
    return (MAX_INTENSITY * squared / (1 + squared)).astype(np.float32)


def _mask(targets: Targets, column: int, rows: NDArray[np.bool_]) -> None:
    """Mark the AU of `column` as not annotated in some rows [n]."""
    targets.labels[rows, column], targets.soft[rows, column] = -1, 0
    targets.intensities[rows, column] = np.nan


def _set_cheek_raiser(targets: Targets, column: int, table: pd.DataFrame) -> None:
    squint, smile = blendshape(table, "eyeSquint"), blendshape(table, "mouthSmile")
    on = (squint > CHEEK_ON[0]) & (smile > CHEEK_ON[1])
    off = (squint < CHEEK_OFF[0]) & (smile < CHEEK_OFF[1])
    targets.labels[on, column], targets.soft[on, column] = 1, 0.95
    targets.labels[off, column], targets.soft[off, column] = 0, 0.05
    lesser = np.minimum(squint / CHEEK_ON[0], smile / CHEEK_ON[1])
    targets.intensities[:, column] = np.where(on | off, _intensity(lesser), np.nan)


def _bridge_blinks(
    targets: Targets, column: int, lids: NDArray[np.floating], times_s: NDArray[np.floating]
) -> None:
    """Replace the AU of `column` while lids close: by its values around a blink, else by not annotated.

    lids: closure of the lids [n]; NaN in frames without a face.
    """
    closed = lids > RULES["AU45"][1]
    steady = np.isfinite(lids) & ~_near(times_s, times_s[closed])
    rows = np.flatnonzero(~steady & np.isfinite(lids))
    around = np.flatnonzero(steady)
    if not len(around):
        _mask(targets, column, ~steady)
        return
    place = np.searchsorted(around, rows)
    before, after = around[(place - 1).clip(0)], around[place.clip(max=len(around) - 1)]
    first = rows[np.searchsorted(place, place, "left")]
    last = rows[np.searchsorted(place, place, "right") - 1]
    run_s = np.maximum(times_s[last] - times_s[first], times_s[after] - times_s[before])
    labels = targets.labels[:, column].copy()
    known = (labels[before] == labels[after]) & (run_s <= MAX_BLINK_S + 4 * LID_MARGIN_S)
    for values in (targets.soft, targets.intensities):
        values[rows, column] = np.interp(times_s[rows], times_s[around], values[around, column])
    targets.labels[rows, column] = labels[before]
    unknown = np.zeros(len(labels), bool)
    unknown[rows] = ~known
    _mask(targets, column, unknown)


def _near(times_s: NDArray[np.floating], others_s: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Select the times [n] within LID_MARGIN_S of one of some sorted times."""
    if not len(others_s):
        return np.zeros(len(times_s), bool)
    place = np.searchsorted(others_s, times_s)
    left, right = others_s[(place - 1).clip(0)], others_s[place.clip(max=len(others_s) - 1)]
    return np.minimum(np.abs(times_s - left), np.abs(times_s - right)) <= LID_MARGIN_S + 1e-6
