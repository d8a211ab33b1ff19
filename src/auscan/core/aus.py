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

AU_NAMES: Final[tuple[str, ...]] = tuple(AU_MEANINGS)
"""The twelve names in Aff-Wild2's order."""

AU_COUNT: Final[int] = len(AU_NAMES)


def canonical_name(name: str) -> str:
    """Return our spelling of an AU name: 'AU1', 'au_01' and 'AU 1' all become 'AU01'.

    Raises InputError for a name that is not one of the twelve.
    """
    match = re.fullmatch(r"\s*au[ _-]?0*(\d+)\s*", name, flags=re.IGNORECASE)
    spelled = f"AU{int(match[1]):02d}" if match else name
    if spelled not in AU_MEANINGS:
        raise InputError(f"{name!r} is not an action unit auscan knows. Use one of {', '.join(AU_NAMES)}.")
    return spelled
