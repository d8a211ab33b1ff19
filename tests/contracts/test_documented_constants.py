"""Every number that the documents state as a constant is that of the code.

CONSTANTS names each constant, its value, and the words of the page that state it. Where a constant or the
page changes, change the other and the row. Tests of behaviour at these values stand beside their modules.
"""

import inspect
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from documents import ROOT

from auscan.batch import dataset, ray_runner
from auscan.batch import run as batch_run
from auscan.cli import live as cli_live
from auscan.cli import studio as cli_studio
from auscan.core import config, errors
from auscan.datasets import clock, features
from auscan.faces import align, detector, tracking
from auscan.inference import engine
from auscan.media import audio, discover
from auscan.pipeline import audio_stream, live
from auscan.results import events, table
from auscan.results.agreement import agree, measures, timeline
from auscan.results.figures import overlay, plots, report
from auscan.results.readers import toolkits
from auscan.server import camera, process
from auscan.server.settings import StudioSettings
from auscan.training import config as training_config
from auscan.training import (
    controls,
    metrics,
    operating_points,
    predict,
    ranking_draws,
    submission,
    thresholds,
)


@dataclass(frozen=True)
class Constant:
    """A documented number."""

    page: str
    """Below docs/."""
    text: str
    """Words of the page that state it; any white space between them."""
    found: object
    """The code's value."""
    documented: object


def default(function: Any, parameter: str) -> Any:
    """Return the default value of a parameter."""
    return inspect.signature(function).parameters[parameter].default


EVENTS = events.EventSettings()
TRACKER = tracking.TrackerConfig()
NANO = config.nano()
AGREEMENT = agree.AgreementSettings()
STUDIO = {name: field.default for name, field in StudioSettings.__dataclass_fields__.items()}

