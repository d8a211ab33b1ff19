"""Test the routes of results: their data equal the files."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.table import read_result_table

SAVING_WORKER = """
import pathlib, sys
import numpy as np
from auscan.core.aus import AFFWILD2_AUS
from auscan.results.table import read_result_table
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.events import Speech
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
    thresholds=half, untrained_aus=("AU23",), command="auscan detect", versions={"auscan": "0.1.0"})
sound = Speech(0.0, 0.02, np.full(2 * T, -30, np.float32), np.arange(2 * T) < T)
table = build_table(np.arange(T) / 25, [track], half)
Result(table, (track,), info, sound=sound).save(source.parent / "video")
"""
"""Worker that saves a result of random numbers."""


def unpack(sent: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse a table response to its header and its columns."""
    line, _, _ = sent.partition(b"\n")
    head, at, columns = json.loads(line), len(line) + 1, {}
    for name, kind in head["columns"].items():
        columns[name] = np.frombuffer(sent, np.dtype(kind).newbyteorder("<"), head["rows"], at)
        assert at % columns[name].itemsize == 0, "the page needs aligned columns"
        at += columns[name].nbytes
    assert at == len(sent)
    return head, columns


@pytest.fixture(scope="module")
def done(lasting_studios: Any) -> tuple[Any, str, Path]:
    """A client, the address of a finished result, and the result's folder."""
    client = lasting_studios.start(SAVING_WORKER)
    job = client.wait(client.submit(name="talk%20one.mp4")["id"])
    assert job["status"] == "done", job
    return client, f"/api/results/{job['id']}", client.folder / job["id"] / "video"


def test_the_table_response_equals_the_table_bit_for_bit(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    head, columns = unpack(client.request("GET", f"{address}/table").body)
    stored = read_result_table(folder / "aus.parquet")
    assert head["rows"] == len(stored)
    for name in ("timestamp", "frame", "face_id", "x", "h", *AFFWILD2_AUS):
        np.testing.assert_array_equal(columns[name], stored[name].to_numpy(), name)
    assert [head["reasons"][code] for code in columns["reason"]] == stored["reason"].to_list()


def test_every_file_of_a_result_can_be_downloaded(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    written = {path.name for path in folder.iterdir()}
    assert "sound.parquet" in written
    assert set(client.request("GET", f"{address}/files").json) == written
    for name in written:
        assert client.request("GET", f"{address}/files/{name}").body == (folder / name).read_bytes()


def test_events_follow_the_thresholds_and_invalid_thresholds_are_refused(done: tuple[Any, str, Path]) -> None:
    client, address, _ = done
    default = client.request("GET", f"{address}/events").json
    assert any(e["AU"] == "AU12" and e["onset_frame"] <= 20 <= e["offset_frame"] for e in default)
    high = "&".join(["threshold=1"] * 12)
    assert client.request("GET", f"{address}/events?{high}").json == []
    for bad in ("threshold=0.5", "&".join(["threshold=nan"] * 12), "&".join(["threshold=7"] * 12)):
        assert client.request("GET", f"{address}/events?{bad}").status == 422


def test_a_baseline_is_subtracted_on_request_and_the_files_are_unchanged(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    before = (folder / "aus.parquet").read_bytes()
    plain = unpack(client.request("GET", f"{address}/table").body)[1]["AU12"]
    above = unpack(client.request("GET", f"{address}/table?baseline=median").body)[1]["AU12"]
    assert np.all(above <= plain)
    assert np.any(above < plain)
    for bad in ("../x", "9-2", "often"):
        assert client.request("GET", f"{address}/table?baseline={bad}").status == 422
    assert (folder / "aus.parquet").read_bytes() == before


@pytest.mark.parametrize("form", ["openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl"])
def test_every_export_is_named_after_the_video(done: tuple[Any, str, Path], form: str) -> None:
    client, address, _ = done
    response = client.request("GET", f"{address}/exports/{form}")
    assert response.status == 200, response.body
    assert len(response.body) > 100
    assert "talk%20one_" in response.headers["content-disposition"]
    assert client.request("GET", f"{address}/exports/..%2f{form}").status == 404


def test_simultaneous_downloads_of_an_export_do_not_interfere(done: tuple[Any, str, Path]) -> None:
    """They used to share a folder, which each download emptied before writing."""
    client, address, folder = done
    asked = [f"{address}/exports/{name}" for name in ("bids", "elan", "elan?baseline=median")]
    alone = [client.request("GET", path) for path in asked]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda path: client.request("GET", path), 4 * asked))
    for response, expected in zip(together, 4 * alone, strict=True):
        assert (response.status, len(response.body)) == (200, len(expected.body))
    assert len({len(response.body) for response in alone}) == 3, "the sizes distinguish the exports"
    assert_nothing_is_left(folder)


def test_temporary_files_of_an_export_are_deleted_after_errors_and_broken_connections(
    done: tuple[Any, str, Path],
) -> None:
    client, address, folder = done
    assert client.request("GET", f"{address}/exports/elan?baseline=often").status == 422
    assert client.request("GET", f"{address}/exports/elan", headers={"Range": "bytes=9-2"}).status in (
        400,
        416,
    )
    request = f"GET {address}/exports/openface HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(request.encode())
    assert client.request("GET", f"{address}/exports/openface").status == 200
    assert_nothing_is_left(folder)


def assert_nothing_is_left(folder: Path) -> None:
    """Wait until the job's folder contains only the video and its result."""
    end = time.monotonic() + 20
    while {path.name for path in folder.parent.iterdir()} != {"video", "video.mp4"}:
        assert time.monotonic() < end, list(folder.parent.iterdir())
        time.sleep(0.05)


def test_the_elan_export_links_to_the_users_file_name(
    done: tuple[Any, str, Path],
) -> None:
    client, address, _ = done
    assert b'MEDIA_URL="./talk%20one.mp4"' in client.request("GET", f"{address}/exports/elan").body


def test_the_video_supports_range_requests(done: tuple[Any, str, Path]) -> None:
    client, address, _ = done
    part = client.request("GET", f"{address}/video", headers={"Range": "bytes=1-2"})
    assert (part.status, part.body) == (206, b"il")


def test_a_report_runs_its_scripts_in_an_opaque_origin(done: tuple[Any, str, Path]) -> None:
    client, address, folder = done
    (folder / "report.html").write_text("<script>fetch('/api/jobs')</script>")
    policy = client.request("GET", f"{address}/files/report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy


def test_openapi_describes_the_routes(studios: Any) -> None:
    described = studios.start().request("GET", "/openapi.json").json
    assert {"/api/jobs", "/api/jobs/{job_id}/cancel", "/api/results/{job_id}/exports/{form}"} <= set(
        described["paths"]
    )
    assert "application/octet-stream" in json.dumps(described["paths"]["/api/jobs"]["post"])


def test_the_table_response_has_the_intensities_if_the_result_has_them(tmp_path: Path) -> None:
    from auscan.server.results import table_for_page
    from tests.results.test_au_sets import FIVE, result_of

    for intensity in (True, False):
        result = result_of(FIVE, intensity)
        folder = result.save(tmp_path / str(intensity))
        head, columns = unpack(table_for_page(folder))
        for name in FIVE:
            assert (f"{name}_r" in head["columns"]) == intensity
            if intensity:
                np.testing.assert_array_equal(columns[f"{name}_r"], result.table[f"{name}_r"].to_numpy())
