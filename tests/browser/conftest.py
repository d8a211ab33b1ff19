"""Provide Chromium, driven by Playwright, for tests of the report and the Studio.

The tests are skipped if Chromium or Playwright is missing; Playwright's own browsers are not needed.
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
    """A page with its recorded errors and requests."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    """Console errors and uncaught exceptions."""
    requests: list[str] = field(default_factory=list)
    """Requested URLs, without data: and blob:, which need no network."""


# Not for the session: while Playwright runs, no other event loop can start in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Headless Chromium."""
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
    """A new page of 1280 x 900 px in its own context, with downloads enabled."""
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
    """assert_accessible(page) fails if axe-core finds a violation in the page that is more than minor."""
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
        assert found["passes"], "axe-core ran no checks"
        assert not faults, "\n".join(faults)

    return check
