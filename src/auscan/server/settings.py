"""Define the settings of a Studio, which are fixed at start and cannot be changed through the browser.

See also: guard.py (access checks).
"""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """Settings of one Studio. Raises ValueError if `host` is not local and `token` is None."""

    folder: Path
    """Folder of uploads and results; nothing is written elsewhere."""
    worker: tuple[str, ...]
    """Command that processes one video, called like `auscan detect`: `worker SOURCE --out FOLDER ...`."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8765
    """Port to listen on."""
    token: str | None = None
    """Token required of every client; None only if the server is local."""
    model: str = "nano"
    """Model for the camera; the model for videos is part of `worker`."""
    max_upload_bytes: int = 4 * 1024**3
    """Largest upload, bytes."""
    max_waiting: int = 100
    """Largest number of unfinished videos; further uploads are refused."""
    max_uploads: int = 16
    """Largest number of simultaneous uploads."""
    max_cameras: int = 2
    """Largest number of simultaneous camera sessions."""
    time_limit_s: float = 4 * 3600.0
    """Time limit of one video, seconds; its process is then killed."""
    idle_s: float = 60.0
    """Longest pause of an upload, seconds."""

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"A Studio on {self.host} needs a token.")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a host name may resolve to any address
