"""Test the Studio in a browser with the real worker: upload, results, downloads, keyboard, camera."""

import base64
import itertools
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
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from auscan.pipeline.demo import make_demo_clip
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")

from auscan.server.guard import _TOKEN_PAGE
from auscan.server.job_store import JobOptions, JobStore, new_job

SHOTS = os.environ.get("AUSCAN_SHOTS")
"""Folder for screenshots of the tested pages, if set."""


class Studio:
    """`auscan studio` in a subprocess."""

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
    """The first two seconds of the demo's clip, in which the face smiles."""
    folder = tmp_path_factory.mktemp("clips")
    make_demo_clip(folder / "whole.mp4")
    path = folder / "she smiles.mp4"
    with av.open(str(folder / "whole.mp4")) as source:
        frames = (frame.to_ndarray(format="rgb24") for frame in source.decode(video=0))
        write_video(path, list(itertools.islice(frames, 50)), rate=25)
    return path


def write_video(path: Path, pictures: list[NDArray[np.uint8]], rate: int) -> None:
    """Write RGB pictures [H, W, 3] as H.264 at `rate` frames per second."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = pictures[0].shape[:2]
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio") / "results"
    store_busy_result(folder)
    started = Studio(folder)
    yield started
    started.stop()


def store_busy_result(folder: Path) -> None:
    """Store a finished job of three minutes in which every AU oscillates."""
    job = new_job("busy.mp4", ".mp4", JobOptions()).model_copy(update={"status": "done", "seconds": 1.0})
    frames = np.arange(180 * 5)
    wave = (0.5 + 0.45 * np.sin(frames[:, None] * np.pi / 5 + np.arange(12))).astype(np.float32)
    count, parts = len(frames), np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0])
    track = TrackScores(
        face_id=0,
        frames=frames,
        boxes=np.full((count, 4), 90, np.float32),
        points=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        quality_features=np.tile(parts, (count, 1)),
        probabilities=wave,
    )
    half, versions = (0.5,) * 12, {"auscan": "0.1.0"}
    about = {"command": "auscan detect", "versions": versions, "thresholds": half, "untrained_aus": ()}
    info = RunInfo(
        source="video.mp4", duration_s=180.0, frames=count, has_audio=False, seconds=1, model="nano", **about
    )
    Result(build_table(frames / 5, [track], half), (track,), info).save(folder / job.id / "video")
    write_video(folder / job.id / "video.mp4", count * [np.zeros((96, 160, 3), np.uint8)], rate=5)
    store = JobStore(folder)
    store.save(job)
    store.close()


@pytest.fixture(scope="module")
def result(studio: Studio, clip: Path, browser: "Browser") -> str:
    """The address of a finished result of the uploaded clip."""
    page = browser.new_page()
    page.goto(studio.url)
    page.get_by_label("write a report").check()
    page.set_input_files("#files", str(clip))
    bar = page.get_by_label("Processing she smiles.mp4")
    bar.wait_for(timeout=60_000)
    seen = set()
    while bar.count():
        seen.add(page.locator(".jobs li .state").first.inner_text())
        page.wait_for_timeout(50)
    page.get_by_role("link", name="she smiles.mp4").wait_for(timeout=240_000)
    assert any("of 50 frames" in words for words in seen), seen
    address = address_of(page, "she smiles.mp4")
    page.close()
    return address


def address_of(page: "Page", name: str) -> str:
    """Open a result from the list of videos and return its address."""
    page.get_by_role("link", name=name).click()
    page.wait_for_url("**/#/result/*")
    return str(page.url)


def open_result(page: "Page", address: str) -> "Page":
    page.goto(address)
    page.locator(".events tbody tr").first.wait_for(timeout=60_000)
    wait_until(page, "document.querySelector('video').readyState >= 2")
    return page


def wait_until(page: "Page", condition: str, seconds: float = 60) -> None:
    """Wait until a JavaScript condition holds; Playwright's function needs eval, which the page forbids."""
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


def check_layout(page: "Page", name: str) -> None:
    """Assert at two widths that the page has no horizontal overflow and no overlapping controls."""
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


