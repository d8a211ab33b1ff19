"""Links, columns, summary keys and quoted errors in the documents are correct."""

import ast
import re
from functools import cache

import numpy as np
from documents import CODES, DOCUMENTS, ROOT

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import baseline_columns, build_table, table_columns

OUTPUT = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
QUOTED = [
    line
    for code in CODES
    if (code.document, code.language) == ("docs/troubleshooting.md", "text")
    for line in code.text.splitlines()
]


def test_every_link_leads_to_a_file_of_the_repository() -> None:
    """As a code host resolves it; test_site.py checks links and anchors within the site."""
    gone = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not gone, "\n".join(gone)


def test_every_column_of_the_table_is_explained() -> None:
    explained = set(re.findall(r"\w+", OUTPUT.partition("## The table")[2].partition("\n## ")[0]))
    spelled_out = {
        name
        for name in (*table_columns(AFFWILD2_AUS), *baseline_columns(AFFWILD2_AUS))
        if not name.startswith("AU")
    }
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
def texts_of_the_code() -> list[re.Pattern[str]]:
    """Every text of the code as a pattern; a placeholder matches any text."""
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


def is_in_the_code(text: str) -> bool:
    """Return whether a text is one of the code's texts, or several of them in a row."""
    ends = {match.end() for pattern in texts_of_the_code() if (match := pattern.match(text))}
    return not text or any(is_in_the_code(text[end:].strip()) for end in ends)


def test_every_quoted_error_is_one_that_auscan_gives() -> None:
    assert len(QUOTED) > 30
    wrong = [
        line
        for line in QUOTED
        if not is_in_the_code(line) and not is_in_the_code(line.removeprefix("auscan: "))
    ]
    assert not wrong, "\n".join(wrong)


def test_an_error_that_auscan_does_not_give_is_found() -> None:
    assert is_in_the_code("talk.mp4 is empty (0 bytes). Copy or export it again.")
    assert not is_in_the_code("talk.mp4 is empty. Copy or export it again.")
    assert not is_in_the_code("talk.mp4 is empty (0 bytes). Copy or export it again. Then call for help.")
