"""Test the guard: cross-site requests, DNS rebinding and missing tokens are refused."""

from pathlib import Path
from typing import Any

import pytest

from auscan.server.settings import StudioSettings, is_loopback

TOKEN = "a-long-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_a_page_of_another_site_cannot_post(studios: Any) -> None:
    client = studios.start()
    own = f"http://127.0.0.1:{client.port}"
    same_prefix = (f"{own}.evil", f"{own}.evil.example", f"{own}0", f"{own}@evil.example")
    others = (
        "https://evil.example",
        f"http://localhost:{client.port}",
        "null",
        "http://127.0.0.1",
        "http://[::1",
    )
    for origin in (*others, *same_prefix):
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        assert client.request("POST", "/api/jobs?name=a.mp4", b"film", headers).status == 403, origin
    assert client.request("GET", "/api/jobs").json == []
    assert client.request("POST", "/api/jobs?name=a.mp4", b"film", {"Origin": own}).status == 201


def test_a_page_of_another_site_cannot_embed_results(studios: Any) -> None:
    client = studios.start()
    job = client.submit()
    for site in ("cross-site", "same-site"):
        response = client.request("GET", f"/api/results/{job['id']}/video", headers={"Sec-Fetch-Site": site})
        assert response.status == 403
    assert client.request("GET", "/api/jobs", headers={"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_foreign_host_name_is_refused(studios: Any) -> None:
    """DNS rebinding: the browser sends it as the same origin, so only the Host header differs."""
    client = studios.start()
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1.evil.example", "", "[::1"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert client.request("GET", "/api/jobs", headers=headers).status in (400, 421), host
    for host in ("127.0.0.1", "localhost", f"localhost:{client.port}", "[::1]:80"):
        assert client.request("GET", "/api/jobs", headers={"Host": host}).status == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Cookie": "auscan_token=wrong"},
        {"Cookie": 'auscan_token="'},
        {"Authorization": "Bearer \xff"},
    ],
)
def test_without_the_right_token_every_route_is_refused(studios: Any, headers: dict[str, str]) -> None:
    client = studios.start(token=TOKEN)
    for path in ("/", "/api/jobs", "/openapi.json", "/main.js", "/?token=wrong", f"/api/jobs?token={TOKEN}"):
        assert client.request("GET", path, headers=headers).status == 401, path
    assert client.request("POST", "/api/jobs?name=a.mp4", b"film", headers).status == 401
    assert list(client.folder.glob("*/*")) == []


def test_the_token_is_accepted_as_a_header_and_as_the_cookie_set_by_the_printed_address(studios: Any) -> None:
    client = studios.start(token=TOKEN)
    assert client.request("GET", "/api/jobs", headers=BEARER).status == 200
    first = client.request("GET", f"/?token={TOKEN}")
    assert (first.status, first.headers["location"]) == (303, "/"), "the token leaves the address bar"
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.request("GET", "/api/jobs", headers={"Cookie": cookie.partition(";")[0]}).status == 200


def test_another_site_is_refused_even_with_the_token(studios: Any) -> None:
    client = studios.start(token=TOKEN)
    assert (
        client.request("GET", "/api/jobs", headers={**BEARER, "Origin": "http://evil.example"}).status == 403
    )


def test_a_studio_that_other_machines_can_reach_needs_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "studio.example"):
        with pytest.raises(ValueError, match="needs a token"):
            StudioSettings(folder=tmp_path, worker=(), host=host)
    assert [is_loopback(name) for name in ("127.0.0.1", "::1", "localhost", "localhost.evil")] == [
        *(True, True, True, False)
    ]


def test_every_response_forbids_other_sources_and_frames(studios: Any) -> None:
    client = studios.start()
    for path in ("/", "/api/jobs", "/nothing", "/openapi.json"):
        headers = client.request("GET", path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
