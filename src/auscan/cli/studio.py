"""Run `auscan studio`: serve the web app on this machine.

Returns: a server that runs until Ctrl+C; its address on stderr.
See also: server/ (the application).
"""

import secrets
import socket
import sys
import tempfile
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.model_options import ModelOption
from auscan.core.errors import InputError

if TYPE_CHECKING:
    from auscan.server.settings import StudioSettings

DEFAULT_FOLDER = Path("auscan-studio")
"""Default of --out; listed in .gitignore."""

INSTALL = "pip install 'auscan[studio]'"
WORKER_CODE = "from auscan.cli.main import main; main()"


def studio(
    out: Annotated[Path, typer.Option("--out", help="Folder for uploads and results.")] = DEFAULT_FOLDER,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="AUSCAN_TOKEN",
            help="Access token; default: generated if other machines can connect.",
        ),
    ] = None,
    model: ModelOption = "nano",
    max_gb: Annotated[float, typer.Option("--max-gb", min=0.001, help="Largest upload, GB.")] = 4.0,
    max_hours: Annotated[
        float, typer.Option("--max-hours", min=0.001, help="Time limit of one video, hours.")
    ] = 4.0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the web app in the browser.")
    ] = True,
) -> None:
    """Open the web app."""
    for module in ("fastapi", "uvicorn", "websockets"):
        if find_spec(module) is None:
            raise InputError(f"`auscan studio` needs {module}, which is not installed. Run: {INSTALL}")
    from auscan.core.checkpoint_folder import pin_checkpoint
    from auscan.server.settings import StudioSettings, is_loopback

    if token == "":
        raise InputError(
            "The token is empty. Give a longer one, or leave out --token to generate one if needed."
        )
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    model = pin_checkpoint(model)
    settings = StudioSettings(
        folder=_writable_folder(out),
        worker=(sys.executable, "-c", WORKER_CODE, "detect", "--model", model),
        host=host,
        port=port,
        token=token,
        model=model,
        max_upload_bytes=round(max_gb * 1024**3),
        time_limit_s=max_hours * 3600,
    )
    _serve(settings, open_browser)


def _serve(settings: "StudioSettings", open_browser: bool) -> None:
    from auscan.server.app import make_server

    server = make_server(settings)  # raises InputError if studio.sqlite was changed
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening_socket = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise InputError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). Give another --port."
        ) from error
    name = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    address = f"http://{name}:{listening_socket.getsockname()[1]}/"
    if settings.token is not None:
        address += f"?token={settings.token}"
    typer.echo(
        f"auscan: Studio on {address}\nauscan: results in {settings.folder}; stop with Ctrl+C", err=True
    )
    if open_browser:
        webbrowser.open(address)
    server.run(sockets=[listening_socket])


def _writable_folder(folder: Path) -> Path:
    """Create the folder if missing; return its absolute path. Raises InputError if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"Results cannot be written to {folder} ({error.strerror}). Give another folder with --out."
        ) from error
    return folder.resolve()
