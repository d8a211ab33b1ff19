"""Check every HTTP request and WebSocket before routing.

    Host     must be local if the server is: a foreign name that resolves here is DNS rebinding
    Origin   must be the Studio itself: browsers send the origin of cross-site requests
    path     must not contain `..`, plain or encoded as %2e%2e
    token    required if other machines can connect: a header, or the cookie set by /?token=...

Inputs: requests. Returns: the same requests, or an error response.
See also: routes.py, app.py (limits of sizes and counts).
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auscan.server.settings import StudioSettings, is_loopback

COOKIE: Final[str] = "auscan_token"
"""Name of the cookie that holds the token."""

HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Default headers of every response."""

_TOKEN_PAGE: Final[str] = """<!doctype html><html lang="en"><meta charset="utf-8"><title>auscan Studio</title>
<main><h1>auscan Studio</h1><form action="/"><label>Token
<input name="token" type="password" autofocus></label> <button>Open</button></form>
<p>The token is part of the address that <code>auscan studio</code> printed.</p></main></html>"""


class Guard:
    """ASGI middleware that refuses requests which fail a check."""

    def __init__(self, app: ASGIApp, settings: StudioSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # closed before accepting: HTTP 403
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the error response of the first failed check, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if is_loopback(self._settings.host) and not is_loopback(_hostname(host)):
            return _refuse(
                421, f"The host {host!r} is not local. Open the address that auscan studio printed."
            )
        origin = headers.get("origin")
        if origin is not None and _origin_host(origin) != host:
            return _refuse(403, "Requests from other sites are refused.")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return _refuse(403, "Requests from other sites are refused.")
        if ".." in scope["path"].split("/"):
            return _refuse(404, "Paths with `..` are refused.")
        return self._token_refusal(scope, headers)

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return None for a valid token, a redirect that sets the cookie for /?token=..., or an error."""
        expected = self._settings.token
        if expected is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and scope["path"] == "/" and _equal(given, expected):
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(COOKIE, expected, httponly=True, samesite="strict")
            return response
        presented = headers.get("authorization", "").removeprefix("Bearer ") or _cookie(headers)
        if _equal(presented, expected):
            return None
        if scope["type"] == "http" and "text/html" in headers.get("accept", ""):
            return HTMLResponse(_TOKEN_PAGE, status_code=401)
        return _refuse(401, "A token is required. Send the header `Authorization: Bearer TOKEN`.")


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status_code=status)


def _hostname(host: str) -> str:
    """Return the name in a Host header, without port and brackets; empty if invalid."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _origin_host(origin: str) -> str | None:
    """Return the host and port in an Origin header; None if invalid."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender
