"""What the documents say of files, columns and errors is so."""

import ast
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from documents import CODES, DOCUMENTS, ROOT

from auscan.results.result import Result, RunInfo
from auscan.results.table import BASELINE_COLUMNS, COLUMNS, build_table

OUTPUT = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
QUOTED = [
    line
    for code in CODES
    if (code.document, code.language) == ("docs/troubleshooting.md", "text")
    for line in code.text.splitlines()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file_of_the_repository(path: Path) -> None:
    """Where it is read on a code host; links and anchors within the site are held by test_site.py."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    gone = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert gone == []


def test_every_column_of_the_table_is_explained() -> None:
    explained = set(re.findall(r"\w+", OUTPUT.partition("## The table")[2].partition("\n## ")[0]))
    spelled_out = {name for name in (*COLUMNS, *BASELINE_COLUMNS) if not name.startswith("AU")}
    assert spelled_out <= explained
    assert {"AU01", "AU26", "AU01_c", "AU26_c", "AU01_b", "AU26_b"} <= explained


def test_every_key_of_the_summary_is_explained() -> None:
    info = RunInfo(
        source="a.mp4",
        duration_s=0.0,
        frames=1,
        has_audio=False,
        seconds=0.0,
        model="nano",
        thresholds=(0.5,) * 12,
        command="auscan detect a.mp4",
        versions={"auscan": "0.1.0"},
    )
    summary = Result(build_table(np.zeros(1), [], info.thresholds), (), info).summary()
    explained = re.findall(r"`(\w+)`", OUTPUT.partition("## `summary.json`")[2])
    assert set(summary) <= set(explained)


@cache
def said_by_the_code() -> list[re.Pattern[str]]:
    """Every text of the code as a pattern: anything may stand where it is filled in."""
    patterns = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            known = "".join(text for text in texts if isinstance(text, str))
            if len(known) > 15:
                pattern = "".join(re.escape(text) if isinstance(text, str) else ".+?" for text in texts)
                patterns.append(re.compile(pattern + ("$" if texts[-1] is None else "")))
    return patterns


def is_said(text: str) -> bool:
    """Whether a text is one of the code's, or several of them in a row."""
    ends = {match.end() for pattern in said_by_the_code() if (match := pattern.match(text))}
    return not text or any(is_said(text[end:].strip()) for end in ends)


@pytest.mark.parametrize("line", QUOTED)
def test_a_quoted_error_is_one_that_auscan_gives(line: str) -> None:
    assert is_said(line) or is_said(line.removeprefix("auscan: "))


def test_an_error_that_auscan_does_not_give_would_be_found() -> None:
    assert len(QUOTED) > 30
    assert is_said("talk.mp4 is empty (0 bytes). Copy or export it again.")
    assert not is_said("talk.mp4 is empty. Copy or export it again.")
    assert not is_said("talk.mp4 is empty (0 bytes). Copy or export it again. Then call for help.")
