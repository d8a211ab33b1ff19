"""Test the camera's WebSocket: rows, access checks, invalid and oversized pictures."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from auscan.core.errors import InputError
from auscan.server.camera import jpeg_size, read_jpeg

pytest.importorskip("websockets", reason="There is no websockets (pip install 'auscan[studio]').")


def jpeg(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1])


def message(seconds: float, picture: bytes) -> bytes:
    return struct.pack("<d", seconds) + picture


@contextmanager
def connected(client: Any, **options: Any) -> Iterator[ClientConnection]:
    options = {"origin": f"http://127.0.0.1:{client.port}"} | options
    with connect(f"ws://127.0.0.1:{client.port}/api/live", proxy=None, **options) as connection:
        yield connection


def test_pictures_are_answered_with_rows(studios: Any, portrait: NDArray[np.uint8]) -> None:
    with connected(studios.start()) as connection:
        assert len(json.loads(connection.recv())["thresholds"]) == 12
        rows = []
        for index in range(40):
            connection.send(message(index / 25, jpeg(portrait)))
            response = json.loads(connection.recv())
            assert response["index"] == index
            rows += response["rows"]
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 20
    assert rows[-1]["AU12_c"] == 1


def test_a_page_of_another_site_cannot_open_a_session(studios: Any) -> None:
    client = studios.start()
    with pytest.raises(InvalidStatus, match="403"), connected(client, origin="http://evil.example"):
        pass
    client = studios.start(token="secret")
    with pytest.raises(InvalidStatus, match="403"), connected(client):
        pass
    with connected(client, additional_headers={"Cookie": "auscan_token=secret"}) as connection:
        assert "thresholds" in json.loads(connection.recv())


@pytest.mark.parametrize(
    "data",
    [b"", b"12345678", message(0, b"GIF89a"), message(0, b"\xff\xd8"), message(float("nan"), b"\xff\xd8")],
)
def test_an_invalid_message_ends_the_session_and_not_the_studio(studios: Any, data: bytes) -> None:
    client = studios.start()
    with connected(client) as connection:
        connection.recv()
        connection.send(data)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003
    assert client.request("GET", "/api/about").status == 200


def test_the_number_of_cameras_is_limited(studios: Any) -> None:
    client = studios.start(max_cameras=1)
    with connected(client) as first:
        first.recv()
        with connected(client) as second, pytest.raises(ConnectionClosed) as closed:
            second.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


def test_a_picture_that_claims_too_many_pixels_is_not_decoded() -> None:
    small = jpeg(np.zeros((8, 8, 3), np.uint8))
    assert jpeg_size(small) == (8, 8)
    at = small.index(b"\xff\xc0")
    bomb = small[: at + 5] + b"\xff\xff\xff\xff" + small[at + 9 :]
    assert jpeg_size(bomb) == (65535, 65535)
    with pytest.raises(InputError, match="65535 x 65535 px; the limit is"):
        read_jpeg(bomb)
