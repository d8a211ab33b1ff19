"""Define the twelve action units, their order and their names.

The order is that of Aff-Wild2 and never changes: column j of every label, logit and probability array in
auscan is `AU_NAMES[j]`. auscan writes `AU01` and reads `AU1`, `AU01`, `au_1` and similar spellings.
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
"""Name of the movement of each action unit, as in FACS."""

AU_DESCRIPTIONS: Final[dict[str, str]] = {
    "AU01": "The inner ends of the brows go up; the middle of the forehead wrinkles.",
    "AU02": "The outer ends of the brows go up and arch; the sides of the forehead wrinkle.",
    "AU04": "The brows go down and together; vertical folds appear between them.",
    "AU06": "The cheeks go up and push skin towards the eyes; wrinkles spread from their outer corners.",
    "AU07": "The eyelids tighten and the opening of the eye narrows.",
    "AU10": "The upper lip goes up, most in its middle; the folds from nose to mouth deepen.",
    "AU12": "The corners of the mouth go up and outward, as in a smile.",
    "AU15": "The corners of the mouth go down.",
    "AU23": "The lips tighten and roll inward; their red part becomes narrower.",
    "AU24": "The lips are pressed against each other.",
    "AU25": "The lips part; teeth or the inside of the mouth may show.",
    "AU26": "The jaw drops as the muscle that closes it relaxes; the teeth part.",
}
"""Appearance of the face when an action unit is active, in our own words."""

AU_NAMES: Final[tuple[str, ...]] = tuple(AU_MEANINGS)
"""The twelve names in the order of Aff-Wild2."""

AU_COUNT: Final[int] = len(AU_NAMES)
"""Number of action units, A."""


def canonical_name(name: str) -> str:
    """Return the canonical spelling of an AU name: 'AU1', 'au_01' and 'AU 1' all become 'AU01'.

    Raises InputError if the name is not one of `AU_NAMES`.
    """
    match = re.fullmatch(r"\s*au[ _-]?0*(\d+)\s*", name, flags=re.IGNORECASE)
    canonical = f"AU{int(match[1]):02d}" if match else name
    if canonical not in AU_MEANINGS:
        raise InputError(f"{name!r} is not a supported action unit. Use one of {', '.join(AU_NAMES)}.")
    return canonical
