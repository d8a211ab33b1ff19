"""Compute the quality of a face from measured features, and the reason why it is not scored.

Each feature has a value for full quality, a cut and a value for no quality; its grade falls from 1 through
0.5 to 0 between them. The quality of a face is its lowest grade. If it is below 0.5, the face has the reason
of that feature. docs/quality.md describes how the values were chosen.

Inputs: quality features, as in the table.
Returns: qualities and reasons.
See also: faces/quality.py and the visual encoder (measurement of the features).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_FACE_REASON: Final[str] = "no_face"
"""Reason of a row without a face."""
MIN_QUALITY: Final[float] = 0.5
"""Faces of lower quality are not scored."""


@dataclass(frozen=True)
class Grading:
    """Grading of one quality feature, and the reason if its grade is too low."""

    reason: str
    """Reason in the table."""
    full: float
    """Value of grade 1."""
    cut: float
    """Value of grade 0.5."""
    none: float
    """Value of grade 0.  It and `full` lie on either side of `cut`."""

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return grades 0 to 1 of values [R]; the sign is ignored, and NaN has grade 1."""
        feature_values, grades = np.array([self.none, self.cut, self.full]), np.array([0.0, MIN_QUALITY, 1.0])
        order = np.argsort(feature_values)
        graded = np.interp(np.abs(values), feature_values[order], grades[order])
        return np.where(np.isnan(values), 1.0, graded)


GRADINGS: Final[dict[str, Grading]] = {
    "size": Grading("small", full=16.0, cut=7.0, none=4.0),
    "sharpness": Grading("blur", full=0.85, cut=0.65, none=0.4),
    "brightness": Grading("dark", full=0.15, cut=0.04, none=0.01),
    "contrast": Grading("dark", full=0.04, cut=0.017, none=0.01),
    "yaw": Grading("profile", full=20.0, cut=40.0, none=70.0),
    "pitch": Grading("profile", full=15.0, cut=30.0, none=60.0),
    "covered": Grading("occluded", full=0.05, cut=0.25, none=0.6),
}
"""Gradings by column of the table.  Yaw and pitch in degrees, size in px, the others 0 to 1."""

QUALITY_FEATURE_COLUMNS: Final[tuple[str, ...]] = tuple(GRADINGS)
"""Columns of the quality features, in order."""
REASONS: Final[tuple[str, ...]] = (
    NO_FACE_REASON,
    *dict.fromkeys(grading.reason for grading in GRADINGS.values()),
)
"""All reasons; a scored face has the empty string instead."""


def check_quality(quality_features: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Compute quality [R] and reason [R] of quality features [R, P] in the order of QUALITY_FEATURE_COLUMNS.

    The reason is "" if the quality is at least MIN_QUALITY. A row of NaN is a row without a face.
    """
    grades = np.stack(
        [grading(quality_features[:, j]) for j, grading in enumerate(GRADINGS.values())], axis=1
    )  # [R, P]
    missing = np.isnan(quality_features).all(axis=1)
    quality = np.where(missing, 0.0, grades.min(axis=1)).astype(np.float32)
    names = np.array([grading.reason for grading in GRADINGS.values()], dtype=object)
    reason = np.where(quality < MIN_QUALITY, names[grades.argmin(axis=1)], "")
    return quality, np.where(missing, NO_FACE_REASON, reason)
