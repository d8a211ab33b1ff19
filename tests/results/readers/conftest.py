"""Write annotation files in the format of Aff-Wild2."""

from pathlib import Path

from auscan.core.aus import AFFWILD2_AUS

HEADER = ",".join(name.replace("AU0", "AU") for name in AFFWILD2_AUS)


def label_line(number: int) -> str:
    """Return a line of twelve labels: the binary digits of `number`, highest first."""
    return ",".join(str(number >> (len(AFFWILD2_AUS) - 1 - j) & 1) for j in range(len(AFFWILD2_AUS)))


def write_text(path: Path, text: str) -> Path:
    """Write the text without changing its line ends; return the path."""
    path.write_bytes(text.encode())
    return path
