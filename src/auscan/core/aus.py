"""The twelve action units, their order and their names.

The order is Aff-Wild2's and never changes: column j of every label, logit and probability array in
auscan is `AU_NAMES[j]`. We write `AU01`; we read `AU1`, `AU01`, `au_1` and the like.
"""

import re
from typing import Final

from auscan.core.errors import InputError

AU_MEANINGS: Final[dict[str, str]] = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU06": "cheek raiser",
    "AU07": "lid tightener",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU15": "lip corner depressor",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
}
"""What each action unit does, in FACS's words."""

AU_DESCRIPTIONS: Final[dict[str, str]] = {
    "AU01": "The inner ends of the brows go up; the middle of the forehead wrinkles.",
    "AU02": "The outer ends of the brows go up and arch; the sides of the forehead wrinkle.",
    "AU04": "The brows go down and together; upright folds stand between them.",
    "AU06": "The cheeks go up and push skin towards the eyes; wrinkles spread from their outer corners.",
    "AU07": "The eyelids tighten and the opening of the eye narrows.",
    "AU10": "The upper lip goes up, most in its middle; the folds from nose to mouth deepen.",
    "AU12": "The corners of the mouth go up and outward, as in a smile.",
    "AU15": "The corners of the mouth go down.",
    "AU23": "The lips tighten and roll inward, so that their red looks narrower.",
    "AU24": "The lips are pressed against each other.",
    "AU25": "The lips part; teeth or the inside of the mouth may show.",
    "AU26": "The jaw drops as the muscle that closes it lets go; the teeth part.",
}
"""What one sees where an action unit is active, in our words."""

AU_NAMES: Final[tuple[str, ...]] = tuple(AU_MEANINGS)
"""The twelve names in Aff-Wild2's order."""

AU_COUNT: Final[int] = len(AU_NAMES)


def canonical_name(name: str) -> str:
    """Return our spelling of an AU name: 'AU1', 'au_01' and 'AU 1' all become 'AU01'.

    Raises InputError for a name that is not one of the twelve.
    """
    match = re.fullmatch(r"\s*au[ _-]?0*(\d+)\s*", name, flags=re.IGNORECASE)
    canonical = f"AU{int(match[1]):02d}" if match else name
    if canonical not in AU_MEANINGS:
        raise InputError(f"{name!r} is not an action unit auscan knows. Use one of {', '.join(AU_NAMES)}.")
    return canonical