CONSTANTS = [
    Constant("quality.md", "below 0.5", table.MIN_QUALITY, 0.5),
    Constant("quality.md", "112 x 112 px", align.SIDE, 112),
    Constant("events.md", "`release` = 0.75 times", EVENTS.release, 0.75),
    Constant("events.md", "`bridge_s` = 0.25 s", EVENTS.bridge_s, 0.25),
    Constant("events.md", "`shortest_s` = 0.1 s", EVENTS.shortest_s, 0.1),
    Constant("events.md", "more than a second", TRACKER.max_gap_s, 1.0),
    Constant("events.md", "0.1, or half", events.NEUTRAL, 0.1),
    Constant("events.md", "fewer than 25", events.MIN_BASELINE_FRAMES, 25),
    Constant("events.md", "20 ms", audio.STEP_S, 0.02),
    Constant("events.md", "100 to 4000 Hz", audio._VOICE_BAND_HZ, (100.0, 4000.0)),
    Constant("events.md", "12 dB", audio._ABOVE_FLOOR_DB, 12.0),
    Constant("events.md", "70 to 400 Hz", audio._PITCH_HZ, (70.0, 400.0)),
    Constant("events.md", "above 0.5", audio._MIN_HARMONICITY, 0.5),
    Constant("events.md", "by 5 dB", audio._MIN_CHANGE_DB, 5.0),
    Constant("events.md", "within 0.2 s", audio._VOICED_REACH_S, 0.2),
    Constant("events.md", "under 0.2 s", audio._MAX_PAUSE_S, 0.2),
    Constant("events.md", "less than 0.15 s", audio._MIN_SPEECH_S, 0.15),
    Constant("output.md", "20 ms", audio.STEP_S, 0.02),
    Constant("output.md", "below 0.5", table.MIN_QUALITY, 0.5),
    Constant("output.md", "more than a second", TRACKER.max_gap_s, 1.0),
    Constant("live.md", "eight of them", audio_stream.MAX_WAITING_FRAMES, 8),
    Constant("live.md", "every five seconds", cli_live.REPORT_EVERY_S, 5.0),
    Constant("live.md", "every eighth frame", tracking.STRIDE, 8),
    Constant("live.md", "half a second each way", NANO.fusion.reach_s, 0.5),
    Constant("live.md", "lag of 0.5 s", default(live.LiveDetector, "lag_s"), 0.5),
    Constant("live.md", "last second of audio", engine.CONTEXT_S, 1.0),
    Constant("studio.md", "lag is 0.3 s", camera.LAG_S, 0.3),
    Constant("studio.md", "http://127.0.0.1:8765/", STUDIO["port"], 8765),
    Constant("studio.md", "http://127.0.0.1:8765/", default(cli_studio.studio, "port"), 8765),
    Constant("studio.md", "4 GB (`--max-gb`)", STUDIO["max_upload_bytes"], 4 * 1024**3),
    Constant("studio.md", "4 GB (`--max-gb`)", default(cli_studio.studio, "max_gb"), 4.0),
    Constant("studio.md", "4 hours (`--max-hours`)", STUDIO["time_limit_s"], 4 * 3600.0),
    Constant("studio.md", "4 hours (`--max-hours`)", default(cli_studio.studio, "max_hours"), 4.0),
    Constant("studio.md", "100 videos", STUDIO["max_waiting"], 100),
    Constant("studio.md", "16 uploads", STUDIO["max_uploads"], 16),
    Constant("studio.md", "2 cameras", STUDIO["max_cameras"], 2),
    Constant("studio.md", "6 GB", process._MIN_ADDRESS_SPACE, 6 * 1024**3),
    Constant("batch.md", "three processes in a row", batch_run.MAX_FAILED_STARTS, 3),
    Constant("batch.md", "ten minutes", batch_run.START_TIMEOUT_S, 600.0),
    Constant("batch.md", "130", errors.EXIT_INTERRUPTED, 130),
    Constant("batch.md", "lost a second time", ray_runner.MAX_ATTEMPTS, 2),
    Constant("batch.md", "five minutes it gives up", ray_runner.NO_WORKER_TIMEOUT_S, 300.0),
    Constant("batch.md", "four million rows", dataset.PART_ROWS, 2**22),
    Constant("scaling.md", "131,000 rows", dataset.GROUP_ROWS, 131_072),
    Constant("evidence.md", "7 x 7 patches", NANO.visual.patch_grid, 7),  # type: ignore[union-attr]
    Constant("evidence.md", "selects 24", NANO.alignment.active_patches, 24),
    Constant("evidence.md", "mean of four queries", NANO.alignment.heads, 4),
    Constant("evidence.md", "within half a second", NANO.fusion.reach_s, 0.5),
    Constant("calibration.md", "15 equal bins", metrics.BINS, 15),
    Constant("calibration.md", "F0.5", operating_points.BETA["precise"], 0.5),
    Constant("calibration.md", "F2", operating_points.BETA["sensitive"], 2.0),
    Constant("calibration.md", "within 0.005", operating_points.TOLERANCE, 0.005),
    Constant("evaluation.md", "2,000 draws", metrics.DRAWS, 2000),
    Constant("evaluation.md", "95 %", metrics.LEVEL, 0.95),
    Constant("evaluation.md", "1,024 levels", ranking_draws.LEVELS, 1024),
    Constant("evaluation.md", "15 equal bins", metrics.BINS, 15),
    Constant(
        "evaluation.md", "0.05 to 0.95", (thresholds.MIN_THRESHOLD, thresholds.MAX_THRESHOLD), (0.05, 0.95)
    ),
    Constant("evaluation.md", "up to two frames", submission.ALLOWED_DIFFERENCE, 2),
    Constant("agreement.md", "25 times a second", timeline.DEFAULT_RATE_HZ, 25.0),
    Constant("agreement.md", "at least half", AGREEMENT.overlap, 0.5),
    Constant("agreement.md", "less than half", measures.MIN_KNOWN_SHARE, 0.5),
    Constant("agreement.md", "5 s (`--stretch`)", AGREEMENT.block_s, 5.0),
    Constant("agreement.md", "2000 times", agree.DRAWS, 2000),
    Constant("agreement.md", "95 %", agree.CONFIDENCE_PERCENT, 95.0),
    Constant("agreement.md", "10 blocks", agree.MIN_BLOCKS, 10),
    Constant("agreement.md", "probability of 0.5 or more", toolkits.ACTIVE_THRESHOLD, 0.5),
    Constant("agreement.md", "shortest 0.1 s", EVENTS.shortest_s, 0.1),
    Constant("agreement.md", "up to 0.25 s", EVENTS.bridge_s, 0.25),
    Constant("report.md", "six faces", report.MAX_FACES, 6),
    Constant("report.md", "6,000 points", plots.MAX_POINTS, 6000),
    Constant("report.md", "9,000 over all faces", report._MAX_POINTS_ALL_FACES, 9000),
    Constant("report.md", "500 events", report.MAX_EVENTS, 500),
    Constant("report.md", "60 dB", overlay._SOUND_RANGE_DB, 60.0),
    Constant("features.md", "four threads", features.DECODE_THREADS, 4),
    Constant("features.md", "50 tokens a second", config.TOKEN_RATE_HZ, 50.0),
    Constant("affwild2.md", "may differ by 2", clock.LENGTH_SLACK, 2),
    Constant("affwild2.md", "30 Hz", clock.ASSUMED_RATE_HZ, 30.0),
    Constant("faults.md", "12 hours", audio.LONGEST_PAUSE_S, 12 * 3600.0),
    Constant("faults.md", "more than a minute", audio.LONGEST_PAUSE_AFTER_VIDEO_S, 60.0),
    Constant("faults.md", "below 1 kHz", audio.LOWEST_RATE_HZ, 1000),
    Constant("method.md", "thirtieths of a second", config.ELAPSED_UNIT_HZ, 30.0),
    Constant("method.md", "at most one second", config.MAX_ELAPSED / config.ELAPSED_UNIT_HZ, 1.0),
    Constant("training.md", "frames (300)", training_config.DataConfig.model_fields["length"].default, 300),
    Constant("training.md", "apart (200)", training_config.DataConfig.model_fields["stride"].default, 200),
    Constant("training.md", "mean F1 at 0.5", predict.THRESHOLD, 0.5),
    Constant("training.md", "64 frames either side", controls.ATTENTION_REACH, 64),
    Constant("troubleshooting.md", "320 px", default(detector.FaceDetector, "longest_side"), 320),
    Constant("troubleshooting.md", "more than a second", TRACKER.max_gap_s, 1.0),
    Constant("troubleshooting.md", "fewer than 25", events.MIN_BASELINE_FRAMES, 25),
]


