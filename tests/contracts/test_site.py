"""The docs site builds without a warning, has no broken link, and requests nothing from the network.

mkdocs runs in a process of its own and writes outside the checkout.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import auscan

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    find_spec("mkdocs") is None, reason="There is no mkdocs (pip install '.[docs]')."
)
FETCHED = {"audio": "src", "iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}
"""Tags whose attribute a browser fetches by itself; `link` for its icons and style sheets."""


@dataclass
class Page(HTMLParser):
    """The links, fetched files, anchors and text of a page."""

    path: Path
    fetched: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=lambda: {""})
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if tag in FETCHED and FETCHED[tag] in named:
            self.fetched.append(named[FETCHED[tag]])

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # an advertisement of the theme, whatever the site
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(site: Path, pages: dict[Path, Page]) -> None:
    documents = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site).with_suffix("") for path in pages} == documents | {Path("404")}


def test_every_page_can_be_reached_from_the_first(site: Path, pages: dict[Path, Page]) -> None:
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in pages and path not in reached:
            reached.add(path)
            waiting += [target for target, _ in inner_links(pages[path])]
    assert reached == set(pages) - {site / "404.html"}


def inner_links(page: Page) -> list[tuple[Path, str]]:
    """Return file and anchor of every link within the site."""
    split = [urldefrag(link) for link in page.links if not urlsplit(link).scheme]
    return [
        ((page.path.parent / unquote(target)).resolve() if target else page.path, unquote(anchor))
        for target, anchor in split
    ]


def test_every_link_leads_to_a_file_and_a_place_in_it(site: Path, pages: dict[Path, Page]) -> None:
    broken = [
        f"{page.path.relative_to(site)} -> {target}#{anchor}"
        for page in pages.values()
        if page.path.name != "404.html"  # its addresses begin at the root of a server
        for target, anchor in inner_links(page)
        if not (target / "index.html" if target.is_dir() else target).is_file()
        or (target in pages and anchor not in pages[target].anchors)
    ]
    assert broken == []


def test_no_page_fetches_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    elsewhere = {address for page in pages.values() for address in page.fetched if urlsplit(address).netloc}
    assert elsewhere == set()
    for page in pages.values():
        for address in page.fetched:
            assert page.path.name == "404.html" or (page.path.parent / urlsplit(address).path).is_file()
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8")
        assert "@import" not in style.read_text(encoding="utf-8")


def test_files_of_the_repository_come_along(site: Path) -> None:
    source = "src/auscan/training/config.py"
    assert (site / "files" / f"{source}.txt").read_bytes() == (ROOT / source).read_bytes()


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    """MathML, in which nothing is left of TeX: an unknown command would stand there with its backslash."""
    page = (site / "method.html").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    formulas = re.findall(r"<math .*?</math>", page, re.DOTALL)
    assert sum('display="block"' in formula for formula in formulas) == written.count("```math")
    assert len(formulas) > 50
    assert not any("\\" in formula for formula in formulas)
    assert "arithmatex" not in page


def test_the_reference_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    assert pages[site / "reference.html"].anchors >= {f"auscan.{name}" for name in auscan.__all__}


def test_the_model_card_is_the_one_that_is_shipped(site: Path, pages: dict[Path, Page]) -> None:
    card = (ROOT / "src" / "auscan" / "checkpoints" / "nano" / "README.md").read_text(encoding="utf-8")
    shown = pages[site / "model_card.html"].text
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert len(headings) > 2
    assert all(heading in shown for heading in headings)