def test_a_finished_result_is_accessible_and_has_no_errors(
    result: str, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page = open_result(browser_page.page, result)
    assert page.locator(".lane").count() == 12
    assert page.get_by_role("button", name="AU12 at").count() >= 1, "the face smiles"
    check_layout(page, "result")
    assert_accessible(page)
    assert browser_page.errors == []
    assert all(url.startswith("http://127.0.0.1:") for url in browser_page.requests)


def test_a_click_on_the_timeline_seeks(result: str, browser_page: Any) -> None:
    page = open_result(browser_page.page, result)
    lane = page.locator("canvas[data-au=AU12]")
    box = lane.bounding_box()
    assert box
    lane.click(position={"x": box["width"] * 0.75, "y": 5})
    page.wait_for_timeout(300)
    assert frame(page) in (37, 38)
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(1.5, abs=0.06)


def test_a_threshold_changes_lane_picture_and_events(result: str, browser_page: Any) -> None:
    page = open_result(browser_page.page, result)
    lane, picture = pixels(page, "canvas[data-au=AU12]"), pixels(page, ".viewer canvas")
    other = pixels(page, "canvas[data-au=AU04]")
    slider = page.get_by_label("Threshold of AU12")
    slider.focus()
    page.keyboard.press("End")
    assert pixels(page, "canvas[data-au=AU12]") != lane
    assert pixels(page, ".viewer canvas") != picture
    assert pixels(page, "canvas[data-au=AU04]") == other
    page.get_by_role("button", name="AU12 at").first.wait_for(state="detached")
    page.get_by_role("button", name="Reset thresholds").click()
    page.get_by_role("button", name="AU12 at").first.wait_for()
    assert pixels(page, "canvas[data-au=AU12]") == lane


def test_attributions_boxes_and_bars_can_be_shown_and_hidden(result: str, browser_page: Any) -> None:
    page = open_result(browser_page.page, result)
    plain = pixels(page, ".viewer canvas")
    with page.expect_response("**/evidence?first=0"):
        page.get_by_label("Evidence").select_option("AU12")
    page.wait_for_timeout(200)
    with_evidence = pixels(page, ".viewer canvas")
    assert with_evidence != plain
    page.get_by_label("Evidence").select_option("")
    assert pixels(page, ".viewer canvas") == plain
    page.get_by_label("box", exact=True).uncheck()
    page.get_by_label("bars", exact=True).uncheck()
    assert page.evaluate(
        "(() => { const c = document.querySelector('.viewer canvas');"
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.every((v) => v === 0); })()"
    )
    assert browser_page.errors == []


def test_a_baseline_changes_the_curves_and_an_invalid_one_shows_a_message(
    result: str, browser_page: Any
) -> None:
    page = open_result(browser_page.page, result)
    lane = pixels(page, "canvas[data-au=AU12]")
    with page.expect_response("**/table?baseline=median"):
        page.get_by_label("Baseline").select_option("median")
    page.wait_for_timeout(500)
    assert pixels(page, "canvas[data-au=AU12]") != lane
    page.get_by_label("Baseline").select_option("seconds")
    page.get_by_label("Seconds at rest").fill("5-2")
    page.keyboard.press("Enter")
    page.get_by_text("is not a baseline").wait_for()


def test_many_events_are_listed_in_pages_around_the_current_time(studio: Studio, browser_page: Any) -> None:
    page = browser_page.page
    page.goto(studio.url)
    open_result(page, address_of(page, "busy.mp4"))
    assert page.locator(".events tbody tr").count() == 200
    page.get_by_text(re.compile(r"Events 1 to 200 of 10\d\d")).wait_for()
    check_layout(page, "busy")
    lane = page.locator("canvas[data-au=AU12]")
    box = lane.bounding_box()
    assert box
    lane.click(position={"x": box["width"] * 0.7, "y": 5})
    page.get_by_text(re.compile(r"Events 601 to 800 of")).wait_for()
    assert page.locator(".events tr.now td:nth-child(2)").first.inner_text().startswith("2:0")
    there = frame(page)
    page.keyboard.press("]")
    page.wait_for_timeout(300)
    after = frame(page)
    assert there < after <= there + 2, "12 AUs with one onset in ten frames each"
    page.keyboard.press("[")
    page.wait_for_timeout(300)
    assert after - 2 <= frame(page) < after


