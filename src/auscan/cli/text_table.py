"""Print tables and notes on stdout in the same way to a terminal, a pipe and a file.

A column is as wide as its widest cell. No cell is shortened or left out in a narrow terminal.
Inputs: a header and rows of text. Returns: text.
"""

import shutil
import textwrap
from collections.abc import Sequence


def format_table(header: Sequence[str], *parts: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is aligned left and the others right; a rule precedes each part."""
    rows = [header, *(row for part in parts for row in part)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    rule = "-" * (sum(widths) + len(widths) - 1)

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return " ".join([first, *others]).rstrip()

    lines = [line(header)]
    for part in parts:
        lines += [rule, *map(line, part)]
    return "\n".join(lines)


def wrap(text: str) -> str:
    """Return a note broken at spaces to the width of the terminal; 80 columns in a pipe."""
    return textwrap.fill(text, shutil.get_terminal_size().columns, break_long_words=False)