@cache
def words(page: str) -> str:
    """The text of a page with single spaces."""
    return " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


def test_every_documented_constant_is_that_of_the_code() -> None:
    wrong = [each for each in CONSTANTS if each.found != pytest.approx(each.documented, rel=1e-12)]
    assert not wrong, "\n".join(map(str, wrong))


def test_every_constant_is_stated_by_its_page() -> None:
    missing = [f"{each.page}: {each.text!r}" for each in CONSTANTS if each.text not in words(each.page)]
    assert not missing, "\n".join(missing)


def test_the_table_of_quality_has_the_gradings_of_the_code() -> None:
    row = re.compile(r"^\| `(\w+)` \| .* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| `(\w+)` \|$", re.MULTILINE)
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    documented = {
        name: table.Grading(reason, full=float(full), cut=float(cut), none=float(none))
        for name, full, cut, none, reason in row.findall(page)
    }
    assert documented == table.GRADINGS


def test_the_suffixes_of_the_page_are_those_of_the_code() -> None:
    text = words("output.md").partition("Inputs are")[2].partition("folders")[0]
    assert set(re.findall(r"\.\w+", text)) == discover.MEDIA_SUFFIXES - {".jpeg"}
    assert discover.MEDIA_SUFFIXES == discover.VIDEO_SUFFIXES | discover.IMAGE_SUFFIXES
