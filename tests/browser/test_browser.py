"""Test that the browser fixtures detect errors, requests and accessibility violations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_errors_and_requests_of_a_page_are_recorded(browser_page: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<img src='other.png'><script>console.error('lost'); throw Error('broken')</script>")
    browser_page.page.goto(path.as_uri())
    assert browser_page.requests == [path.as_uri(), path.with_name("other.png").as_uri()]
    assert {"lost", "broken"} <= set(browser_page.errors)


def test_a_page_with_too_little_contrast_is_detected(
    browser_page: Any, assert_accessible: Callable[[Any], None]
) -> None:
    browser_page.page.set_content("<p style='color: #ccc'>pale</p>")
    with pytest.raises(AssertionError, match="contrast"):
        assert_accessible(browser_page.page)
