"""The Studio shows the AUs of the result, whatever its checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscan.results.result import Result, RunInfo
from auscan.results.table import TrackScores, build_table
from auscan.server.results import events_for_page, export, read_summary, table_for_page

FIVE = ("AU45", "AU12", "AU05", "AU25", "AU09")
FRAMES = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a result of five AUs."""
    probabilities = np.random.default_rng(0).random((FRAMES, len(FIVE))).astype(np.float32)
    probabilities[10:30, FIVE.index("AU45")] = 0.9
    track = TrackScores(
        face_id=0,
        frames=np.arange(FRAMES),
        boxes=np.full((FRAMES, 4), 9, np.float32),
        points=np.zeros((FRAMES, 5, 2), np.float32),
        scores=np.ones(FRAMES, np.float32),
        quality_features=np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (FRAMES, 1)),
        probabilities=probabilities,
    )
    info = RunInfo(
        source="talk.mp4",
        duration_s=FRAMES / 25,
        frames=FRAMES,
        has_audio=False,
        seconds=1.0,
        model="five",
        au_names=FIVE,
        thresholds=(0.5,) * len(FIVE),
        command="auscan detect talk.mp4",
        versions={"auscan": "0.2.0"},
    )
    table = build_table(np.arange(FRAMES) / 25, [track], info.thresholds, au_names=FIVE)
    return Result(table, (track,), info).save(tmp_path / "result")


def header(sent: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(sent.partition(b"\n")[0])
    return head


def test_the_table_of_the_page_has_the_aus_of_the_result(folder: Path) -> None:
    columns = header(table_for_page(folder))["columns"]
    assert [name for name in columns if name.startswith("AU")] == list(FIVE)


def test_the_page_takes_names_and_thresholds_from_the_summary(folder: Path) -> None:
    assert list(read_summary(folder)["thresholds"]) == list(FIVE)


def test_events_have_the_aus_of_the_result(folder: Path) -> None:
    events = json.loads(events_for_page(folder))
    assert {event["AU"] for event in events} <= set(FIVE)
    assert any(event["AU"] == "AU45" and event["duration"] >= 0.79 for event in events)
    assert json.loads(events_for_page(folder, [1.0] * len(FIVE))) == []


def test_the_result_is_exported(folder: Path, tmp_path: Path) -> None:
    path = export(folder, "openface", tmp_path / "out", "talk.mp4")
    assert path.stat().st_size > 0
