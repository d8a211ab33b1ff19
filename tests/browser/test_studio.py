"""The Studio as a person uses it: a real clip, a real browser, the real program."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pandas as pd
import pytest

from auscan.pipeline.demo import make_demo_clip

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")

SHOTS = os.environ.get("AUSCAN_SHOTS")
"""A folder for screenshots, where somebody wants to look at them."""


class Studio:
    """`auscan studio` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        words = ("studio", "--out", str(folder), "--port", "0", "--no-open")
        command = [sys.executable, "-c", "from auscan.cli.main import main; main()", *words]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        found = None
        while found is None:
            line = self._process.stderr.readline()
            assert line, "the Studio did not start"
            found = re.search(r"Studio on (http://\S+)", line)
        self.url = found[1]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two seconds of the demo's clip, where she smiles."""
    folder = tmp_path_factory.mktemp("clips")
    make_demo_clip(folder / "whole.mp4")
    path = folder / "she smiles.mp4"
    with av.open(str(folder / "whole.mp4")) as source, av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 512
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if number == 50:
                break
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24"))
            )
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    started = Studio(tmp_path_factory.mktemp("studio") / "results")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def result(studio: Studio, clip: Path, browser: "Browser") -> str:
    """The address of a finished result, made by dropping the clip."""
    page = browser.new_page()
    page.goto(studio.url)
    page.set_input_files("#files", str(clip))
    bar = page.get_by_label("Reading she smiles.mp4")
    bar.wait_for(timeout=60_000)
    seen = set()
    while bar.count():
        seen.add(page.locator(".jobs li .state").first.inner_text())
        page.wait_for_timeout(50)
    page.get_by_role("link", name="she smiles.mp4").wait_for(timeout=240_000)
    assert any("of 50 frames" in words for words in seen), seen
    page.get_by_role("link", name="she smiles.mp4").click()
    page.wait_for_url("**/#/result/*")
    address = page.url
    page.close()
    return str(address)


def opened(page: "Page", address: str) -> "Page":
    page.goto(address)
    page.locator(".events tbody tr").first.wait_for(timeout=60_000)
    until(page, "document.querySelector('video').readyState >= 2")
    return page


