"""What the page and programs get of a result is what the files hold."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscan.core.aus import AU_NAMES
from auscan.results.table import read_result_table

SAVES = """
import pathlib, sys
import numpy as np
from auscan.core.aus import AU_NAMES
from auscan.results.table import read_result_table
from auscan.results.result import Result, RunInfo
from auscan.results.speech import Speech
from auscan.results.table import TrackScores, build_table
source = pathlib.Path(sys.argv[1])
T = 60
chance = np.random.default_rng(3).random((T, 12)).astype(np.float32)
chance[20:40, 6] = 0.9
chance[:, 8] = np.nan
track = TrackScores(0, np.arange(T), np.full((T, 4), 9, np.float32), np.zeros((T, 5, 2), np.float32),
    np.ones(T, np.float32), np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (T, 1)), chance)
half = (0.5,) * 12
info = RunInfo(source=source.name, duration_s=T / 25, frames=T, has_audio=True, seconds=1, model="nano",
    thresholds=half, untaught=("AU23",), command="auscan detect", versions={"auscan": "0.1.0"})
sound = Speech(0.0, 0.02, np.full(2 * T, -30, np.float32), np.arange(2 * T) < T)
table = build_table(np.arange(T) / 25, [track], half)
Result(table, (track,), info, sound=sound).save(source.parent / "video")
"""
"""A worker that saves a result of random numbers."""


def unpack(column: dict[str, str]) -> Any:
    return np.frombuffer(base64.b64decode(column["data"]), np.dtype(column["type"]).newbyteorder("<"))


@pytest.fixture
def done(studios: Any) -> tuple[Any, str, Path]:
    """A client, the address of a finished result, and its folder."""
    client = studios.start(SAVES)
    job = client.wait(client.submit(name="talk%20one.mp4")["id"])
    assert job["status"] == "done", job
    return client, f"/api/results/{job['id']}", client.folder / job["id"] / "video"


def test_the_page_gets_the_numbers_of_the_table_to_the_last_bit(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    sent = client.ask("GET", f"{address}/table").json
    stored = read_result_table(folder / "aus.parquet")
    assert sent["rows"] == len(stored)
    for name in ("timestamp", "x", "quality", *AU_NAMES):
        np.testing.assert_array_equal(unpack(sent["columns"][name]), stored[name].to_numpy(), name)
    assert {sent["reasons"][code] for code in unpack(sent["columns"]["reason"])} == set(stored["reason"])


def test_every_file_of_a_result_can_be_fetched(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    written = {path.name for path in folder.iterdir()}
    assert "sound.parquet" in written
    assert set(client.ask("GET", f"{address}/files").json) == written
    for name in written:
        assert client.ask("GET", f"{address}/files/{name}").body == (folder / name).read_bytes()


def test_other_thresholds_give_other_events_and_nonsense_is_refused(done: tuple[Any, str, Path]) -> None:
    client, address, _ = done
    usual = client.ask("GET", f"{address}/events").json
    assert any(e["AU"] == "AU12" and e["onset_frame"] <= 20 <= e["offset_frame"] for e in usual)
    high = "&".join(["threshold=1"] * 12)
    assert client.ask("GET", f"{address}/events?{high}").json == []
    for bad in ("threshold=0.5", "&".join(["threshold=nan"] * 12), "&".join(["threshold=7"] * 12)):
        assert client.ask("GET", f"{address}/events?{bad}").status == 422


def test_a_baseline_is_taken_off_on_request_and_the_files_stay(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    before = (folder / "aus.parquet").read_bytes()
    plain = unpack(client.ask("GET", f"{address}/table").json["columns"]["AU12"])
    above = unpack(client.ask("GET", f"{address}/table?baseline=median").json["columns"]["AU12"])
    assert np.all(above <= plain)
    assert np.any(above < plain)
    for bad in ("../x", "9-2", "often"):
        assert client.ask("GET", f"{address}/table?baseline={bad}").status == 422
    assert (folder / "aus.parquet").read_bytes() == before


@pytest.mark.parametrize("form", ["openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl"])
def test_every_export_comes_under_the_name_of_the_video(done: tuple[Any, str, Path], form: str) -> None:
    client, address, _ = done
    answer = client.ask("GET", f"{address}/exports/{form}")
    assert answer.status == 200, answer.body
    assert len(answer.body) > 100
    assert "talk%20one_" in answer.headers["content-disposition"]
    assert client.ask("GET", f"{address}/exports/..%2f{form}").status == 404


def test_the_video_is_sent_in_parts_to_a_player_that_seeks(done: tuple[Any, str, Path]) -> None:
    client, address, _ = done
    part = client.ask("GET", f"{address}/video", headers={"Range": "bytes=1-2"})
    assert (part.status, part.body) == (206, b"il")


def test_a_report_runs_its_scripts_where_nothing_of_the_studio_opens(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    (folder / "report.html").write_text("<script>fetch('/api/jobs')</script>")
    policy = client.ask("GET", f"{address}/files/report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy


def test_the_routes_are_described_for_programs(studios: Any) -> None:
    described = studios.start().ask("GET", "/openapi.json").json
    assert {"/api/jobs", "/api/jobs/{job_id}/cancel", "/api/results/{job_id}/exports/{form}"} <= set(
        described["paths"]
    )
    assert "application/octet-stream" in json.dumps(described["paths"]["/api/jobs"]["post"])
