"""Annotation files in the form of Aff-Wild2's."""

from pathlib import Path

from auscan.core.aus import AU_COUNT, AU_NAMES

HEADER = ",".join(name.replace("AU0", "AU") for name in AU_NAMES)


def label_line(number: int) -> str:
    """The twelve labels that spell `number` in binary digits, the highest first."""
    return ",".join(str(number >> (AU_COUNT - 1 - j) & 1) for j in range(AU_COUNT))


def write_text(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path
