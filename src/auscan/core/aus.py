"""Define the facial action units (AUs) of FACS: name, appearance and muscle of each.

A checkpoint scores some of them: column j of its labels, logits and probabilities is `config.au_names[j]`.
`AFFWILD2_AUS` are the twelve of Aff-Wild2, in the order of its annotation files. auscan writes `AU01` and
reads `AU1`, `AU01`, `au_1` and similar spellings.

Source: Ekman, Friesen and Hager, Facial Action Coding System, 2002. Descriptions are in our own words. Codes
of head, gaze and visibility (50 to 98) are not movements of the face and are not included.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from auscan.core.errors import InputError


@dataclass(frozen=True)
class ActionUnit:
    """One action unit."""

    meaning: str
    """Name of the movement, as in FACS."""
    description: str
    """Appearance of the face when the AU is active."""
    muscle: str
    """Main muscles, Latin names."""


ACTION_UNITS: Final[dict[str, ActionUnit]] = {
    "AU01": ActionUnit(
        "inner brow raiser",
        "The inner ends of the brows go up; the middle of the forehead wrinkles.",
        "frontalis, pars medialis",
    ),
    "AU02": ActionUnit(
        "outer brow raiser",
        "The outer ends of the brows go up and arch; the sides of the forehead wrinkle.",
        "frontalis, pars lateralis",
    ),
    "AU04": ActionUnit(
        "brow lowerer",
        "The brows go down and together; vertical folds appear between them.",
        "depressor glabellae, depressor supercilii, corrugator supercilii",
    ),
    "AU05": ActionUnit(
        "upper lid raiser",
        "The upper eyelids go up; more of the iris, or white above it, shows.",
        "levator palpebrae superioris",
    ),
    "AU06": ActionUnit(
        "cheek raiser",
        "The cheeks go up and push skin towards the eyes; wrinkles spread from their outer corners.",
        "orbicularis oculi, pars orbitalis",
    ),
    "AU07": ActionUnit(
        "lid tightener",
        "The eyelids tighten and the opening of the eye narrows.",
        "orbicularis oculi, pars palpebralis",
    ),
    "AU08": ActionUnit(
        "lips toward each other",
        "The lips are drawn together while the jaw is down.",
        "orbicularis oris",
    ),
    "AU09": ActionUnit(
        "nose wrinkler",
        "The sides of the nose go up and wrinkle; the brows are drawn down.",
        "levator labii superioris alaeque nasi",
    ),
    "AU10": ActionUnit(
        "upper lip raiser",
        "The upper lip goes up, most in its middle; the folds from nose to mouth deepen.",
        "levator labii superioris",
    ),
    "AU11": ActionUnit(
        "nasolabial deepener",
        "The middle of the fold from nose to mouth deepens.",
        "zygomaticus minor",
    ),
    "AU12": ActionUnit(
        "lip corner puller",
        "The corners of the mouth go up and outward, as in a smile.",
        "zygomaticus major",
    ),
    "AU13": ActionUnit(
        "sharp lip puller",
        "The corners of the mouth go sharply up; the cheeks puff.",
        "levator anguli oris",
    ),
    "AU14": ActionUnit(
        "dimpler",
        "The corners of the mouth tighten and are drawn inward; a dimple may appear.",
        "buccinator",
    ),
    "AU15": ActionUnit(
        "lip corner depressor",
        "The corners of the mouth go down.",
        "depressor anguli oris",
    ),
    "AU16": ActionUnit(
        "lower lip depressor",
        "The lower lip goes down and shows the lower teeth.",
        "depressor labii inferioris",
    ),
    "AU17": ActionUnit(
        "chin raiser",
        "The chin goes up, wrinkles, and pushes the lower lip up.",
        "mentalis",
    ),
    "AU18": ActionUnit(
        "lip pucker",
        "The lips are drawn together and forward, as for a kiss.",
        "incisivii labii superioris and inferioris",
    ),
    "AU19": ActionUnit(
        "tongue show",
        "The tongue is shown beyond the teeth.",
        "genioglossus",
    ),
    "AU20": ActionUnit(
        "lip stretcher",
        "The corners of the mouth are pulled straight to the sides; the lips flatten.",
        "risorius, platysma",
    ),
    "AU21": ActionUnit(
        "neck tightener",
        "The skin of the neck tightens and shows folds.",
        "platysma",
    ),
    "AU22": ActionUnit(
        "lip funneler",
        "The lips are pushed forward and outward like a funnel.",
        "orbicularis oris",
    ),
    "AU23": ActionUnit(
        "lip tightener",
        "The lips tighten and roll inward; their red part becomes narrower.",
        "orbicularis oris",
    ),
    "AU24": ActionUnit(
        "lip pressor",
        "The lips are pressed against each other.",
        "orbicularis oris",
    ),
    "AU25": ActionUnit(
        "lips part",
        "The lips part; teeth or the inside of the mouth may show.",
        "depressor labii inferioris, or relaxed mentalis or orbicularis oris",
    ),
    "AU26": ActionUnit(
        "jaw drop",
        "The jaw drops as the muscle that closes it relaxes; the teeth part.",
        "relaxed masseter, temporalis and internal pterygoid",
    ),
    "AU27": ActionUnit(
        "mouth stretch",
        "The jaw is pulled down and the mouth is wide open.",
        "pterygoids, digastric",
    ),
    "AU28": ActionUnit(
        "lip suck",
        "The lips are drawn into the mouth over the teeth.",
        "orbicularis oris",
    ),
    "AU29": ActionUnit("jaw thrust", "The jaw is pushed forward.", "lateral pterygoid"),
    "AU30": ActionUnit("jaw sideways", "The jaw is moved to one side.", "pterygoids, temporalis"),
    "AU31": ActionUnit("jaw clencher", "The jaw is clenched; its muscle bulges.", "masseter"),
    "AU32": ActionUnit("lip bite", "The teeth bite a lip.", "masseter, orbicularis oris"),
    "AU33": ActionUnit("cheek blow", "The cheeks fill and air is blown out.", "buccinator, orbicularis oris"),
    "AU34": ActionUnit("cheek puff", "The cheeks puff with closed lips.", "orbicularis oris"),
    "AU35": ActionUnit("cheek suck", "The cheeks are sucked in between the teeth.", "buccinator"),
    "AU36": ActionUnit("tongue bulge", "The tongue pushes a bulge into cheek or lip.", "genioglossus"),
    "AU37": ActionUnit("lip wipe", "The tongue wipes over the lips.", "genioglossus"),
    "AU38": ActionUnit("nostril dilator", "The nostrils widen.", "nasalis, pars alaris"),
    "AU39": ActionUnit("nostril compressor", "The nostrils narrow.", "nasalis, pars transversa"),
    "AU43": ActionUnit(
        "eyes closed",
        "The eyes are closed for longer than a blink.",
        "relaxed levator palpebrae superioris",
    ),
    "AU45": ActionUnit(
        "blink",
        "The eyes close and open again within about half a second.",
        "relaxed levator palpebrae superioris; orbicularis oculi, pars palpebralis",
    ),
    "AU46": ActionUnit(
        "wink",
        "One eye closes and opens again.",
        "orbicularis oculi",
    ),
}
"""All action units, by canonical name in ascending order."""

AFFWILD2_AUS: Final[tuple[str, ...]] = (
    "AU01", "AU02", "AU04", "AU06", "AU07", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26"
)  # fmt: skip
"""The twelve AUs of Aff-Wild2 in the order of its annotation files."""


def canonical_name(name: str) -> str:
    """Return the canonical spelling of an AU name: 'AU1', 'au_01' and 'AU 1' all become 'AU01'.

    Raises InputError if FACS has no such action unit.
    """
    match = re.fullmatch(r"\s*au[ _-]?0*(\d+)\s*", name, flags=re.IGNORECASE)
    canonical = f"AU{int(match[1]):02d}" if match else name
    if canonical not in ACTION_UNITS:
        raise InputError(f"{name!r} is not an action unit of FACS. Write for example AU01 or au_1.")
    return canonical


def check_au_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of an AU set in their order.

    Raises InputError if there is none, a name is not canonical, or one occurs twice.
    """
    checked = tuple(names)
    if not checked:
        raise InputError("A set of action units needs at least one.")
    for name in checked:
        if canonical_name(name) != name:
            raise InputError(f"Write {canonical_name(name)} in place of {name!r}.")
    if len(set(checked)) < len(checked):
        twice = sorted({name for name in checked if checked.count(name) > 1})
        raise InputError(f"{', '.join(twice)}: given more than once.")
    return checked


def au_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of a table that hold probabilities or labels of AUs, in their order."""
    return tuple(name for name in columns if name in ACTION_UNITS)