def until(page: "Page", condition: str, seconds: float = 60) -> None:
    """Wait for JavaScript to be true; Playwright's own way needs eval, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def pixels(page: "Page", selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)}).toDataURL()"))


def frame(page: "Page") -> int:
    found = re.search(r"frame (\d+)", page.locator(".time").first.inner_text())
    assert found
    return int(found[1])


def shoot(page: "Page", name: str) -> None:
    """At both widths: nothing sticks out to the side, no two controls lie over each other."""
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} at {width} px"
        assert page.evaluate(OVERLAPS) == [], f"{name} at {width} px"
    page.set_viewport_size({"width": 1280, "height": 900})


OVERLAPS = """() => {
  const what = "main button, main a, main select, main input, main h1, .lane .au";
  const all = [...document.querySelectorAll(what)]
    .filter((each) => each.checkVisibility() && !each.closest(".events"));
  const boxes = all.map((each) => each.getBoundingClientRect());
  const found = [];
  for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length; j++) {
    const [a, b] = [boxes[i], boxes[j]];
    const over = Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    const nested = all[i].contains(all[j]) || all[j].contains(all[i]);
    if (over && !nested) found.push(all[i].outerHTML + all[j].outerHTML);
  }
  return found;
}"""


def test_a_finished_result_is_readable_and_quiet(
    result: str, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page = opened(browser_page.page, result)
    assert page.locator(".lane").count() == 12
    assert page.get_by_role("button", name="AU12 at").count() >= 1, "she smiles"
    shoot(page, "result")
    assert_accessible(page)
    assert browser_page.errors == []
    assert all(url.startswith("http://127.0.0.1:") for url in browser_page.requests)


def test_a_click_on_the_timeline_seeks(result: str, browser_page: Any) -> None:
    page = opened(browser_page.page, result)
    lane = page.locator("canvas[data-au=AU12]")
    box = lane.bounding_box()
    assert box
    lane.click(position={"x": box["width"] * 0.75, "y": 5})
    page.wait_for_timeout(300)
    assert frame(page) in (37, 38)
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(1.5, abs=0.06)


def test_a_threshold_recolours_lane_and_picture_at_once_and_the_events_follow(
    result: str, browser_page: Any
) -> None:
    page = opened(browser_page.page, result)
    lane, picture = pixels(page, "canvas[data-au=AU12]"), pixels(page, ".stage canvas")
    other = pixels(page, "canvas[data-au=AU04]")
    slider = page.get_by_label("Threshold of AU12")
    slider.focus()
    page.keyboard.press("End")
    assert pixels(page, "canvas[data-au=AU12]") != lane
    assert pixels(page, ".stage canvas") != picture
    assert pixels(page, "canvas[data-au=AU04]") == other
    page.get_by_role("button", name="AU12 at").first.wait_for(state="detached")
    page.get_by_role("button", name="Reset thresholds").click()
    page.get_by_role("button", name="AU12 at").first.wait_for()
    assert pixels(page, "canvas[data-au=AU12]") == lane


def test_evidence_boxes_and_bars_can_be_shown_and_hidden(result: str, browser_page: Any) -> None:
    page = opened(browser_page.page, result)
    plain = pixels(page, ".stage canvas")
    with page.expect_response("**/evidence?first=0"):
        page.get_by_label("Evidence").select_option("AU12")
    page.wait_for_timeout(200)
    with_evidence = pixels(page, ".stage canvas")
    assert with_evidence != plain
    page.get_by_label("Evidence").select_option("")
    assert pixels(page, ".stage canvas") == plain
    page.get_by_label("box", exact=True).uncheck()
    page.get_by_label("bars", exact=True).uncheck()
    assert page.evaluate(
        "(() => { const c = document.querySelector('.stage canvas');"
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.every((v) => v === 0); })()"
    )
    assert browser_page.errors == []


def test_a_baseline_changes_the_curves_and_nonsense_is_refused_in_words(
    result: str, browser_page: Any
) -> None:
    page = opened(browser_page.page, result)
    lane = pixels(page, "canvas[data-au=AU12]")
    with page.expect_response("**/table?baseline=median"):
        page.get_by_label("Baseline").select_option("median")
    page.wait_for_timeout(500)
    assert pixels(page, "canvas[data-au=AU12]") != lane
    page.get_by_label("Baseline").select_option("seconds")
    page.get_by_label("Seconds at rest").fill("5-2")
    page.keyboard.press("Enter")
    page.get_by_text("is no baseline").wait_for()


def test_every_download_comes_and_can_be_read(result: str, browser_page: Any, tmp_path: Path) -> None:
    page = opened(browser_page.page, result)
    got = {}
    for number, link in enumerate(page.locator(".downloads a[download]").all()):
        if number % 6 == 0:  # Chromium asks before it takes more than ten downloads from one visit
            page.reload()
            page.locator(".downloads a[download]").last.wait_for()
        with page.expect_download() as coming:
            link.click()
        name = link.get_attribute("data-file")
        got[name] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(got[name])
    assert {"aus.csv", "aus.parquet", "summary.json", "events.csv", "evidence.parquet"} <= set(got)
    assert {"openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl"} <= set(got)
    table = pd.read_csv(got["aus.csv"])
    assert len(table) == 50
    assert table["AU12_c"].mean() > 0.8
    assert "AU12_c" in [name.strip() for name in pd.read_csv(got["openface"]).columns]
    assert len(got["jsonl"].read_text().splitlines()) == 50
    assert got["elan"].read_text().startswith("<?xml")
    assert got["aus.csv"].name == "she smiles_aus.csv"


def test_two_results_stand_side_by_side_and_move_together(result: str, browser_page: Any) -> None:
    page = opened(browser_page.page, f"{result}/{result.rpartition('/')[2]}")
    assert page.locator(".result").count() == 2
    until(page, "[...document.querySelectorAll('video')].every((v) => v.readyState >= 2)")
    page.get_by_role("button", name="Next frame").first.click()
    page.wait_for_timeout(300)
    assert [re.findall(r"frame (\d+)", text) for text in page.locator(".time").all_inner_texts()] == [
        ["1"],
        ["1"],
    ]
    shoot(page, "two")
    assert browser_page.errors == []


def test_the_keyboard_alone_does_the_main_path(studio: Studio, result: str, browser_page: Any) -> None:
    page = browser_page.page
    page.on("filechooser", lambda _: None)  # asked for before it comes: a real dialog would stay unseen
    page.goto(studio.url)
    page.get_by_role("link", name="she smiles.mp4").wait_for()

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches({json.dumps(wanted)})"):
                return
        raise AssertionError(f"Tab never comes to {wanted}")

    tab_to("button.main")
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    tab_to(".jobs a")
    page.keyboard.press("Enter")
    page.locator(".events tbody tr").first.wait_for()
    until(page, "document.querySelector('video').readyState >= 2")
    for key, there in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        page.wait_for_timeout(150)
        assert frame(page) == there
    page.keyboard.press("Space")
    until(page, "!document.querySelector('video').paused")
    page.keyboard.press("Space")
    until(page, "document.querySelector('video').paused")
    tab_to("input[type=range]")
    page.keyboard.press("ArrowRight")
    tab_to("a[data-file=elan]")
    with page.expect_download():
        page.keyboard.press("Enter")


def test_two_uploads_at_once_one_is_called_off_and_a_restart_keeps_the_other(
    tmp_path: Path, clip: Path, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page, studio = browser_page.page, Studio(tmp_path / "results")
    try:
        page.goto(studio.url)
        both = [
            {"name": name, "mimeType": "video/mp4", "buffer": clip.read_bytes()}
            for name in ("one.mp4", "two <b>.mp4")
        ]
        page.set_input_files("#files", both)
        page.locator(".jobs[aria-label=Videos] li").nth(1).wait_for()
        last = page.locator(".jobs[aria-label=Videos] li .name").first.inner_text()
        first = page.locator(".jobs[aria-label=Videos] li .name").last.inner_text()
        shoot(page, "videos")
        page.get_by_label(f"Cancel {last}").click()
        page.get_by_text("called off").wait_for()
        page.get_by_role("link", name=first).wait_for(timeout=240_000)
        assert_accessible(page)
    finally:
        studio.stop()
    errors = list(browser_page.errors)
    studio = Studio(tmp_path / "results")
    try:
        page.goto(studio.url)
        page.get_by_role("link", name=first).click()
        page.locator(".events tbody tr").first.wait_for(timeout=60_000)
    finally:
        studio.stop()
    assert errors == []


def test_the_camera_shows_live_action_units(
    studio: Studio,
    clip: Path,
    tmp_path: Path,
    browser: "Browser",
    assert_accessible: Callable[["Page"], None],
) -> None:
    """Chromium's fake camera plays a film of the astronaut."""
    film = tmp_path / "camera.mjpeg"
    with av.open(str(clip)) as source, av.open(str(film), "w", format="mjpeg") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 512
        stream.pix_fmt = "yuvj420p"
        for shown in source.decode(video=0):
            out.mux(stream.encode(shown.reformat(format="yuvj420p")))
        out.mux(stream.encode(None))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags.append(f"--use-file-for-fake-video-capture={film}")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    started = browser.browser_type.launch(executable_path=chromium, args=flags)
    try:
        page = started.new_page(viewport={"width": 1280, "height": 900})
        errors: list[str] = []
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{studio.url}#/camera")
        page.get_by_role("button", name="Start the camera").click()
        page.get_by_text(re.compile("Active:.*AU12")).wait_for(timeout=120_000)
        until(page, "Number(document.querySelector('.camera canvas').dataset.shown) > 5")
        shoot(page, "camera")
        assert_accessible(page)
        page.get_by_role("button", name="Stop the camera").click()
        time.sleep(0.5)
        assert errors == []
    finally:
        started.close()