def test_the_report_opens_in_a_new_tab_without_requests_to_the_studio(
    result: str, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page, message = open_result(browser_page.page, result), []
    page.context.on("console", lambda message: message.append(message.text))
    page.context.on("weberror", lambda error: message.append(str(error.error)))
    with page.expect_popup() as coming:
        page.get_by_role("link", name="Report (HTML)").click()
    report, asked = coming.value, []
    report.on("request", lambda request: asked.append(request.url))
    report.wait_for_selector("#plot-face-0 .main-svg")
    for width in (1280, 390):
        report.set_viewport_size({"width": width, "height": 900})
        wait_until(report, "document.querySelector('#plot-face-0 .main-svg').clientWidth <= innerWidth")
        if SHOTS:
            report.screenshot(path=f"{SHOTS}/report-{width}.png", full_page=True)
        assert report.evaluate("document.documentElement.scrollWidth") == width
    report.get_by_role("button", name="Duration").click()
    assert report.locator("th", has_text="Duration").first.get_attribute("aria-sort") == "ascending"
    assert_accessible(report)
    assert report.evaluate("origin") == "null", "an opaque origin"
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == []
    assert message == []


def test_every_download_is_complete(result: str, browser_page: Any, tmp_path: Path) -> None:
    page = open_result(browser_page.page, result)
    links, got = page.locator(".downloads a[download]"), {}
    links.last.wait_for()  # the links are added together, after the events
    for number, link in enumerate(links.all()):
        if number % 6 == 0:  # Chromium asks the user after ten downloads from one visit
            page.reload()
            links.last.wait_for()
        with page.expect_download(timeout=60_000) as coming:
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


def test_two_results_are_shown_side_by_side_with_linked_playback(
    result: str, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page = open_result(browser_page.page, f"{result}/{result.rpartition('/')[2]}")
    assert page.locator(".result").count() == 2
    wait_until(page, "[...document.querySelectorAll('video')].every((v) => v.readyState >= 2)")
    page.get_by_role("button", name="Next frame").first.click()
    page.wait_for_timeout(300)
    assert [re.findall(r"frame (\d+)", text) for text in page.locator(".time").all_inner_texts()] == [
        ["1"],
        ["1"],
    ]
    check_layout(page, "two")
    assert_accessible(page)
    assert browser_page.errors == []


def test_the_main_path_works_with_the_keyboard_alone(studio: Studio, clip: Path, browser_page: Any) -> None:
    """From the upload to the export, except the system's file dialog."""
    page = browser_page.page
    page.on("filechooser", lambda _: None)  # registered first, otherwise Chromium opens a real dialog
    page.goto(studio.url)

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches({json.dumps(wanted)})"):
                return
        raise AssertionError(f"Tab does not reach {wanted}")

    def press(key: str) -> int:
        page.keyboard.press(key)
        page.wait_for_timeout(150)
        return frame(page)

    tab_to("button.main")
    with page.expect_file_chooser() as asked:
        page.keyboard.press("Enter")
    video = {"name": "by keys.mp4", "mimeType": "video/mp4", "buffer": clip.read_bytes()}
    asked.value.set_files([video])
    page.get_by_role("link", name="by keys.mp4").wait_for(timeout=240_000)
    tab_to(".jobs a")
    assert page.evaluate("document.activeElement.textContent") == "by keys.mp4"
    page.keyboard.press("Enter")
    page.locator(".events tbody tr").first.wait_for()
    wait_until(page, "document.querySelector('video').readyState >= 2")
    assert [press(key) for key in ("ArrowRight", "ArrowRight", "ArrowLeft")] == [1, 2, 1]
    page.keyboard.press("Space")
    wait_until(page, "!document.querySelector('video').paused")
    page.keyboard.press("Space")
    wait_until(page, "document.querySelector('video').paused")
    tab_to(".events td button")
    page.keyboard.press("Enter")
    page.wait_for_timeout(150)
    assert page.locator(".events tr.now").count() >= 1
    tab_to("input[type=range]")
    page.keyboard.press("ArrowRight")
    tab_to("a[data-file=elan]")
    with page.expect_download():
        page.keyboard.press("Enter")


def drop_files(page: "Page", place: str, files: dict[str, bytes], event: str = "drop") -> bool:
    """Dispatch a drag event with files on an element; return whether the page handled it."""
    sent = {name: base64.b64encode(data).decode() for name, data in files.items()}
    act = """([place, event, files]) => {
        const dataTransfer = new DataTransfer();
        for (const [name, data] of Object.entries(files)) {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            dataTransfer.items.add(new File([bytes], name));
        }
        const made = new DragEvent(event, { dataTransfer, bubbles: true, cancelable: true });
        return !document.querySelector(place).dispatchEvent(made);
    }"""
    return bool(page.evaluate(act, [place, event, sent]))


def test_one_and_several_files_can_be_dropped_anywhere_on_the_page(
    tmp_path: Path, browser_page: Any, assert_accessible: Callable[["Page"], None]
) -> None:
    page, studio = browser_page.page, Studio(tmp_path / "results")
    uploads: set[str] = set()
    counts = []

    def record_upload(request: Any) -> None:
        if request.method == "POST":
            uploads.add(request.url)
            counts.append(len(uploads))

    page.on("request", record_upload)
    page.on("response", lambda response: uploads.discard(response.url))
    try:
        page.goto(studio.url)
        page.get_by_text("None yet.").wait_for()
        check_layout(page, "empty")
        assert drop_files(page, ".drop", {"one.mp4": b"film"}, "dragover"), "else the browser opens it"
        assert page.locator(".drop.over").count() == 1
        assert drop_files(page, ".drop", {"one.mp4": b"film"})
        assert page.locator(".drop.over").count() == 0
        more = {f"{number}.MP4": b"film" for number in range(5)}
        assert drop_files(page, "h1", {**more, "notes.txt": b"words"})
        page.get_by_text("Not a video or picture: notes.txt").wait_for()
        # The list is redrawn as uploads become jobs: it is complete when all six are in it.
        page.locator(".jobs[aria-label=Videos] li").nth(5).wait_for(timeout=60_000)
        wait_until(page, "document.querySelectorAll('.jobs[aria-label=Videos] .name').length === 6")
        names = page.locator(".jobs[aria-label=Videos] .name").all_inner_texts()
        assert sorted(names) == sorted([*more, "one.mp4"])
        assert 1 < max(counts) <= 3, "a browser has six connections, and polling needs one"
        page.get_by_role("link", name="Camera").click()
        page.get_by_role("button", name="Start the camera").wait_for()
        assert drop_files(page, "h1", {"two.mp4": b"film"}), "the browser does not open it"
        page.get_by_role("link", name="Videos").click()
        assert page.get_by_text("two.mp4").count() == 0
        page.get_by_text("failed").first.wait_for(timeout=60_000)
        check_layout(page, "failed")
        assert_accessible(page)
    finally:
        studio.stop()
    assert browser_page.errors == []


def test_the_token_page_is_accessible(browser_page: Any, assert_accessible: Callable[["Page"], None]) -> None:
    browser_page.page.set_content(_TOKEN_PAGE)
    check_layout(browser_page.page, "token")
    assert_accessible(browser_page.page)
    browser_page.page.get_by_label("Token").fill("abc")


def test_of_two_uploads_one_is_cancelled_and_the_other_survives_a_restart(
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
        check_layout(page, "videos")
        page.get_by_label(f"Cancel {last}").click()
        page.get_by_text("cancelled").wait_for()
        page.get_by_role("link", name=first).wait_for(timeout=240_000)
        check_layout(page, "done")
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
    """Chromium's fake camera plays a video of the astronaut."""
    camera_file = tmp_path / "camera.mjpeg"
    with av.open(str(clip)) as source, av.open(str(camera_file), "w", format="mjpeg") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 512
        stream.pix_fmt = "yuvj420p"
        for shown in source.decode(video=0):
            out.mux(stream.encode(shown.reformat(format="yuvj420p")))
        out.mux(stream.encode(None))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags.append(f"--use-file-for-fake-video-capture={camera_file}")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    started = browser.browser_type.launch(executable_path=chromium, args=flags)
    try:
        page = started.new_page(viewport={"width": 1280, "height": 900})
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{studio.url}#/camera")
        page.get_by_role("button", name="Start the camera").click()
        page.get_by_text(re.compile("Active:.*AU12")).wait_for(timeout=120_000)
        wait_until(page, "Number(document.querySelector('.camera canvas').dataset.shown) > 5")
        check_layout(page, "camera")
        assert_accessible(page)
        page.get_by_role("button", name="Stop the camera").click()
        time.sleep(0.5)
        assert errors == []
    finally:
        started.close()
