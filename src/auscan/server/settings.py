"""What a Studio is told when it starts; nothing of it can be changed through the browser.

In: options of `auscan studio`.  Out: a frozen set of settings.
Not here: who may talk to the server (guard.py).
"""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """One running Studio."""

    folder: Path
    """Where results lie; nothing is written anywhere else."""
    worker: tuple[str, ...]
    """The program that reads one video: called as `worker SOURCE --out FOLDER ...`, as `auscan detect` is."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8765
    """Port to listen on."""
    token: str | None = None
    """What a caller must show; None: nothing, which is for this machine alone."""
    model: str = "nano"
    """The model that reads the camera; `worker` names its own."""
    max_upload_bytes: int = 4 * 1024**3
    """Of one file."""
    max_waiting: int = 100
    """Videos in the queue; more are refused until some are done."""
    max_uploads: int = 16
    """Files that may come in at the same time."""
    max_cameras: int = 2
    """Live sessions at the same time."""
    time_limit_s: float = 4 * 3600.0
    """How long one video may take before its process is ended."""
    idle_s: float = 60.0
    """How long an upload may pause before it is given up."""

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"A Studio on {self.host} needs a token.")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name: who knows where it leads
