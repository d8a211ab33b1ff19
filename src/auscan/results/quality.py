"""What is good enough to be judged: from measured parts to a quality and, where it falls short, the reason.

Each part has a value from which on nothing is lost, a cut, and a value at which nothing is left; its grade
falls from 1 through 0.5 to 0 between them. The quality of a face is its lowest grade, and the reason is the
part that has it, if the quality is below 0.5. How the values were chosen: docs/quality.md.

In: parts, as they stand in the table.  Out: qualities and reasons.
Not here: measuring the parts (faces/quality.py, the visual stage).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_FACE_REASON: Final[str] = "no_face"
MIN_QUALITY: Final[float] = 0.5
"""Faces of less quality are not judged."""


@dataclass(frozen=True)
class Grading:
    """How one part is graded, and what is wrong with a face where it is too low."""

    reason: str
    full: float
    """From here on nothing is lost."""
    cut: float
    none: float
    """From here on nothing is left.  It and `full` lie on either side of `cut`."""

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Grades 0 to 1 of values [R], whose sign does not count; 1 where a value is unknown."""
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
"""By column of the table.  Yaw and pitch in degrees, size in px, the rest 0 to 1."""

QUALITY_FEATURE_COLUMNS: Final[tuple[str, ...]] = tuple(GRADINGS)
REASONS: Final[tuple[str, ...]] = (
    NO_FACE_REASON,
    *dict.fromkeys(grading.reason for grading in GRADINGS.values()),
)
"""All reasons there are; none is an empty string."""


def check_quality(quality_features: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Compute quality [R] and reason [R] of quality features [R, P] in the order of QUALITY_FEATURE_COLUMNS.

    The reason is "" where the quality is good enough. A row of which nothing is known is one without a face.
    """
    grades = np.stack(
        [grading(quality_features[:, j]) for j, grading in enumerate(GRADINGS.values())], axis=1
    )  # [R, P]
    missing = np.isnan(quality_features).all(axis=1)
    quality = np.where(missing, 0.0, grades.min(axis=1)).astype(np.float32)
    names = np.array([grading.reason for grading in GRADINGS.values()], dtype=object)
    reason = np.where(quality < MIN_QUALITY, names[grades.argmin(axis=1)], "")
    return quality, np.where(missing, NO_FACE_REASON, reason)
