"""Read the code in the documents of the repository.

Inputs: Markdown files. Returns: pieces of code, the command lines in them, and the calls in a line.
See also: test_commands.py (parses the commands), test_commands_run.py and test_quickstart.py (run them).
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "recipes" / "nano" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
PROGRAM = re.compile(r"(auscan|pip|pytest|python3?|curl|accelerate|examples/\S+\.sh) ")
"""Begin of a command line in a block that is not a console session."""

SAID = "said-by-another"
"""Replaces `$(...)`."""


@dataclass(frozen=True)
class Code:
    """A piece of code in a document."""

    document: str
    """Path from the root."""
    language: str
    """Language of the fence; empty for other blocks and within sentences."""
    text: str
    in_sentence: bool


def codes(path: Path) -> list[Code]:
    """Return all code of a document, in order."""
    name = path.relative_to(ROOT).as_posix()
    parsed = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    return [
        Code(name, token.info.strip(), token.content, token.type == "code_inline")
        for token in _all_tokens(parsed)
        if token.type in ("fence", "code_block", "code_inline")
    ]


def _all_tokens(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all_tokens(token.children or [])


def command_lines(code: Code) -> list[str]:
    """Return the commands of a piece of code; a backslash at the end of a line joins it to the next one."""
    lines = [line.strip() for line in code.text.replace("\\\n", " ").splitlines() if line.strip()]
    return lines if code.language == "console" else [line for line in lines if PROGRAM.match(line)]


def calls(line: str) -> list[list[str]]:
    """Return the words of each program that a line calls, without redirections.

    `a && b` and `a | b` call two programs.
    """
    found: list[list[str]] = [[]]
    for word in shlex.split(re.sub(r"\$\(.*?\)", SAID, line), comments=True):
        if word in ("&&", "|"):
            found.append([])
        elif not re.match(r"\d?[<>]", word):
            found[-1].append(word)
    return found


CODES = [code for path in DOCUMENTS for code in codes(path)]
