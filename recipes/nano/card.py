"""The parts of the model card (card.md) that scripts write into it.

In: a card, the line that a part begins with, a text.  Out: the card with the text in that place.
"""

from pathlib import Path

from auscan.results.atomic import atomic_path

END = "<!-- end -->"


def write_part(card: Path, begin: str, text: str) -> None:
    """Put the text between `begin` and the next `END`. Raises ValueError for a card without them."""
    before, found, rest = card.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{card} has no place for what is written: {begin} ... {END}")
    with atomic_path(card) as file:
        file.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")
