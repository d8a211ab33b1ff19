"""What the docs site needs beyond its settings (mkdocs.yml): files outside docs/, formulas, the benchmarks.

Documents link to files of the repository, such as ../src/auscan/training/config.py, which is right where the
repository is read. The site brings these files along, as text. Formulas become MathML, which browsers draw by
themselves, so that no script is fetched.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parent


def on_config(config: Any) -> None:
    """Put every page of docs/benchmarks into the navigation."""
    pages = sorted(Path(config.docs_dir, "benchmarks").glob("*.md"))
    (section,) = (item for part in config.nav for item in next(iter(part.values())) if "Benchmarks" in item)
    section["Benchmarks"] = [f"benchmarks/{page.name}" for page in pages]


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Bring along each file outside docs/ that the page links to, and link to it there."""
    folder = Path(page.file.abs_src_path).parent

    def brought(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if target.is_relative_to(config.docs_dir) or not target.is_file():
            return link[0]
        copy = File.generated(config, f"files/{target.relative_to(ROOT)}.txt", abs_src_path=str(target))
        if copy.src_uri not in files.src_uris:
            files.append(copy)
        return f"]({'../' * page.file.src_uri.count('/')}{copy.src_uri})"

    return re.sub(r"\]\((\.\./[^)#\s]+)\)", brought, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn the formulas that arithmatex has marked into MathML."""

    def formula(found: re.Match[str]) -> str:
        text = html.unescape(found[2]).strip()
        if found[1] == "span":
            return convert(text)
        return f'<div class="formula">{convert(text, display="block")}</div>'

    return re.sub(r'(?s)<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', formula, content)
