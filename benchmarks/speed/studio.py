"""Measure the time to show a long result in the web app, and the size of its report.

    python benchmarks/speed/studio.py [--minutes 120] [--keep FOLDER]

Writes a finished job (two faces with random curves, 25 frames a second, a video of grey pictures) and opens
it in Chromium. Measures the time until the timeline and the events are shown, the bytes transferred, and the
time until the page reacts to a slider, a click on the timeline and a step to the next event. The report has
no pictures of faces.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from auscan.results.events import Speech
from auscan.results.figures.report import write_report
from auscan.results.read import read_result
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table
from auscan.server.app import make_server
from auscan.server.job_store import JobOptions, JobStore, new_job
from auscan.server.settings import StudioSettings

RATE_HZ, FACES, PORT = 25, 2, 8790
DRAWN = """() => {
  const lane = document.querySelector("canvas[data-au=AU12]");
  return Boolean(lane?.width) && lane.getContext("2d").getImageData(0, 0, lane.width, 9).data.some((v) => v);
}"""
"""JavaScript: whether a lane of the timeline is drawn."""
LONGEST_DELAY = """async (action) => {
  const slider = document.querySelector("input[type=range]");
  const lane = document.querySelector("canvas[data-au=AU12]"), box = lane.getBoundingClientRect();
  const click = (share) => new MouseEvent("click",
    { bubbles: true, clientX: box.left + box.width * share, clientY: box.top + 5 });
  const actions = {
    slider: (i) => { slider.value = 0.3 + 0.02 * i; slider.dispatchEvent(new Event("input")); },
    seek: (i) => lane.dispatchEvent(click(i / 21)),
    event: () => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "]", bubbles: true })),
  };
  let longest = 0;
  for (let i = 1; i <= 20; i++) {
    const began = performance.now();
    actions[action](i);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    longest = Math.max(longest, performance.now() - began);
  }
  return longest;
}"""
"""JavaScript: longest time in ms from an action to the next picture, of 20 actions."""


def random_curves(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw random mean-reverting probabilities [count, 12]."""
    pull, curve = 0.93, np.zeros((count // 5 + 2, 12))
    for step in range(1, len(curve)):
        curve[step] = pull * curve[step - 1] + rng.standard_normal(12)
    smooth = np.repeat(curve, 5, axis=0)[:count] + 0.15 * rng.standard_normal((count, 12))
    return (1 / (1 + np.exp(2 - smooth / 1.3))).astype(np.float32)


def make_result(minutes: float) -> Result:
    """Make a result for some minutes of video."""
    rng, count = np.random.default_rng(1), round(minutes * 60 * RATE_HZ)
    frames, parts = np.arange(count), np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0])
    still = {
        "frames": frames,
        "points": np.zeros((count, 5, 2), np.float32),
        "scores": np.ones(count, np.float32),
        "quality_features": np.tile(parts, (count, 1)),
    }
    tracks = tuple(
        TrackScores(
            face_id=face,
            boxes=np.tile(np.float32([20 + 60 * face, 20, 40, 50]), (count, 1)),
            probabilities=random_curves(count, rng),
            **still,
        )
        for face in range(FACES)
    )
    half, seconds = (0.5,) * 12, count / RATE_HZ
    sound = Speech(
        0, 0.02, rng.normal(-30, 5, 2 * count).astype(np.float32), np.arange(2 * count) // 150 % 3 == 0
    )
    info = RunInfo(
        source="video.mp4",
        duration_s=seconds,
        frames=count,
        has_audio=True,
        seconds=1,
        model="nano",
        thresholds=half,
        untrained_aus=(),
        command="auscan detect video.mp4",
        versions={"auscan": "benchmark"},
    )
    return Result(build_table(frames / RATE_HZ, tracks, half), tracks, info, sound=sound)


def store_job(folder: Path, result: Result) -> str:
    """Write a finished job into the folder of the web app. Return its id."""
    job = new_job("long.mp4", ".mp4", JobOptions()).model_copy(update={"status": "done", "seconds": 1.0})
    result.save(folder / job.id / "video")
    with av.open(str(folder / job.id / "video.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(round(result.info.duration_s)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 160, 3), 90, np.uint8))))
        out.mux(stream.encode(None))
    store = JobStore(folder)
    store.save(job)
    store.close()
    return job.id


def measure_page(page: Page, address: str) -> None:
    """Open a result in the page and print times and sizes."""
    requests: list[Any] = []
    page.on("requestfinished", lambda request: requests.append(request))
    began_s = time.monotonic()
    page.goto(address)
    while not page.evaluate(DRAWN):
        time.sleep(0.02)
    print(f"timeline after {time.monotonic() - began_s:.1f} s")
    page.locator(".events tbody tr").first.wait_for(timeout=120_000)
    print(f"events after {time.monotonic() - began_s:.1f} s")
    page.wait_for_timeout(2000)
    for request in requests:
        if "/table?" in request.url or "/events?" in request.url:
            print(f"{request.url.rpartition('/')[2][:6]}: {request.sizes()['responseBodySize'] / 1e6:.1f} MB")
    for action in ("slider", "seek", "event"):
        print(f"{action}: at most {page.evaluate(LONGEST_DELAY, action):.0f} ms to the next picture, of 20")
        page.wait_for_timeout(3000)


def main() -> None:
    """Parse arguments, make the result, open it, write its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120, help="length of the video")
    parser.add_argument("--keep", type=Path, help="folder in which to keep the job and the report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        job_id = store_job(folder, make_result(args.minutes))
        server = make_server(StudioSettings(folder=folder, worker=(), port=PORT))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            measure_page(
                browser.new_page(viewport={"width": 1280, "height": 900}),
                f"http://127.0.0.1:{PORT}/#/result/{job_id}",
            )
            browser.close()
        server.should_exit = True
        thread.join()
        result, report = read_result(folder / job_id / "video"), folder / "report.html"
        began_s = time.monotonic()
        write_report(report, result)
        print(f"report after {time.monotonic() - began_s:.1f} s, {report.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
