"""Who may talk to the Studio: asked before any route is looked up, for pages, calls and WebSockets alike.

    Host     a page elsewhere that has its own name point here (DNS rebinding) gives itself away by it
    Origin   a page elsewhere may send requests here, but its browser says where it comes from
    path     none here goes upwards, plainly or written as %2e%2e
    token    needed where others can reach the address: a header, or the cookie that /?token=... sets

In: requests.  Out: the same, or a refusal.
Not here: sizes and counts (routes.py, app.py).
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
"""Of every answer that does not bring its own."""

_TOKEN_PAGE: Final[str] = """<!doctype html><html lang="en"><meta charset="utf-8"><title>auscan Studio</title>
<main><h1>auscan Studio</h1><form action="/"><label>Token
<input name="token" type="password" autofocus></label> <button>Open</button></form>
<p>It stands in the address that <code>auscan studio</code> printed.</p></main></html>"""


class Guard:
    """Stands before an application."""

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
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if is_loopback(self._settings.host) and not is_loopback(_hostname(host)):
            return _refuse(421, f"This Studio is not called {host!r}. Open it at its own address.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(403, "Requests from other pages are refused.")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return _refuse(403, "Requests from other pages are refused.")
        if ".." in scope["path"].split("/"):
            return _refuse(404, "No address here leads upwards.")
        return self._token_refusal(scope, headers)

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What to answer where the token is missing, wrong, or has just been given."""
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
        return _refuse(401, "A token is needed: the header `Authorization: Bearer TOKEN`.")


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status_code=status)


def _hostname(host: str) -> str:
    """The name in a Host header, without its port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


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
