"""Listen on an address until the user has had enough.

In: settings.  Out: a server, ready or running.
Not here: the application (app.py).
"""

from typing import Final

import uvicorn

from auscan.server.app import create_app
from auscan.server.settings import StudioSettings

MAX_MESSAGE_BYTES: Final[int] = 2 * 1024**2
"""Of a WebSocket: a picture of the camera."""
MAX_CONNECTIONS: Final[int] = 512


def make_server(settings: StudioSettings) -> uvicorn.Server:
    """A server that is told to `run`."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
