"""A real browser for the pages that auscan makes: Chromium, driven by Playwright.

The tests here are skipped where Chromium or Playwright is missing; Playwright's own browsers are not needed.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",  # Chromium refuses to run as root with it
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


@dataclass
class BrowserPage:
    """A page and what went on in it since it was made."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    """Errors on the console and exceptions nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses of all that was asked for, data: and blob: left out, as they ask nobody."""


# Not for the session: while Playwright runs, no other event loop can start in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium without a window."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium on this machine (apt install chromium).")
    api = pytest.importorskip("playwright.sync_api", reason="There is no Playwright (pip install '.[dev]').")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def browser_page(browser: "Browser") -> Iterator[BrowserPage]:
    """A new page of 1280 x 900 px that shares nothing with the ones before; downloads are kept."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = BrowserPage(context.new_page())
    page, errors = opened.page, opened.errors
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda asked: _record_request(opened.requests, asked.url))
    yield opened
    context.close()


def _record_request(requests: list[str], url: str) -> None:
    if not url.startswith(("data:", "blob:")):
        requests.append(url)


@pytest.fixture
def assert_accessible() -> Callable[["Page"], None]:
    """assert_accessible(page): axe-core finds no fault in it as it is now that is more than minor."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="There is no axe-core (pip install '.[dev]')."
    )

    def check(page: "Page") -> None:
        found = axe.Axe().run(page).response
        faults = [
            f"{fault['impact']}: {fault['help']}: {node['html'][:200]}"
            for fault in found["violations"]
            for node in fault["nodes"]
            if fault["impact"] != "minor"
        ]
        assert found["passes"], "axe-core did not look"
        assert not faults, "\n".join(faults)

    return check
