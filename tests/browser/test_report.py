"""Test the report in a browser: offline, on a phone, by keyboard, with a screen reader, printed."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `auscan demo`: a clip, its table, overlay and report."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["auscan", "demo", "--out", str(folder), "--threads", "1"])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    return folder


@pytest.fixture
def opened(folder: Path, browser_page: Any) -> Any:
    """The report, opened in the browser."""
    browser_page.page.goto((folder / "report.html").as_uri())
    browser_page.page.wait_for_selector("#plot-face-0 .main-svg")
    return browser_page


def test_it_opens_without_a_request_or_an_error(opened: Any, folder: Path) -> None:
    assert opened.requests == [(folder / "report.html").as_uri()]
    assert opened.errors == []
    assert opened.page.locator(".plotly-graph-div .main-svg").count() >= 2
    assert opened.page.locator(".pictures img").count() >= 4
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth === 168)"
    assert opened.page.evaluate(loaded)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_has_no_overflow_and_axe_finds_no_violation(
    opened: Any, assert_accessible: Callable[[Any], None], width: int
) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function("document.querySelector('#plot-face-0 .main-svg').clientWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert_accessible(page)


def test_the_table_of_events_is_sorted_by_keyboard(opened: Any) -> None:
    page = opened.page

    def column() -> list[float]:
        cells = page.locator("#events ~ .tall tbody td:nth-child(6)").all_text_contents()
        return [float(cell) for cell in cells]

    page.get_by_role("button", name="Duration").focus()
    header = page.locator("th", has=page.get_by_role("button", name="Duration"))
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert len(column()) >= 4
    assert column() == sorted(column())
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column() == sorted(column(), reverse=True)
    assert page.get_by_role("status").text_content() == "Sorted by Duration, descending."
    assert page.locator("th[aria-sort=ascending]").count() == 0


def test_after_printing_the_plots_fill_the_screen_again(opened: Any, tmp_path: Path) -> None:
    page, plot = opened.page, "document.querySelector('#plot-face-0 .main-svg').clientWidth"
    before = page.evaluate(plot)
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    page.wait_for_function(f"{plot} === {before}")


def test_no_plot_is_cut_in_print(folder: Path, opened: Any, tmp_path: Path) -> None:
    """Each plot is on one page and includes its right edge, where the longest strips end."""
    pdfium = pytest.importorskip("pypdfium2", reason="There is no pypdfium2 (pip install '.[dev]').")
    opened.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    document = pdfium.PdfDocument(tmp_path / "report.pdf")
    pages = [np.asarray(page.render(scale=1.5).to_numpy())[..., :3] for page in document]
    texts = [page.get_textpage().get_text_bounded() for page in document]
    (plot,) = [index for index, text in enumerate(texts) if "inner brow raiser" in text and "quality" in text]
    for word in ("AU01", "AU26", "quality", "time, s"):
        assert word in texts[plot]
    (overview,) = [index for index, text in enumerate(texts) if "in each frame" in text]
    for word in ("sound level", "time, s"):
        assert word in texts[overview]
    strips = _columns(pages[plot], (213, 94, 0))
    assert strips.min() < 0.15 * pages[plot].shape[1]
    assert 0.85 * pages[plot].shape[1] < strips.max() < 0.95 * pages[plot].shape[1]


def _columns(picture: NDArray[np.uint8], rgb: tuple[int, int, int]) -> NDArray[np.intp]:
    """Return the columns of a picture (RGB or BGR) that contain a colour."""
    near = [np.abs(picture.astype(int) - order).max(axis=2) < 12 for order in (rgb, rgb[::-1])]
    return np.flatnonzero((near[0] | near[1]).any(axis=0))


def test_the_overlay_plays_with_its_sound(folder: Path, browser_page: Any, tmp_path: Path) -> None:
    page, video = browser_page.page, (folder / "overlay.mp4").as_uri()
    (tmp_path / "page.html").write_text(f"<video src='{video}' muted></video>", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    play = """async () => {
        const video = document.querySelector("video");
        await video.play();
        await new Promise((done) => { video.ontimeupdate = () => video.currentTime > 0.3 && done(); });
        return [video.duration, video.videoWidth, video.videoHeight, video.webkitAudioDecodedByteCount];
    }"""
    length_s, width, height, sound = page.evaluate(play)
    assert length_s == pytest.approx(10, abs=0.1)
    assert (width % 2, height) == (0, 512)
    assert sound > 0


def test_each_pictured_face_has_attended_and_unselected_patches(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'base64,([^"]+)"[^>]*alt="Face 0 at [\d.]+ s, at the apex of (AU\d\d)', page)
    assert {"AU06", "AU12", "AU25"} <= {au for _, au in found}
    for jpeg, _ in found:
        data = np.frombuffer(base64.b64decode(jpeg), np.uint8)
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), int)
        assert picture.shape == (168, 168, 3)
        assert 0.005 < (picture[..., 2] - picture[..., 0] > 60).mean() < 0.4, "blue patches"
        assert (np.ptp(picture, axis=2) < 8).mean() > 0.2, "grey patches"
