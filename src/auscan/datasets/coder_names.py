"""Find the action unit that a coder's tier, column or code stands for.

Without a mapping file a name is an AU if it is one ('AU12', 'au_12', 'AU12_c'), its meaning in FACS
('lip corner puller'), or both; `face 1` and `@anna` may follow. A mapping file gives the meaning of other
names, in YAML (`Smile: AU12`) or CSV (`Smile,AU12`). Besides an AU it is one of

    coded     intervals in which the coder coded; the rest of the video is not annotated
    uncoded   intervals in which the coder did not code
    ignore    not about AUs, such as speech or notes

Inputs: names as written, a mapping file.
Returns: the meaning of each; for unknown ones an InputError with the nearest AUs.
See also: own_labels.py (labels of the named AUs).
"""

import csv
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auscan.core.aus import ACTION_UNITS, canonical_name
from auscan.core.errors import InputError
from auscan.results.readers.coder_sheet import read_text

CODED, UNCODED, IGNORE = "coded", "uncoded", "ignore"
OTHER_MEANINGS: Final = (CODED, UNCODED, IGNORE)
"""Meanings of names that are not AUs."""

_SUFFIXES: Final = re.compile(r"(.*?)(?:[ _-]+face[ _-]?(\d+))?(?:@(.+))?", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"au[ _-]?0*(\d+)(?:_c$|[ _-]+(.+))?", re.IGNORECASE)
_SIMILAR: Final = 0.6
"""Smallest similarity of a name with a word of an AU for which the AU is suggested."""


@dataclass(frozen=True)
class NameMeaning:
    """Meaning of a name."""

    kind: str
    """An AU, or one of OTHER_MEANINGS."""
    face: int | None = None
    """Number of the face in the name."""
    coder: str | None = None
    """Coder in the name."""


class CoderNames:
    """Meanings of names by a mapping file, and by the names themselves."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the mapping file.  Raises InputError if it is not one."""
        self.path = path
        self.given = {} if path is None else _read_mapping(path)
        """Meaning by simplified name."""
        self.used: set[str] = set()
        """Simplified names of the mapping file that occurred."""

    def meaning(self, name: str) -> NameMeaning | None:
        """Return the meaning of a name, or None if it is unknown."""
        if _simplify(name) in self.given:
            self.used.add(_simplify(name))
            return NameMeaning(self.given[_simplify(name)])
        match = _SUFFIXES.fullmatch(name.strip())
        assert match is not None
        core, face, coder = match.groups()
        kind = self.given.get(_simplify(core)) or _au_by_name(core)
        if kind is None:
            kind = _simplify(core) if _simplify(core) in (CODED, UNCODED) else None
        elif _simplify(core) in self.given:
            self.used.add(_simplify(core))
        return None if kind is None else NameMeaning(kind, None if face is None else int(face), coder)

    def is_used(self, name: str) -> bool:
        """Return whether a name is known and not to be ignored."""
        meaning = self.meaning(name)
        return meaning is not None and meaning.kind != IGNORE

    def unused(self) -> list[str]:
        """Return the names of the mapping file that no coder used."""
        return [name for name in self.given if name not in self.used]


def check_known(unknown: Mapping[str, str]) -> None:
    """Raise InputError if there are unknown names, with lines for the mapping file.

    unknown: a file that has it, by name.
    """
    if not unknown:
        return
    lines = [f"{name}: {suggest(name)}   # in {file}" for name, file in unknown.items()]
    raise InputError(
        f"{len(unknown)} {'name' if len(unknown) == 1 else 'names'} in the coders' files cannot be assigned "
        "to an action unit. Write their meanings into a YAML file and give it with --names FILE. Correct "
        "these guesses, and use ignore for a name that is no AU:\n" + "\n".join(lines)
    )


def suggest(name: str) -> str:
    """Return the nearest AU with its meaning as a comment, or `ignore` if none is near."""
    best, au = max((_similarity(name, au), au) for au in reversed(ACTION_UNITS))
    return IGNORE if best < _SIMILAR else f"{au}   # {ACTION_UNITS[au].meaning}"


def _similarity(name: str, au: str) -> float:
    """Return how near a name is to an AU: 2 for its number, else 0 to 1.3 by its meaning and description."""
    unit, wanted = ACTION_UNITS[au], _simplify(name)
    number = re.search(r"\d+", wanted)
    if number and int(number[0]) == int(au[2:]):
        return 2.0

    def ratio(text: str) -> float:
        return difflib.SequenceMatcher(None, wanted, text).ratio()

    words = re.findall(r"[a-z]{4,}", unit.description.casefold())
    parts = [max((difflib.SequenceMatcher(None, part, w).ratio() for w in words), default=0.0)
             for part in wanted.split() if len(part) > 3]  # fmt: skip
    return max(1.3 * ratio(unit.meaning), *(ratio(word) for word in unit.meaning.split()), *parts, 0.0)


def _au_by_name(name: str) -> str | None:
    """Return the AU of a name such as 'AU12', 'au_12_c', 'AU 12 lip corner puller' or 'blink'."""
    meanings = {unit.meaning: au for au, unit in ACTION_UNITS.items()}
    match = _NUMBERED.fullmatch(name.strip())
    if match is None:
        return meanings.get(_simplify(name))
    au = f"AU{int(match[1]):02d}"
    agrees = match[2] is None or meanings.get(_simplify(match[2])) == au
    return au if au in ACTION_UNITS and agrees else None


def _simplify(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def _read_mapping(path: Path) -> dict[str, str]:
    pairs = _csv_pairs(path) if path.suffix.lower() == ".csv" else _yaml_pairs(path)
    mapping: dict[str, str] = {}
    for name, meaning in pairs:
        kind = meaning.strip()
        if kind.casefold() in OTHER_MEANINGS:
            kind = kind.casefold()
        else:
            try:
                kind = canonical_name(kind)
            except InputError as error:
                raise InputError(
                    f"{path}: {name!r} is mapped to {meaning!r}. Write an AU such as AU12, or "
                    f"{', '.join(OTHER_MEANINGS)}."
                ) from error
        if mapping.setdefault(_simplify(name), kind) != kind:
            raise InputError(f"{path} maps {name!r} twice. Remove one of the lines.")
    if not mapping:
        raise InputError(f"{path} maps no name. Write lines such as: Smile: AU12")
    return mapping


def _csv_pairs(path: Path) -> Iterable[tuple[str, str]]:
    for number, row in enumerate(csv.reader(read_text(path).splitlines()), start=1):
        if not row or (number == 1 and len(row) == 2 and row[1].strip().casefold() in ("au", "meaning")):
            continue
        if len(row) != 2:
            raise InputError(f"{path} has {len(row)} cells in line {number}. Write two: a name and an AU.")
        yield row[0], row[1]


def _yaml_pairs(path: Path) -> Iterable[tuple[str, str]]:
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} maps no name. Write lines such as: Smile: AU12")
    return [(str(name), str(meaning)) for name, meaning in content.items()]
